#include "verify/predict/trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "data/atomic_file.h"

namespace bitflash::verify {
namespace {

using sim::Limit;
using sim::Placement;

constexpr int kSamples = 200;            // of a counter over a launch
constexpr size_t kFlushBytes = 1 << 18;  // what is held in memory
// One process holds all launches, because they take turns on the same SMs, and because Perfetto orders processes by how
// much they hold. Thread 0 is the idle thread of a system, whose slices Perfetto moves elsewhere; the thread with its
// process's number is the main thread and comes first. Perfetto prints thread numbers behind names: those of SM 3 begin
// with 4.
constexpr int64_t kProcess = 1, kLaunchThread = kProcess;
constexpr int64_t kThreadsPerSm = 100;  // room for 32 slots of two threads

// Writes events as they come.
class TraceFile {
 public:
  explicit TraceFile(const std::string& path) : file_(path) { text_ = "{\"traceEvents\":[\n"; }

  // `body` is everything between the braces of the event.
  void Event(const std::string& body) {
    text_ += fmt::format("{}{{{}}}", events_ == 0 ? "" : ",\n", body);
    ++events_;
    if (text_.size() >= kFlushBytes) Flush();
  }
  // Perfetto counts nanoseconds and wants the slices of a thread inside one another or apart: begin and end are rounded
  // alike, so that what touches still touches. What is shorter is no slice: false, and nothing written.
  bool Slice(int64_t tid, double begin_us, double end_us, std::string_view category, std::string_view name,
             const std::string& args = "") {
    const int64_t begin = Nanoseconds(begin_us), length = Nanoseconds(end_us) - begin;
    if (length <= 0) return false;
    Event(fmt::format(R"("ph":"X","pid":{},"tid":{},"ts":{},"dur":{},"cat":"{}","name":"{}"{})", kProcess, tid,
                      Microseconds(begin), Microseconds(length), category, name,
                      args.empty() ? "" : fmt::format(",\"args\":{{{}}}", args)));
    return true;
  }
  void NameProcess(const std::string& name) { Name(kLaunchThread, "process", name, kProcess); }
  // Once a thread, in the order of their numbers, not of their names or of how busy they are.
  void NameThread(int64_t tid, const std::string& name) {
    if (named_.insert(tid).second) Name(tid, "thread", name, tid);
  }
  // Perfetto shows both, "HBM rate GB/s".
  void Counter(double us, std::string_view name, std::string_view unit, double value) {
    Event(fmt::format(R"("ph":"C","pid":{},"ts":{},"name":"{}","args":{{"{}":{:.6g}}})", kProcess,
                      Microseconds(Nanoseconds(us)), name, unit, value));
  }

  void Finish(const nlohmann::ordered_json& other) {
    text_ += fmt::format("\n],\n\"displayTimeUnit\":\"ns\",\n\"otherData\":{}}}\n", other.dump());
    Flush();
    file_.Commit();
  }
  int64_t events() const { return events_; }
  int64_t bytes() const { return bytes_; }

 private:
  static int64_t Nanoseconds(double us) { return std::llround(us * 1e3); }
  static std::string Microseconds(int64_t ns) { return fmt::format("{}.{:03}", ns / 1000, ns % 1000); }

  void Name(int64_t tid, std::string_view what, const std::string& name, int64_t rank) {
    Event(fmt::format(R"("ph":"M","pid":{},"tid":{},"name":"{}_name","args":{{"name":{}}})", kProcess, tid, what,
                      nlohmann::json(name).dump()));
    Event(fmt::format(R"("ph":"M","pid":{},"tid":{},"name":"{}_sort_index","args":{{"sort_index":{}}})", kProcess, tid,
                      what, rank));
  }

  void Flush() {
    file_.Write(text_);
    bytes_ += static_cast<int64_t>(text_.size());
    text_.clear();
  }
  data::AtomicFile file_;
  std::string text_;
  std::set<int64_t> named_;
  int64_t events_ = 0, bytes_ = 0;
};

// What a tile of a launch consists of, and the share of its time.
struct Step {
  const char* name;
  double share;
};

std::vector<Step> StepsOf(const sim::LaunchModel& model, const sim::Ledger& ledger) {
  if (ledger.matrix_flops == 0) return {};
  if (ledger.special_ops == 0) {
    const bool scores = sim::At(ledger.l2_to_sm, sim::TensorId::kS).write > 0;
    return scores ? std::vector<Step>{{"S = Q K^T", .7}, {"store S", .3}} : std::vector<Step>{{"O += P V", 1}};
  }
  const auto& unit = model.unit_seconds;
  const double matrix = unit[0], softmax = unit[1] + unit[2];
  const double share = matrix / std::max(matrix + softmax, 1e-30);
  return {{"S = Q K^T", share / 2}, {"softmax", 1 - share}, {"O += P V", share / 2}};
}

// What is fetched for every tile: "load K, V". Q is loaded once a block where one loop does everything.
std::string LoadName(const sim::Ledger& ledger) {
  using enum sim::TensorId;
  constexpr std::pair<sim::TensorId, const char*> kLoaded[] = {{kQ, "Q"}, {kK, "K"}, {kP, "P"}, {kV, "V"}};
  std::string names;
  for (const auto& [tensor, name] : kLoaded) {
    if ((tensor == kQ && ledger.special_ops > 0) || sim::At(ledger.l2_to_sm, tensor).read == 0) continue;
    names += (names.empty() ? "load " : ", ") + std::string(name);
  }
  return names.empty() ? "load" : names;
}

// Bytes over time: every block moves its share evenly while it runs.
class Samples {
 public:
  Samples(double clocks, double bytes_per_unit) : clocks_(clocks), bytes_per_unit_(bytes_per_unit) {}

