// Traces are read back as JSON and held against the time model and the counts.
#include "verify/predict/trace.h"

#include <doctest/doctest.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "data/error.h"
#include "data/strict_json.h"
#include "verify/cli/shell.h"

namespace bitflash::verify {
namespace {

using Json = nlohmann::json;
using sim::Attention;

struct Traced {
  Json json;
  TraceSummary summary;
  sim::TimeEstimate time;
  sim::Count count;
};

Traced Trace(std::string_view name, const Attention& a, const TraceLimits& limits = {}) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/trace.json";
  const sim::Kernel& kernel = sim::FindKernel(name);
  const data::Gpu gpu = data::LoadGpu("h100");
  const sim::Tiling t = kernel.DefaultTiling(a, gpu);
  Traced traced;
  traced.count = sim::CountKernel(kernel, a, t, gpu);
  traced.time = sim::EstimateTime(kernel, a, t, gpu, traced.count);
  traced.summary = WriteTrace(path, kernel, a, t, gpu, traced.count, limits);
  const std::string text = data::ReadTextFile(path);
  CHECK(static_cast<int64_t>(text.size()) == traced.summary.bytes);
  traced.json = Json::parse(text);
  return traced;
}

Attention Causal(int64_t seqlen) {
  return {.heads_q = 16,
          .heads_kv = 4,
          .seqlen_q = seqlen,
          .seqlen_k = seqlen,
          .mask = data::Mask::Causal(),
          .format = data::Format::kBf16};
}

constexpr double kDigits = 1e-6;  // microseconds; timestamps are whole nanoseconds

TEST_CASE("slices of a thread follow one another or lie inside one another, and end with the estimate") {
  for (const char* kernel : {"fa2", "standard", "split-kv"}) {
    CAPTURE(kernel);
    const Traced t = Trace(kernel, Causal(2048));
    std::map<std::pair<int, int>, double> last_begin, block_end;
    std::map<std::string, double> launch;  // name -> length
    double end = 0;
    int64_t events = 0, blocks = 0;
    for (const Json& event : t.json["traceEvents"]) {
      ++events;
      if (event["ph"] != "X") continue;
      const double begin = event["ts"], length = event["dur"];
      CHECK(length >= 0);
      const std::pair thread{event["pid"].get<int>(), event["tid"].get<int>()};
      CHECK(begin >= last_begin[thread] - kDigits);
      last_begin[thread] = begin;
      end = std::max(end, begin + length);
      const std::string name = event["name"];
      if (event["cat"] == "launch" && event.contains("args")) launch[event["name"]] = length;
      if (name.starts_with("block ")) {
        ++blocks;
        CHECK(begin >= block_end[thread] - kDigits);
        block_end[thread] = begin + length;
      } else if (event["cat"] == "tile") {
        CHECK(begin + length <= block_end[thread] + kDigits);
      }
    }
    CHECK(events == t.summary.events);
    CHECK(blocks == t.summary.drawn_blocks);
    CHECK(end == doctest::Approx(t.time.seconds * 1e6).epsilon(1e-4));
    REQUIRE(launch.size() == t.time.launches.size());
    double sum = 0;
    for (size_t n = 0; n < t.time.launches.size(); ++n) {
      const double length = launch.at(std::string(t.count.launches[n].name));
      CHECK(length == doctest::Approx(t.time.launches[n].seconds * 1e6).epsilon(1e-4));
      sum += length;
    }
    CHECK(sum == doctest::Approx(t.time.seconds * 1e6).epsilon(1e-4));
  }
}

TEST_CASE("with all SMs drawn every block is there, and the tiles of a block as often as it has keys") {
  const Traced t = Trace("fa2", Causal(1024), {.sms = 132});
  CHECK(t.summary.drawn_blocks == t.summary.blocks);
  CHECK(t.summary.blocks == 16 * 8);
  CHECK_FALSE(t.summary.tiles_left_out);
  int64_t products = 0, loads = 0;
  for (const Json& event : t.json["traceEvents"]) {
    products += event["name"] == "S = Q K^T";
    loads += event["name"] == "load K, V";
  }
  CHECK(products == 16 * (2 + 4 + 6 + 8 + 10 + 12 + 14 + 16));
  CHECK(loads == products);
}

TEST_CASE("counters end at the bytes of all launches") {
  for (const char* kernel : {"fa2", "standard"}) {
    CAPTURE(kernel);
    const Traced t = Trace(kernel, Causal(4096));
    double l2 = 0;
    for (const Json& event : t.json["traceEvents"]) {
      if (event["ph"] != "C" || event["name"] != "L2 to SMs total") continue;
      CHECK(event["args"]["bytes"].get<double>() >= l2 * (1 - 1e-5));
      l2 = event["args"]["bytes"];
    }
    const sim::Traffic counted = sim::Sum(t.count.total.l2_to_sm);
    CHECK(l2 == doctest::Approx(static_cast<double>(counted.read + counted.write)).epsilon(1e-4));
  }
}

// What the Trace Event Format ("Complete Events", "Counter Events", "Metadata Events") and Perfetto's importer ask for.
// Perfetto counts whole nanoseconds; slices of a thread that overlap without one lying inside the other it shows
// wrongly (perfetto.dev/docs/faq); of slices that begin together the outer one has to come first. Slices of thread 0 it
// shows on another thread.
TEST_CASE("the events are those of the format, and slices nest to the nanosecond") {
  for (const char* kernel : {"fa2", "standard", "split-kv", "fa3"}) {
    CAPTURE(kernel);
    const Json json = Trace(kernel, Causal(1500), {.sms = 16}).json;
    CHECK(json["displayTimeUnit"] == "ns");
    CHECK(json["otherData"].is_object());
    const auto nanoseconds = [](const Json& us) {
      const double ns = us.get<double>() * 1e3;
      CHECK(std::abs(ns - std::round(ns)) < 1e-3);
      return std::llround(ns);
    };
    std::map<std::pair<int, int>, std::vector<std::pair<int64_t, int64_t>>> open;  // thread -> slices that contain this
    std::map<std::pair<int, int>, std::set<std::string>> named;
    std::map<std::pair<int, std::string>, int64_t> counters;
    int64_t slices = 0;
    for (const Json& event : json["traceEvents"]) {
      CAPTURE(event.dump());
      REQUIRE(event["pid"].is_number_integer());
      CHECK(event["pid"].get<int>() > 0);
      REQUIRE(event["name"].is_string());
      const std::string phase = event["ph"], name = event["name"];
      if (phase == "C") {
        REQUIRE(event["args"].size() == 1);
        CHECK(event["args"].begin()->is_number());
        int64_t& last = counters.try_emplace({event["pid"].get<int>(), name}, -1).first->second;
        const int64_t now = nanoseconds(event["ts"]);
        CHECK(now >= last);
        last = now;
        continue;
      }
      REQUIRE(event["tid"].is_number_integer());
      CHECK(event["tid"].get<int>() > 0);
      const std::pair thread{event["pid"].get<int>(), event["tid"].get<int>()};
      if (phase == "M") {
        CHECK(named[thread].insert(name).second);
        CHECK((name.ends_with("_name") ? event["args"]["name"].is_string() : event["args"]["sort_index"].is_number()));
        continue;
      }
      REQUIRE(phase == "X");
      ++slices;
      const int64_t begin = nanoseconds(event["ts"]), end = begin + nanoseconds(event["dur"]);
      CHECK(begin >= 0);
      CHECK(end > begin);
      auto& outer = open[thread];
      while (!outer.empty() && outer.back().second <= begin) outer.pop_back();
      if (!outer.empty()) CHECK((begin >= outer.back().first && end <= outer.back().second));
      outer.push_back({begin, end});
    }
    CHECK(slices > 100);
    CHECK(counters.size() == 4);
    for (const auto& [thread, unused] : open) {
      CHECK(named[thread].count("thread_name") == 1);
      CHECK(named[thread].count("thread_sort_index") == 1);
    }
    CHECK(named[{1, 1}] ==
          std::set<std::string>{"process_name", "process_sort_index", "thread_name", "thread_sort_index"});
  }
}

TEST_CASE("a trace is bounded, and says what it leaves out") {
  const Traced few = Trace("fa2", Causal(16384), {.sms = 2, .most_events = 5000});
  CHECK(few.summary.tiles_left_out);
  CHECK(few.summary.drawn_blocks < few.summary.blocks);
  CHECK(few.json["otherData"]["tiles_left_out"] == true);
  CHECK(few.json["otherData"]["drawn_sms"] == 2);
  CHECK(few.summary.events < 8000);
  // A row a block: 65536 of them.
  const Traced rows = Trace("standard", Causal(4096), {.sms = 132, .most_events = 1000});
  CHECK(rows.summary.events < 8000);
}

TEST_CASE("a path that cannot be written is named") {
  const sim::Kernel& kernel = sim::FindKernel("fa2");
  const data::Gpu gpu = data::LoadGpu("h100");
  const Attention a = Causal(128);
  const sim::Tiling t = kernel.DefaultTiling(a, gpu);
  CHECK_THROWS_AS(WriteTrace("/nowhere/trace.json", kernel, a, t, gpu, sim::CountKernel(kernel, a, t, gpu)),
                  data::InputError);
}

}  // namespace
}  // namespace bitflash::verify
