// Prints the table of every recorded launch beside its prediction, and every miss with its likely reason:
//   recorded_table [--closed-form]       (half a minute; the closed form takes a second)
// Rows are launches of one kernel on one GPU, fitted and held out apart. Markdown.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "sim/l2/misses.h"
#include "sim/time/estimate.h"
#include "sim/time/measured.h"

namespace bitflash::sim {
namespace {

using l2::Compared;

double Quantile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::ranges::sort(values);
  return values[static_cast<size_t>(share * static_cast<double>(values.size() - 1) + 0.5)];
}

std::string Percent(const std::vector<double>& errors, double share) {
  if (errors.empty()) return "";
  char text[32];
  std::snprintf(text, sizeof text, "%.2f %%", 100 * Quantile(errors, share));
  return text;
}

struct Row {
  std::set<std::string> shapes;
  int launches = 0, reads_hit = 0, writes_hit = 0, sm_hit = 0;
  std::vector<double> outside, inside, time;
};

using Rows = std::map<std::string, Row>;  // by "gpu | kernel | fit half or held out", the half that fits may see

std::string Key(const std::string& gpu, std::string_view kernel, bool held_out) {
  return gpu + " | " + std::string(kernel) + " | " + (held_out ? "held out" : "fit half");
}

std::vector<Compared> AddBytes(Rows& rows, const std::vector<l2::RecordedCall>& calls, l2::Mode mode) {
  const std::vector<Compared> all = l2::Compare(calls, mode);
  for (const Compared& c : all) {
    Row& row = rows[Key(c.gpu.name, c.kernel->name, c.held_out)];
    row.shapes.insert(c.id);
    ++row.launches;
    row.reads_hit += !l2::ReadIsMissed(c), row.writes_hit += !l2::WriteIsMissed(c);
    row.sm_hit += std::abs(c.sm_read_error()) < 0.001;
    (c.in_knee ? row.inside : row.outside).push_back(std::abs(c.read_error()));
  }
  return all;
}

void AddTimes(Rows& rows, const std::string& root) {
  for (const MeasuredLaunch& m : ReadAllMeasured(root)) {
    if (m.file.find("tiles") != std::string::npos) continue;  // of tiles that nobody ships
    if (!Infeasible(*m.kernel, m.attention, m.tiling, m.gpu).empty()) continue;
    const Count count = CountKernel(*m.kernel, m.attention, m.tiling, m.gpu);
    const TimeEstimate e = EstimateTime(*m.kernel, m.attention, m.tiling, m.gpu, count);
    rows[Key(m.gpu.name, m.kernel->name, m.held_out)].time.push_back(
        std::abs(e.launches.at(m.step).seconds / m.seconds - 1));
  }
}

void Print(const Rows& rows) {
  std::printf(
      "| GPU | kernel | | shapes | launches | L2 to SMs within 0.1 %% | HBM reads: median | p90 outside the knee | "
      "inside | "
      "writes within 5 %% or 2 MB | launches timed | time: median | p90 "
      "|\n|---|---|---|---|---|---|---|---|---|---|---|---|---|\n");
  for (const auto& [key, row] : rows) {
    std::vector<double> all = row.outside;
    all.insert(all.end(), row.inside.begin(), row.inside.end());
    const auto of = [launches = row.launches](int hit) { return launches == 0 ? "" : std::to_string(hit); };
    std::printf("| %s | %s | %s | %s | %s | %s | %s | %s | %zu | %s | %s |\n", key.c_str(),
                of(static_cast<int>(row.shapes.size())).c_str(), of(row.launches).c_str(), of(row.sm_hit).c_str(),
                Percent(all, .5).c_str(), Percent(row.outside, .9).c_str(), Percent(row.inside, .9).c_str(),
                of(row.writes_hit).c_str(), row.time.size(), Percent(row.time, .5).c_str(),
                Percent(row.time, .9).c_str());
  }
}

void PrintMisses(const std::vector<Compared>& all) {
  for (const Compared& c : all) {
    const auto line = [&](const char* what, int64_t predicted, int64_t counted, const std::string& reason) {
      if (reason.empty()) return;
      std::printf("- %s, %s, %s%s: %s %.2f MB, counted %.2f (%+.1f %%): %s.\n", c.gpu.name.c_str(), c.id.c_str(),
                  c.launch.c_str(), c.held_out ? ", held out" : "", what, static_cast<double>(predicted) / 1e6,
                  static_cast<double>(counted) / 1e6,
                  100 * (static_cast<double>(predicted) / static_cast<double>(std::max<int64_t>(1, counted)) - 1),
                  reason.c_str());
    };
    line("reads", c.predicted.dram_read.value, c.counted.dram_read, l2::ReasonOfRead(c));
    line("writes", c.predicted.dram_write.value, c.counted.dram_write, l2::ReasonOfWrite(c));
  }
}

int Main(bool closed_form) {
  const l2::Mode mode = closed_form ? l2::Mode::kClosedForm : l2::Mode::kExact;
  Rows rows;
  std::vector<Compared> all;
  for (const auto& calls : {l2::ReadH100("cold"), l2::ReadH200(), l2::ReadOwnForward()}) {
    for (const Compared& c : AddBytes(rows, calls, mode)) all.push_back(c);
  }
  AddTimes(rows, BITFLASH_SOURCE_DIR);
  std::set<std::string> shapes, held_out;
  for (const Compared& c : all) (c.held_out ? held_out : shapes).insert(c.gpu.name + c.id);
  std::printf("%zu calls, %zu of them held out; every launch with an empty L2, %s\n\n", shapes.size() + held_out.size(),
              held_out.size(), closed_form ? "closed form" : "exact mode");
  Print(rows);
  std::printf("\nMisses (reads beyond 5 %%, in the knee 15 %%, and 2 MB; writes beyond 5 %% and 2 MB):\n\n");
  PrintMisses(all);
  return 0;
}

}  // namespace
}  // namespace bitflash::sim

int main(int argc, char** argv) {
  const std::string word = argc > 1 ? argv[1] : "";
  if (argc > 2 || (argc == 2 && word != "--closed-form")) {
    std::fprintf(stderr, "usage: recorded_table [--closed-form]\n");
    return 2;
  }
  return bitflash::sim::Main(argc == 2);
}
