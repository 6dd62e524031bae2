// Simulated kernels give the bits that the real ones gave on an H200 (data/golden/README.md), head by head.
#include <doctest/doctest.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "data/golden.h"
#include "data/gpu.h"
#include "sim/count.h"
#include "verify/simulate.h"

namespace bitflash::verify {
namespace {

using data::GoldenCase;

struct Replay {
  const sim::Kernel* kernel;
  GoldenCase golden;
  sim::Tiling tiling;
  int64_t multiply_adds;
};

// The recorded cases of every simulated kernel that was recorded.
std::vector<Replay> AllReplays() {
  const data::Gpu gpu = data::LoadGpu("h200");
  std::vector<Replay> replays;
  for (const sim::Kernel& kernel : sim::Kernels()) {
    for (const char* part : {".json", ".held-out.json"}) {
      const std::string path = BITFLASH_SOURCE_DIR "/data/golden/" + std::string(kernel.name) + part;
      if (!std::filesystem::exists(path)) continue;
      for (GoldenCase& golden : data::LoadGolden(path)) {
        // What the kernel was given decides its tile: it may have got every KV head once per query head.
        data::Attention given = golden.attention;
        if (golden.kv_heads_expanded) given.heads_kv = given.heads_q;
        const sim::Tiling tiling = kernel.DefaultTiling(given, gpu);
        const int64_t flops = sim::CountKernel(kernel, given, tiling, gpu).total.matrix_flops;
        replays.push_back({&kernel, std::move(golden), tiling, flops / 2});
      }
    }
  }
  return replays;
}

struct Tally {
  int64_t cases = 0, heads = 0, elements = 0;
  int64_t different_o = 0, different_lse = 0;  // elements of heads with another fingerprint
};

void Check(const Replay& replay, Tally& tally) {
  const data::Attention& a = replay.golden.attention;
  CAPTURE(replay.kernel->name);
  CAPTURE(replay.golden.name);
  CAPTURE(sim::ToString(replay.tiling));
  const HeadSubset heads = SelectHeads(a, 0, a.heads_q);
  const KernelInputs inputs = GenerateInputs(a, heads, data::Distribution::kHashNormal, replay.golden.seed);
  const Simulated simulated = Simulate(*replay.kernel, heads, replay.tiling, "sm90", inputs);
  ++tally.cases;
  int64_t o = 0, lse = 0;
  for (const HeadHash& hash : simulated.hashes) {
    const data::GoldenHead& golden = replay.golden.heads[hash.batch * a.heads_q + hash.head];
    o += !golden.HasO(hash.o);
    lse += !golden.HasLse(hash.lse);
  }
  tally.heads += std::ssize(simulated.hashes);
  tally.elements += std::ssize(simulated.hashes) * a.seqlen_q * (a.head_dim_v + 1);
  tally.different_o += o * a.seqlen_q * a.head_dim_v;
  tally.different_lse += lse * a.seqlen_q;
  CHECK_MESSAGE(o == 0, "O differs in ", o, " of ", simulated.hashes.size(), " heads");
  CHECK_MESSAGE(lse == 0, "LSE differs in ", lse, " of ", simulated.hashes.size(), " heads");
}

// Cases with at most this many multiply-adds are replayed by the fast tests.
constexpr int64_t kSmall = 200'000'000;

void ReplayAll(bool small) {
  for (const sim::Kernel& kernel : sim::Kernels()) {
    Tally tally;
    for (const Replay& replay : AllReplays()) {
      if (replay.kernel == &kernel && (replay.multiply_adds <= kSmall) == small) Check(replay, tally);
    }
    if (tally.cases == 0) continue;
    MESSAGE(kernel.name, ": ", tally.cases, " recorded cases, ", tally.heads, " heads, ", tally.elements,
            " elements compared; in heads that differ: ", tally.different_o, " of O, ", tally.different_lse, " of LSE");
  }
}

TEST_CASE("golden replay: the small cases") { ReplayAll(true); }

TEST_CASE("golden replay: the large cases" * doctest::test_suite("slow")) { ReplayAll(false); }

}  // namespace
}  // namespace bitflash::verify
