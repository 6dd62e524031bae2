// The L2 model against Nsight Compute's DRAM counters. Half of the rows were held out from every fit, by a rule that
// was written down before the recording (data/golden/l2_cases.txt).
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <string>
#include <string_view>

#include "sim/l2/misses.h"
#include "sim/l2/recorded_calls.h"

namespace bitflash::sim::l2 {
namespace {

struct Group {
  const char* name;
  bool held_out, in_knee;
};
constexpr Group kGroups[] = {{"fit, outside the knee", false, false},
                             {"fit, in the knee", false, true},
                             {"held out, outside the knee", true, false},
                             {"held out, in the knee", true, true}};

std::vector<Compared> Of(const std::vector<Compared>& all, const Group& group) {
  std::vector<Compared> some;
  for (const Compared& c : all) {
    if (c.held_out == group.held_out && c.in_knee == group.in_knee) some.push_back(c);
  }
  return some;
}

double Share(const std::vector<Compared>& launches, bool (Compared::*within)() const) {
  int64_t count = 0;
  for (const Compared& c : launches) count += (c.*within)();
  return launches.empty() ? 1 : static_cast<double>(count) / static_cast<double>(launches.size());
}
double Reads(const std::vector<Compared>& launches) { return Share(launches, &Compared::read_within); }
double Writes(const std::vector<Compared>& launches) { return Share(launches, &Compared::write_within); }

void PrintFabric(const std::vector<Compared>& all) {
  for (const bool held_out : {false, true}) {
    std::vector<Compared> some;
    std::ranges::copy_if(all, std::back_inserter(some), [&](const Compared& c) { return c.held_out == held_out; });
    std::printf("  between the partitions, %s: median %.1f %%, 90th percentile %.1f %%\n",
                held_out ? "held out" : "fit", 100 * FabricError(some, 0.5), 100 * FabricError(some, 0.9));
    CHECK(FabricError(some, 0.5) < 0.035);
  }
}

void PrintSummary(const char* title, const std::vector<Compared>& all) {
  std::printf("%s\n", title);
  for (const Group& group : kGroups) {
    const std::vector<Compared> some = Of(all, group);
    std::printf(
        "  %-27s %3zu launches: reads median %.2f %%, 90th percentile %.1f %%; within 5 %% or 2 MB: reads %.0f %%, "
        "writes %.0f %%\n",
        group.name, some.size(), 100 * ReadError(some, 0.5), 100 * ReadError(some, 0.9), 100 * Reads(some),
        100 * Writes(some));
  }
}

const char* Word(Start start) {
  return start == Start::kFlushed ? "cold" : start == Start::kStream ? "chain" : "again";
}

void PrintMisses(const std::vector<Compared>& all) {
  for (const Compared& c : all) {
    if (!ReadIsMissed(c) && !WriteIsMissed(c)) continue;
    std::printf("  %s %-5s %-58s %-20s read %9.2f counted %9.2f MB (%+6.1f %%)  write %8.2f counted %8.2f MB%s\n",
                c.held_out ? "held" : "fit ", Word(c.start), c.id.c_str(), c.launch.c_str(),
                static_cast<double>(c.predicted.dram_read.value) / 1e6, static_cast<double>(c.counted.dram_read) / 1e6,
                100 * c.read_error(), static_cast<double>(c.predicted.dram_write.value) / 1e6,
                static_cast<double>(c.counted.dram_write) / 1e6, c.in_knee ? "  (knee)" : "");
    for (const std::string& reason : {ReasonOfRead(c), ReasonOfWrite(c)}) {
      if (!reason.empty()) std::printf("       %s\n", reason.c_str());
    }
  }
}

// Bytes that the SMs receive: the counting machine's claim, repeated here because the prediction stands on it. Of our
// combine kernel, some of the sectors are found in L1 (own_nsight_test.cc).
void CheckSmReads(const std::vector<Compared>& all) {
  for (const Compared& c : all) {
    CAPTURE(c.id);
    CAPTURE(c.launch);
    CHECK(std::abs(c.sm_read_error()) < (c.launch == "split_kv_combine" ? 0.03 : 0.001));
  }
}

TEST_CASE("closed form, H100, caches flushed: DRAM reads and writes of 127 calls") {
  const std::vector<Compared> all = Compare(ReadH100("cold"), Mode::kClosedForm);
  PrintSummary("closed form, H100, flushed", all);
  CheckSmReads(all);
  CHECK(all.size() == 164);
  int64_t missed = 0;
  for (const Compared& c : all) {  // every miss has a reason, and nothing else
    CAPTURE(c.id);
    CHECK(ReasonOfRead(c).empty() == !ReadIsMissed(c));
    CHECK(ReasonOfWrite(c).empty() == !WriteIsMissed(c));
    missed += ReadIsMissed(c) || WriteIsMissed(c);
  }
  CHECK(missed > 10);
  for (const Group& group : kGroups) {
    const std::vector<Compared> some = Of(all, group);
    CAPTURE(group.name);
    CHECK(some.size() >= 5);
    if (!group.in_knee) CHECK(ReadError(some, 0.5) < 0.01);
    CHECK(Writes(some) > (group.in_knee ? 0.45 : 0.75));  // it knows the order of no two writes
  }
}

TEST_CASE("exact mode, H100: the calls that are replayed in no time") {
  std::vector<RecordedCall> cheap;
  for (const RecordedCall& call : ReadH100("cold")) {
    const Count count = CountKernel(*call.kernel, call.attention, call.tiling, data::LoadGpu(call.gpu));
    if (ExactCost(count) < 150'000) cheap.push_back(call);
  }
  const std::vector<Compared> all = Compare(cheap, Mode::kExact);
  PrintSummary("exact mode, H100, flushed, calls of less than 0.6 GB between L2 and the SMs", all);
  CHECK(all.size() > 30);
  CHECK(ReadError(all, 0.5) < 0.005);
  CHECK(ReadError(all, 0.9) < 0.02);
  CHECK(Writes(all) > 0.88);
}

TEST_CASE("exact mode, H200, caches flushed: fa2 and fa3, to which nothing was fitted") {
  const std::vector<Compared> all = Compare(ReadOwnForward(), Mode::kExact);
  CheckSmReads(all);
  CHECK(all.size() >= 20);
  for (const std::string_view kernel : {"fa2_forward", "fa3_forward"}) {
    std::vector<Compared> some;
    std::ranges::copy_if(all, std::back_inserter(some), [&](const Compared& c) { return c.launch == kernel; });
    std::printf("%s, H200, flushed, %zu calls: DRAM reads median %.2f %%, most %.2f %%; writes within 2 MB %.0f %%\n",
                std::string(kernel).c_str(), some.size(), 100 * ReadError(some, 0.5), 100 * ReadError(some, 1),
                100 * Writes(some));
    CHECK(ReadError(some, 0.5) < 0.01);
    CHECK(ReadError(some, 1) < 0.05);
    CHECK(Reads(some) == 1);
    CHECK(Writes(some) == 1);
  }
}

TEST_SUITE_BEGIN("slow");

TEST_CASE("exact mode, H100, caches flushed: DRAM reads and writes of 127 calls") {
  const std::vector<Compared> all = Compare(ReadH100("cold"), Mode::kExact);
  PrintSummary("exact mode, H100, flushed", all);
  PrintFabric(all);
  PrintMisses(all);
  for (const Group& group : kGroups) {
    const std::vector<Compared> some = Of(all, group);
    CAPTURE(group.name);
    CHECK(ReadError(some, 0.5) < (group.in_knee ? 0.05 : 0.01));
    if (group.in_knee) CHECK(ReadError(some, 0.9) < 0.1);  // held out, the worst of seven
    if (group.held_out && !group.in_knee) CHECK(ReadError(some, 0.9) < 0.02);
    CHECK(Writes(some) > 0.95);
  }
}

TEST_CASE("exact mode, H100: in the knee most counts lie in the range that is given") {
  int64_t in_range = 0, launches = 0;
  for (const Compared& c : Compare(ReadH100("cold"), Mode::kExact, 3)) {
    if (!c.in_knee) continue;
    ++launches;
    in_range += c.counted.dram_read >= c.predicted.dram_read.low && c.counted.dram_read <= c.predicted.dram_read.high;
  }
  std::printf("in the knee: %lld of %lld counts lie in the range\n", static_cast<long long>(in_range),
              static_cast<long long>(launches));
  CHECK(static_cast<double>(in_range) >= 0.9 * static_cast<double>(launches));
}

TEST_CASE("exact mode, H100, one launch after the other: what a kernel finds of the one before") {
  const std::vector<Compared> all = Compare(ReadH100("warm"), Mode::kExact);
  PrintSummary("exact mode, H100, chained and repeated, launches that read 2 MB or more", Reading(all, 2'000'000));
  PrintMisses(all);
  // Launches that find nearly everything read a few kilobytes: their relative error says nothing.
  CHECK(ReadError(Reading(all, 2'000'000), 0.5) < 0.01);
  CHECK(ReadError(Of(Reading(all, 2'000'000), kGroups[2]), 0.9) < 0.12);
  CHECK(Reads(all) > 0.9);
  CHECK(Writes(all) > 0.9);
}

TEST_CASE("exact mode, H200, caches flushed") {
  const std::vector<Compared> all = Compare(ReadH200(), Mode::kExact);
  PrintSummary("exact mode, H200, flushed", all);
  PrintMisses(all);
  CHECK(ReadError(all, 0.5) < 0.01);
  CHECK(Writes(all) > 0.9);
}

TEST_SUITE_END();

}  // namespace
}  // namespace bitflash::sim::l2
