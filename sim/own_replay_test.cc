// What the CUDA kernels of gpu/ gave on a GPU, without one: every bit of O and LSE, and what was launched.
// data/golden/README.md says how it was recorded.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <map>

#include "sim/count.h"
#include "sim/golden_replay.h"
#include "sim/nsight_csv.h"
#include "sim/own_recording.h"

namespace bitflash::sim {
namespace {

Tiling TwinTiling(const Kernel& kernel, const data::GoldenCase& golden, const Gpu& gpu) {
  const data::GoldenOptions& options = *golden.options;
  return TwinTiling(kernel, golden.attention, gpu, options.chunk, options.page_size, options.fp32_scores);
}

struct OwnReplay : Replay {
  int64_t cases_of_file = 0;
};

// Replays those cases of data/golden/own/NAME.json that take at most `most` multiply-adds.
OwnReplay ReplayOwn(const std::string& name, double most) {
  const Gpu gpu = ReadOwnRecording().gpu;
  const Kernel& kernel = FindKernel(name);
  OwnReplay replay;
  for (const data::GoldenCase& golden : GoldenCases("own/" + name)) {
    ++replay.cases_of_file;
    if (Work(golden.attention) > most) continue;
    CAPTURE(golden.name);
    REQUIRE(golden.backend == "bitflash-" + name);
    REQUIRE(golden.options);
    const Tiling t = TwinTiling(kernel, golden, gpu);
    CHECK(t.Br == golden.options->Br);
    CHECK(t.Bc == golden.options->Bc);
    CHECK(t.warps == golden.options->warps);
    CHECK(golden.IsRepeatable());
    ReplayCase(golden, kernel, t, gpu.arch, replay);
  }
  Print("own/" + name, replay);
  return replay;
}

TEST_CASE("small recordings of our own kernels are reproduced bit for bit") {
  for (const std::string& name : RecordedKernels()) CHECK(ReplayOwn(name, 2e8).cases >= 55);
}

TEST_CASE("every recording of our own kernels is reproduced bit for bit" * doctest::test_suite("slow")) {
  const std::map<std::string, int64_t> expected = {{"fa2", 77}, {"standard", 80}, {"split-kv", 85}, {"fa3", 139}};
  for (const std::string& name : RecordedKernels()) {
    CAPTURE(name);
    const OwnReplay replay = ReplayOwn(name, 1e18);
    CHECK(replay.cases == replay.cases_of_file);
    CHECK(replay.cases == expected.at(name));
    CHECK(replay.heads_o_differ == 0);
    CHECK(replay.heads_lse_differ == 0);
    if (name.starts_with("fa")) CHECK(replay.elements >= 100'000'000);
  }
}

// With head_dim 64 both take key tiles of 128, and on Hopper mma.sync and wgmma follow one rule: two kernels that share
// nothing, equal to the last bit, without a simulator between them.
TEST_CASE("fa2 and fa3 gave the same bits for head_dim 64") {
  const std::vector<std::string> recorded = RecordedKernels();
  if (std::ranges::find(recorded, "fa3") == recorded.end()) {
    std::puts("fa3 is not recorded");
    return;
  }
  std::map<std::string, data::GoldenCase> of_fa2;
  for (data::GoldenCase& golden : GoldenCases("own/fa2")) of_fa2.emplace(golden.name, std::move(golden));
  int compared = 0;
  for (const data::GoldenCase& golden : GoldenCases("own/fa3")) {
    const auto found = of_fa2.find(golden.name);
    if (golden.attention.head_dim != 64 || found == of_fa2.end()) continue;
    CAPTURE(golden.name);
    REQUIRE(golden.seed == found->second.seed);
    REQUIRE(golden.heads.size() == found->second.heads.size());
    for (size_t head = 0; head < golden.heads.size(); ++head) {
      CHECK(golden.heads[head].o_hash == found->second.heads[head].o_hash);
      CHECK(golden.heads[head].lse_hash == found->second.heads[head].lse_hash);
    }
    ++compared;
  }
  CHECK(compared >= 10);
}

TEST_CASE("our own kernels launch the blocks and threads that their twins count") {
  const Gpu gpu = ReadOwnRecording().gpu;
  int compared = 0;
  for (const std::string& name : RecordedKernels()) {
    const Kernel& kernel = FindKernel(name);
    for (const data::GoldenCase& golden : GoldenCases("own/" + name)) {
      const Attention& a = golden.attention;
      // Launches are those of all sequences, the case is one of them; without keys, standard needs no wgmma.
      if (golden.name.find("_sequence") != std::string::npos || a.seqlen_k == 0) continue;
      CAPTURE(golden.name);
      const Tiling t = TwinTiling(kernel, golden, gpu);
      const Count count = CountKernel(kernel, a, t, gpu);
      std::vector<data::GoldenLaunch> launches = golden.launches;
      std::erase_if(launches, [](const data::GoldenLaunch& launch) { return launch.kernel == kCounterReset; });
      REQUIRE(count.launches.size() == launches.size());
      for (size_t n = 0; n < launches.size(); ++n) {
        const LaunchCount& twin = count.launches[n];
        const data::GoldenLaunch& launch = launches[n];
        CHECK(twin.name == launch.kernel);
        CAPTURE(twin.name);
        // With wgmma the products of standard attention have a warpgroup more, which loads, and the tiles of S are
        // shared out among as many blocks as there are SMs.
        const bool standard_wgmma =
            twin.name.starts_with("standard_") && twin.name != "standard_softmax" && data::HasWgmma(gpu);
        if (!standard_wgmma) CHECK(twin.resources.threads == launch.block[0]);
        if (standard_wgmma && twin.name == "standard_scores") continue;
        const Grid grid{launch.grid[0], launch.grid[1], launch.grid[2]};
        // The order of the axes is a choice that changes no count. Where rows are few, several blocks share a row's
        // columns.
        const int64_t shared = twin.name == "split_kv_combine" ? t.row_blocks : 1;
        if (twin.name == "split_kv_combine") CHECK(shared == grid.y);
        CHECK(twin.grid.blocks() * shared == grid.blocks());
        if (twin.name == "fa2_forward") CHECK(Dimensions(twin.grid) == Dimensions(grid));
        ++compared;
      }
    }
  }
  std::printf("%d launches of our own kernels have as many blocks as their twins'\n", compared);
  CHECK(compared > 300);
}

}  // namespace
}  // namespace bitflash::sim
