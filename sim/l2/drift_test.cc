// How much work the replay of drifting blocks is, and what its stacks answer. How good it is: predict_test.cc and
// recorded_test.cc.
#include "sim/l2/drift.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "data/gpu.h"
#include "sim/l2/stacks.h"

namespace bitflash::sim::l2 {
namespace {

TEST_CASE("sweeps and tiles of every size: the work of a replay is bounded") {
  const data::Gpu gpu = data::LoadGpu("h100");
  ReplayWork most;
  const auto ask = [&](const char* name, int64_t heads, int64_t length, bool causal, const TilingChoice& choice) {
    const Kernel& kernel = FindKernel(name);
    Attention a{.heads_q = heads, .heads_kv = heads, .seqlen_q = length, .seqlen_k = length};
    if (causal) a.mask = data::Mask::Causal();
    const Tiling t = ResolveTiling(kernel, a, gpu, choice);
    const Count count = CountKernel(kernel, a, t, gpu);
    ReplayWork work;
    ReadAgain(kernel, a, t, gpu, count, std::vector<double>(count.launches.size()), &work);
    CAPTURE(name);
    CAPTURE(heads);
    CAPTURE(length);
    CAPTURE(causal);
    CHECK(work.reads < 160'000);
    CHECK(work.blocks < 60'000);
    most.reads = std::max(most.reads, work.reads);
    most.blocks = std::max(most.blocks, work.blocks);
  };
  for (const char* name : {"fa2", "fa3", "pytorch-fa2", "cudnn-9.19-sm90"}) {
    for (const int64_t heads : {1, 4, 64}) {
      for (const int64_t length : {8'000, 40'000, 160'000}) {
        ask(name, heads, length, false, {});
        ask(name, heads, length, true, {});
      }
    }
  }
  ask("split-kv", 4, 32'000, true, {});
  ask("pytorch-fa2", 8, 32'768, true, {.Br = 16, .Bc = 64, .splits = 64});
  CHECK(most.reads > 80'000);  // some of these launches are longer than what is replayed
  CHECK(most.blocks > 40'000);
}

// Sharp edges: sets so large that they are never uneven.
CacheParameters Partitions(int partitions) {
  CacheParameters cache;
  cache.partitions = partitions;
  cache.set_granules = 1 << 20;
  return cache;
}

TEST_CASE("slices come from DRAM again when more than the capacity was read since") {
  constexpr int64_t kUnits = 16;
  for (const int64_t slices : {8, 15, 17, 40}) {
    CAPTURE(slices);
    Stacks stacks(Partitions(1), 1, slices, kUnits);
    const double end = static_cast<double>(slices);
    for (int pass = 0; pass < 3; ++pass) {
      stacks.Read({.from = 0, .to = end, .begin = 10 * end * pass, .pace = 10});
    }
    const auto [until_half, in_all] = stacks.Replay(20 * end);
    CHECK(stacks.reads() == 3 * slices);
    CHECK(in_all[0] == doctest::Approx(slices < kUnits ? 0 : 2 * slices));
    CHECK(until_half[0] == doctest::Approx(slices < kUnits ? 0 : slices));
    CHECK(in_all[1] == doctest::Approx(slices < kUnits / 0.85 ? 0 : 2 * slices));
    CHECK(in_all[2] == doctest::Approx(slices < kUnits / 1.15 ? 0 : 2 * slices));
  }
}

TEST_CASE("one that follows close behind finds what the first one read, one that comes late does not") {
  for (const double behind : {2.0, 300.0}) {
    CAPTURE(behind);
    Stacks stacks(Partitions(1), 1, 40, 16);
    stacks.Read({.from = 0, .to = 40, .begin = 0, .pace = 10});
    stacks.Read({.from = 40, .to = 0, .begin = 400 + behind, .pace = 10});  // and back again
    stacks.Read({.from = 0, .to = 40, .begin = behind, .pace = 10});
    const double again = stacks.Replay(0).in_all[0];
    // On the way back, 16 slices are still there.
    CHECK(again == doctest::Approx(behind < 10 ? 24 : 40 + 24).epsilon(0.05));
  }
}

TEST_CASE("what passes pushes slices out, and a copy is found by its own side only") {
  for (const bool passes : {false, true}) {
    Stacks stacks(Partitions(1), 1, 4, 16);
    stacks.Read({.from = 0, .to = 4, .begin = 0, .pace = 10});
    if (passes) stacks.Pass(0, 50, 20);
    stacks.Read({.from = 0, .to = 4, .begin = 100, .pace = 10});
    CHECK(stacks.Replay(0).in_all[0] == doctest::Approx(passes ? 4 : 0));
  }
  // Two sides that read the same 12 slices in turn: with copies they take 24 units of each, 8 slices 16.
  for (const int64_t slices : {7, 12}) {
    Stacks stacks(Partitions(2), 1, slices, 16);
    const double end = static_cast<double>(slices);
    for (int pass = 0; pass < 8; ++pass) {
      stacks.Read({.side = pass % 2, .from = 0, .to = end, .begin = 10 * end * pass, .pace = 10});
    }
    const double again = stacks.Replay(0).in_all[0];
    CHECK((again > 0) == (slices > 8));
  }
}

}  // namespace
}  // namespace bitflash::sim::l2