  void Add(const Placement& p, double units) {
    const double bytes = bytes_per_unit_ * units, width = clocks_ / kSamples;
    const double rate = bytes / std::max(p.end - p.begin, 1e-9);
    const auto bin = [&](double at) { return std::clamp(static_cast<int>(at / width), 0, kSamples - 1); };
    for (int n = bin(p.begin); n <= bin(p.end); ++n) {
      const double overlap = std::min(p.end, (n + 1) * width) - std::max(p.begin, n * width);
      bytes_[static_cast<size_t>(n)] += std::max(0.0, overlap) * rate;
    }
  }
  double of(int n) const { return bytes_[static_cast<size_t>(n)]; }

 private:
  double clocks_, bytes_per_unit_;
  std::array<double, kSamples> bytes_{};
};

// Bytes of the launches so far: counters go on where the last launch left them.
struct Moved {
  double hbm = 0, l2 = 0;
};

// One launch from `start_us` on.
class LaunchTrace {
 public:
  LaunchTrace(TraceFile& file, TraceSummary& summary, const TraceLimits& limits, Moved& moved, double start_us)
      : file_(file), summary_(summary), limits_(limits), moved_(moved), start_us_(start_us) {}

  // Returns when the launch ends.
  double Write(const sim::LaunchModel& model, const sim::LaunchTime& time, const sim::LaunchCount& launch) {
    const double end_us = start_us_ + time.seconds * 1e6;
    file_.Slice(kLaunchThread, start_us_, end_us, "launch", launch.name,
                fmt::format(R"("bottleneck":"{}","blocks":{})", sim::Name(time.bottleneck), model.work.blocks()));
    if (model.work.blocks() == 0) return end_us;
    first_us_ = start_us_ + time.of(Limit::kLaunch) * 1e6;
    file_.Slice(kLaunchThread, start_us_, first_us_, "launch", "launch overhead, start and end");
    Schedule(model, time, launch);
    return end_us;
  }

 private:
  double Us(double clocks) const { return first_us_ + clocks * us_per_clock_; }

  void Schedule(const sim::LaunchModel& model, const sim::LaunchTime& time, const sim::LaunchCount& launch) {
    const double clocks = sim::Simulate(model.work, model.sm, [](const Placement&) {}).cycles;
    us_per_clock_ = (time.seconds - time.of(Limit::kLaunch)) * 1e6 / clocks;
    const double units = UnitsOf(model);
    const sim::Traffic &hbm = model.hbm, l2 = sim::Sum(launch.ledger.l2_to_sm);
    Samples hbm_bytes(clocks, static_cast<double>(hbm.read + hbm.write) / units);
    Samples l2_bytes(clocks, static_cast<double>(l2.read + l2.write) / units);
    std::vector<Placement> drawn;
    sim::Simulate(model.work, model.sm, [&](const Placement& p) {
      const double of_block = static_cast<double>(p.tiles) + model.sm.block_tiles;
      hbm_bytes.Add(p, of_block), l2_bytes.Add(p, of_block);
      ++summary_.blocks;
      if (p.sm < limits_.sms) drawn.push_back(p);
    });
    Counters(hbm_bytes, l2_bytes, clocks);
    Blocks(drawn, model, launch);
  }

  // As Samples counts them: the extra cost of masked tiles moves nothing.
  static double UnitsOf(const sim::LaunchModel& model) {
    return std::max(1e-9, static_cast<double>(model.work.tiles()) +
                              model.sm.block_tiles * static_cast<double>(model.work.blocks()));
  }

  void Counters(const Samples& hbm, const Samples& l2, double clocks) {
    const double seconds = clocks * us_per_clock_ * 1e-6 / kSamples;
    for (int n = 0; n <= kSamples; ++n) {
      const double us = Us(clocks * n / kSamples);
      const bool last = n == kSamples;
      file_.Counter(us, "HBM rate", "GB/s", last ? 0 : hbm.of(n) / seconds * 1e-9);
      file_.Counter(us, "L2 to SMs rate", "GB/s", last ? 0 : l2.of(n) / seconds * 1e-9);
      file_.Counter(us, "HBM total", "bytes", moved_.hbm);
      file_.Counter(us, "L2 to SMs total", "bytes", moved_.l2);
      if (!last) moved_.hbm += hbm.of(n), moved_.l2 += l2.of(n);
    }
  }

