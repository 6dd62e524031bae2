// Recorded outputs of shipped kernels, reproduced bit for bit without a GPU.
#include "sim/golden_replay.h"

#include <doctest/doctest.h>

namespace bitflash::sim {
namespace {

// The recipe covers the kernels that the case launched. cuDNN answers decode steps and a few small problems with sm80
// kernels, which are other recipes.
bool Covered(const data::GoldenCase& golden) {
  return golden.backend != "cudnn-9.19-sm90" ||
         golden.launches.front().kernel.find("sm90_flash_fprop_wgmma") != std::string::npos;
}

// Replays the cases of a file that take at most `most` multiply-adds.
Replay ReplayFile(const std::string& name, double most) {
  const Gpu gpu = data::LoadGpu("h200");
  Replay replay;
  for (const data::GoldenCase& golden : GoldenCases(name)) {
    if (Work(golden.attention) > most) continue;
    if (!Covered(golden)) {
      ++replay.skipped;
      continue;
    }
    const Kernel& kernel = FindKernel(golden.backend);
    ReplayCase(golden, kernel, kernel.DefaultTiling(golden.attention, gpu), gpu.arch, replay);
  }
  Print(name, replay);
  return replay;
}

TEST_CASE("small recordings of an H200 are reproduced bit for bit") {
  CHECK(ReplayFile("pytorch-fa2", 2e8).cases >= 20);
  CHECK(ReplayFile("cudnn-9.19-sm90", 2e8).cases >= 15);
}

TEST_CASE("every recording of an H200 is reproduced bit for bit" * doctest::test_suite("slow")) {
  CHECK(ReplayFile("pytorch-fa2", 1e18).cases == 73);
  CHECK(ReplayFile("cudnn-9.19-sm90", 1e18).cases >= 50);
}

TEST_CASE("and so is every recording that no recipe was tuned on" * doctest::test_suite("slow")) {
  CHECK(ReplayFile("pytorch-fa2.held-out", 1e18).cases == 22);
  CHECK(ReplayFile("cudnn-9.19-sm90.held-out", 1e18).cases >= 14);
}

TEST_CASE("and every recording made after the code was finished" * doctest::test_suite("slow")) {
  CHECK(ReplayFile("after/pytorch-fa2.held-out", 1e18).cases == 16);
  CHECK(ReplayFile("after/cudnn-9.19-sm90.held-out", 1e18).cases == 14);
}

}  // namespace
}  // namespace bitflash::sim
