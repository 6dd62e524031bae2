// The cache against DRAM counts of streams whose order is known: gpu/probes/l2_patterns.cu, patterns replace_*, on the
// card whose sides are recorded beside them. Here nothing stands between the policy and the hardware.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "data/gpu.h"
#include "sim/l2/parameters.h"
#include "sim/nsight_csv.h"

namespace bitflash::sim::l2 {
namespace {

constexpr int64_t kBlocks = 132;
constexpr int64_t kTurn = 32, kMiB = 256;  // granules: a block moves 128 KiB at once

struct Phase {
  Access access = Access::kRead;
  int64_t begin = 0, size = 0;  // MiB
  int64_t shift = 0;            // turn t is block (t + shift)'s
  Hint hint = Hint::kNormal;
  bool all = false;     // every block reads every turn
  int64_t others = -1;  // and a part of them, on both sides, another set that begins there
};

Phase Read(int64_t begin, int64_t size, int64_t shift = 0) { return {Access::kRead, begin, size, shift}; }
Phase Write(int64_t size) { return {Access::kWrite, 0, size, 0}; }
Phase With(Phase p, Hint hint) {
  p.hint = hint;
  return p;
}

// Sides of the blocks, in the order in which a grid of one block an SM starts them.
std::array<int, kBlocks> Sides() {
  std::array<int, kBlocks> sides{};
  for (const NsightRow& row : ReadNsight("l2/h100-80gb-hbm3_sides.csv")) {
    if (row.at("blocks_per_sm") == "1") sides.at(static_cast<size_t>(Number(row, "block"))) = std::stoi(row.at("side"));
  }
  return sides;
}

CacheCounts Play(const std::vector<Phase>& phases, const CacheParameters& parameters) {
  static const std::array<int, kBlocks> sides = Sides();
  Cache cache(parameters, 384 * kMiB, 1);
  const auto turn = [&](const Phase& p, int64_t t, int side) {
    for (int64_t n = 0; n < kTurn; ++n) {
      cache.Touch(p.begin * kMiB + t * kTurn + n, kGranuleBytes, side, p.access, p.hint);
    }
  };
  for (const Phase& p : phases) {
    const int64_t turns = p.size * kMiB / kTurn;
    Phase others = p;
    others.begin = p.others;
    for (int64_t t = 0; p.all && t < turns; ++t) {
      for (const int side : {0, 1}) {
        turn(p, t, side);
        if (p.others >= 0) turn(others, t, side);
      }
    }
    for (int64_t round = 0; !p.all && round * kBlocks < turns; ++round) {
      for (int64_t place = 0; place < kBlocks; ++place) {
        const int64_t block = place * 25 % kBlocks;  // 25 * 37 = 1 modulo 132
        const int64_t t = round * kBlocks + (block + p.shift) % kBlocks;
        if (t < turns) turn(p, t, sides[static_cast<size_t>(block)]);
      }
    }
  }
  return cache.counts();
}

// The largest and the mean difference of reads and writes, MB.
struct Differences {
  double most_read = 0, most_write = 0, mean_read = 0, mean_write = 0;
};

Differences Compare(const std::map<std::string, std::vector<Phase>>& streams, const std::string& file = "replacement",
                    const std::string& prefix = "replace_") {
  CacheParameters parameters = ParametersOf(data::LoadGpu("h100"));
  parameters.dirty_at_start = 0;  // with so few counters the profiler left nothing dirty
  Differences d;
  size_t found = 0;
  for (const NsightRow& row : ReadNsight("l2/h100-80gb-hbm3_" + file + ".csv")) {
    if (!row.at("pattern").starts_with(prefix)) continue;
    const auto stream = streams.find(row.at("pattern").substr(prefix.size()));
    if (stream == streams.end()) continue;
    ++found;
    const CacheCounts counts = Play(stream->second, parameters);
    const auto megabytes = [](int64_t bytes) { return static_cast<double>(bytes) / 1e6; };
    const double read = megabytes(counts.dram_read - Number(row, "dram_read_bytes"));
    const double write = megabytes(counts.dram_write - Number(row, "dram_write_bytes"));
    d.most_read = std::max(d.most_read, std::abs(read)), d.mean_read += std::abs(read);
    d.most_write = std::max(d.most_write, std::abs(write)), d.mean_write += std::abs(write);
    std::printf("  %-24s DRAM reads %7.2f MB (%+6.2f), writes %7.2f MB (%+5.2f)\n", stream->first.c_str(),
                megabytes(counts.dram_read), read, megabytes(counts.dram_write), write);
  }
  REQUIRE(found == streams.size());
  d.mean_read /= static_cast<double>(found), d.mean_write /= static_cast<double>(found);
  return d;
}

std::string Text(int64_t n) { return std::to_string(n); }

TEST_CASE("what stays dirty, and is written back when it is used again: lines that are written and then read") {
  std::map<std::string, std::vector<Phase>> streams;
  for (const int64_t size : {12, 16, 20, 24, 28}) {
    streams["dirty_" + Text(size) + "_readsame"] = {Write(size), Read(0, size), Read(0, size)};
    streams["dirty_" + Text(size) + "_read2"] = {Write(size), Read(128, 2), Read(128, 2)};
  }
  const Differences d = Compare(streams);
  CHECK(d.most_read < 0.5);
  CHECK(d.most_write < 2);
}

TEST_CASE("the oldest goes first, dirty or not, when DRAM has time") {
  std::map<std::string, std::vector<Phase>> streams;
  for (const int64_t size : {16, 24, 32}) {
    for (const int64_t read : {8, 16, 32, 64}) {
      streams["dirty_" + Text(size) + "_slowread_" + Text(read)] = {Write(size), Read(128, read)};
    }
  }
  const Differences d = Compare(streams);
  CHECK(d.mean_write < 2.5);
  CHECK(d.most_write < 7);
}

TEST_CASE("data whose readers change sides: how soon passes over it miss") {
  std::map<std::string, std::vector<Phase>> streams;
  for (const int64_t size : {30, 34, 36, 38, 40, 44}) {
    std::vector<Phase>& moved = streams["slow_moved_" + Text(size)];
    for (int64_t pass = 0; pass < 5; ++pass) moved.push_back(Read(0, size, 37 * pass));
  }
  const Differences d = Compare(streams);
  CHECK(d.most_read < 5);
  CHECK(d.most_write < 0.5);
}

TEST_CASE("eviction priorities: what should stay is found, up to a limit; what may go first is not") {
  std::map<std::string, std::vector<Phase>> last, first;
  for (const int64_t size : {4, 8, 16, 24, 32}) {
    last["last_" + Text(size) + "_read_64_again"] = {With(Read(0, size), Hint::kEvictLast), Read(128, 64),
                                                     Read(0, size)};
  }
  for (const int64_t size : {16, 24}) {
    for (const int64_t read : {8, 16}) {
      first["first_" + Text(size) + "_read_" + Text(read) + "_again"] = {With(Read(0, size), Hint::kEvictFirst),
                                                                         Read(128, read), Read(0, size)};
    }
  }
  CHECK(Compare(last).most_read < 0.5);
  CHECK(Compare(first).most_read < 8);
}

TEST_CASE("data that all SMs read again and again beside a stream of writes, ordinary or to go first") {
  std::map<std::string, std::vector<Phase>> streams;
  for (const Hint hint : {Hint::kNormal, Hint::kEvictFirst}) {
    for (const int64_t hot : {4, 16}) {
      for (const int64_t size : {2, 4, 8}) {
        std::vector<Phase>& phases =
            streams["hot_" + Text(hot) + "_write_" + Text(size) + (hint == Hint::kNormal ? "" : "_wfirst")];
        for (int64_t round = 0; round < 24; ++round) {
          Phase shared = Read(0, hot), stream = With(Write(size), hint);
          shared.all = true, stream.begin = 64 + round * size;
          phases.push_back(shared), phases.push_back(stream);
        }
      }
    }
  }
  const Differences d = Compare(streams);
  CHECK(d.mean_write < 2);
  CHECK(d.mean_read < 3);
}

// The model's sets are too uneven for this: it misses from 20 MiB on, the hardware from 24 (README.md).
TEST_CASE("data that all SMs read: how much stays, and what is lost while a second set takes the place of the first") {
  std::map<std::string, std::vector<Phase>> again, switched;
  const auto all = [](int64_t begin, int64_t size) {
    Phase p = Read(begin, size);
    p.all = true;
    return p;
  };
  for (const int64_t size : {18, 20, 22, 23, 24, 25, 26, 27, 28, 30, 32}) {
    again["all_" + Text(size)] = std::vector<Phase>(5, all(0, size));
  }
  for (const int64_t size : {14, 16}) {
    for (const int64_t others : {0, 28, 66, 104}) {
      std::vector<Phase>& phases = switched["switch_" + Text(size) + "_" + Text(others)];
      phases.assign(3, all(0, size));
      if (others > 0) phases.push_back(all(0, size)), phases.back().others = 128;
      phases.insert(phases.end(), 3, all(128, size));
    }
  }
  CHECK(Compare(again, "shared", "shared_").mean_read < 14);
  CHECK(Compare(switched, "shared", "shared_").most_read < 4.5);
}

TEST_CASE("what all SMs may need again stays while stores that go first pass, with evict_last or without") {
  std::map<std::string, std::vector<Phase>> streams, passes;
  for (const int64_t size : {4, 8}) {
    for (const int64_t passing : {32, 64, 128, 192}) {
      for (const int64_t shift : {0, 66}) {
        const std::string rest = Text(passing) + (shift == 0 ? "" : "_moved");
        Phase stores = With(Write(passing), Hint::kEvictFirst);
        stores.begin = 128;
        const Phase first = Read(0, size), again = Read(0, size, shift);
        const Phase kept = With(first, Hint::kEvictLast), kept_again = With(again, Hint::kEvictLast);
        streams[Text(size) + "_read_" + rest] = {kept, Read(128, passing), kept_again};
        streams[Text(size) + "_wfirst_" + rest] = {kept, stores, kept_again};
        streams[Text(size) + "_plain_wfirst_" + rest] = {first, stores, again};
      }
    }
  }
  for (const int64_t size : {20, 24, 28, 32, 36}) {
    for (const Hint hint : {Hint::kNormal, Hint::kEvictLast}) {
      std::vector<Phase>& moved =
          passes[std::string("slow_") + (hint == Hint::kNormal ? "plain_" : "") + "moved_" + Text(size)];
      for (int64_t pass = 0; pass < 4; ++pass) moved.push_back(With(Read(0, size, 32 * pass), hint));
    }
  }
  CHECK(Compare(streams, "shared", "last_").most_read < 2);
  CHECK(Compare(passes, "shared", "last_").mean_read < 6);
}

}  // namespace
}  // namespace bitflash::sim::l2