  void Blocks(std::vector<Placement>& drawn, const sim::LaunchModel& model, const sim::LaunchCount& launch) {
    const std::vector<Step> steps = StepsOf(model, launch.ledger);
    load_name_ = LoadName(launch.ledger);
    int64_t events = 0;
    for (const Placement& p : drawn) events += 3 + p.tiles * static_cast<int64_t>(steps.size() + 1);
    const bool with_tiles = !steps.empty() && events <= limits_.most_events;
    summary_.tiles_left_out |= !steps.empty() && !with_tiles;
    if (static_cast<int64_t>(drawn.size()) > limits_.most_events) {
      drawn.resize(static_cast<size_t>(limits_.most_events));  // in the order in which they finish
    }
    std::ranges::sort(drawn, {}, [](const Placement& p) { return std::tuple(p.sm, p.slot, p.begin); });
    for (const Placement& p : drawn) {
      const int64_t tid = (p.sm + 1) * kThreadsPerSm + 2 * p.slot;
      file_.NameThread(tid, fmt::format("SM {} slot {}", p.sm, p.slot));
      if (with_tiles) file_.NameThread(tid + 1, fmt::format("SM {} slot {} loads", p.sm, p.slot));
      summary_.drawn_blocks += file_.Slice(
          tid, Us(p.begin), Us(p.end), "block", fmt::format("block {}", p.block),
          fmt::format(R"("launch":"{}","head":{},"of_head":{},"tiles":{})", launch.name, p.head, p.of_head, p.tiles));
      if (with_tiles) Tiles(p, tid, model.sm.block_tiles, steps);
    }
  }

  // Half of what a block costs beside its tiles comes before them. Loads of a tile pass while the one before is used.
  void Tiles(const Placement& p, int64_t tid, double block_tiles, const std::vector<Step>& steps) {
    const double per_tile = (p.end - p.begin) / std::max(1e-9, static_cast<double>(p.tiles) + block_tiles);
    double at = p.begin + per_tile * block_tiles / 2;
    if (block_tiles > 0) file_.Slice(tid, Us(p.begin), Us(at), "tile", "first loads");
    double load = p.begin;
    for (int64_t n = 0; n < p.tiles; ++n) {
      file_.Slice(tid + 1, Us(load), Us(at), "load", load_name_, fmt::format("\"tile\":{}", n));
      load = at;
      double step = at;
      for (const Step& s : steps) {
        file_.Slice(tid, Us(step), Us(step + s.share * per_tile), "tile", s.name);
        step += s.share * per_tile;
      }
      at += per_tile;
    }
    if (block_tiles > 0) file_.Slice(tid, Us(at), Us(p.end), "tile", "store");
  }

  TraceFile& file_;
  TraceSummary& summary_;
  const TraceLimits& limits_;
  Moved& moved_;
  const double start_us_;
  std::string load_name_;
  double first_us_ = 0, us_per_clock_ = 0;
};

}  // namespace

TraceSummary WriteTrace(const std::string& path, const sim::Kernel& kernel, const data::Attention& attention,
                        const sim::Tiling& tiling, const data::Gpu& gpu, const sim::Count& count,
                        const TraceLimits& limits) {
  TraceFile file(path);
  file.NameProcess(fmt::format("{} on {}, estimated", kernel.name, gpu.name));
  file.NameThread(kLaunchThread, "launches");
  TraceSummary summary;
  Moved moved;
  double at_us = 0;
  const std::vector<sim::LaunchModel> models = sim::ModelsOf(kernel, attention, tiling, gpu, count);
  for (size_t n = 0; n < models.size(); ++n) {
    LaunchTrace launch(file, summary, limits, moved, at_us);
    at_us = launch.Write(models[n], sim::TimeOf(models[n]), count.launches[n]);
  }
  nlohmann::ordered_json other = {{"tool", "bitflash"},
                                  {"kernel", kernel.name},
                                  {"problem", data::ToString(attention)},
                                  {"tiling", sim::ToString(tiling)},
                                  {"gpu", gpu.name},
                                  {"times", "estimated by the time model, not measured"},
                                  {"microseconds", at_us},
                                  {"blocks", summary.blocks},
                                  {"drawn_blocks", summary.drawn_blocks},
                                  {"drawn_sms", std::min(limits.sms, gpu.sms)},
                                  {"tiles_left_out", summary.tiles_left_out}};
  file.Finish(other);
  summary.events = file.events();
  summary.bytes = file.bytes();
  return summary;
}

}  // namespace bitflash::verify
