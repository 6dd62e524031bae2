#include "sim/time/estimate.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "sim/time/hbm_bytes.h"

namespace bitflash::sim {
namespace {

Attention Prefill(int64_t seqlen, int64_t heads = 32) {
  return {.heads_q = heads, .heads_kv = heads, .seqlen_q = seqlen, .seqlen_k = seqlen, .format = Format::kBf16};
}

TimeEstimate Estimate(std::string_view name, const Attention& a, std::string_view gpu_name = "h100") {
  const Kernel& kernel = FindKernel(name);
  const Gpu gpu = data::LoadGpu(gpu_name);
  const Tiling t = kernel.DefaultTiling(a, gpu);
  return EstimateTime(kernel, a, t, gpu, CountKernel(kernel, a, t, gpu));
}

TEST_CASE("the parts of a launch add up: slowest unit, stalls, idle SMs, launch") {
  for (const std::string_view gpu : {"a100-80gb", "h100", "h200", "l40s", "b200"}) {
    for (const std::string_view name : {"standard", "fa1", "fa2", "split-kv", "pytorch-fa2"}) {
      for (const int64_t seqlen : {64, 1000, 8192}) {
        CAPTURE(name);
        CAPTURE(gpu);
        CAPTURE(seqlen);
        const TimeEstimate e = Estimate(name, Prefill(seqlen), gpu);
        double sum = 0;
        for (const LaunchTime& launch : e.launches) {
          const double slowest = *std::max_element(launch.part.begin(), launch.part.begin() + kUnitCount);
          const double parts =
              slowest + launch.of(Limit::kStalls) + launch.of(Limit::kIdleSms) + launch.of(Limit::kLaunch);
          CHECK(launch.seconds == doctest::Approx(parts));
          CHECK(launch.of(launch.bottleneck) >= 0.95 * *std::max_element(launch.part.begin(), launch.part.end()));
          sum += launch.seconds;
        }
        CHECK(e.seconds == doctest::Approx(sum));
      }
    }
  }
}

TEST_CASE("named bottlenecks") {
  // Long prefill multiplies, a decode step over a long cache reads, a tiny problem is mostly its launch.
  CHECK(Estimate("fa2", Prefill(16384)).bottleneck == Limit::kTensor);
  Attention decode = Prefill(65536);
  decode.seqlen_q = 1;
  CHECK(Estimate("split-kv", decode).bottleneck == Limit::kHbm);
  CHECK(Estimate("standard", Prefill(8192)).bottleneck == Limit::kHbm);
  CHECK(Estimate("fa2", Prefill(64, 8)).bottleneck == Limit::kLaunch);
  // One head keeps a few SMs busy.
  CHECK(Estimate("fa2", Prefill(4096, 1)).bottleneck == Limit::kIdleSms);
}

TEST_CASE("more work takes longer, a faster GPU less") {
  double before = 0;
  for (const int64_t seqlen : {128, 512, 2048, 8192, 32768}) {
    const double seconds = Estimate("fa2", Prefill(seqlen)).seconds;
    CHECK(seconds > before);
    before = seconds;
  }
  CHECK(Estimate("fa2", Prefill(4096), "a100-80gb").seconds > Estimate("fa2", Prefill(4096), "h100").seconds);
  Attention decode = Prefill(32768);
  decode.seqlen_q = 1;
  CHECK(Estimate("split-kv", decode, "h100").seconds > Estimate("split-kv", decode, "h200").seconds);
}

TEST_CASE("an estimate says where its constants come from") {
  CHECK(Estimate("fa2", Prefill(1024)).calibrated);
  CHECK(Estimate("standard", Prefill(1024)).calibrated);
  CHECK_FALSE(Estimate("fa2", Prefill(1024), "a100-80gb").calibrated);
  CHECK(Estimate("fa3", Prefill(1024)).calibrated);
  CHECK_FALSE(Estimate("fa1", Prefill(1024)).calibrated);
}

TEST_CASE("HBM bytes are the predicted ones: what L2 could not keep is read again, what it keeps is not written yet") {
  const Gpu gpu = data::LoadGpu("h100");
  const Kernel& fa2 = FindKernel("fa2");
  const auto hbm = [&](const Attention& a) {
    const Tiling t = fa2.DefaultTiling(a, gpu);
    const Count count = CountKernel(fa2, a, t, gpu);
    const Traffic bytes = HbmWhileRunning(fa2, a, t, gpu, count).at(0);
    CHECK(ModelsOf(fa2, a, t, gpu, count).at(0).hbm == bytes);
    const Traffic once = Sum(count.total.hbm_compulsory);
    return std::pair(static_cast<double>(bytes.read) / static_cast<double>(once.read),
                     static_cast<double>(bytes.write) / static_cast<double>(once.write));
  };
  const auto [read_small, written_small] = hbm(Prefill(1024, 8));
  CHECK(read_small == doctest::Approx(1).epsilon(0.01));
  CHECK(written_small == 0);
  // 65536 keys a head are 33.6 MB, in both halves of a 50 MiB L2.
  const auto [read_long, written_long] = hbm(Prefill(65536, 4));
  CHECK(read_long > 2);
  CHECK(written_long > 0.7);
}

TEST_CASE("work: tiles of a causal mask, longest query tile first; blocks of single tiles; launches without keys") {
  Attention a = Prefill(512, 2);
  a.mask = data::Mask::Causal();
  const Gpu gpu = data::LoadGpu("h100");
  const Kernel& fa2 = FindKernel("fa2");
  const std::vector<LaunchWork> work = WorkOf(fa2, a, fa2.DefaultTiling(a, gpu));  // 128 x 64
  REQUIRE(work.size() == 1);
  REQUIRE(work[0].orders.size() == 1);
  const std::vector<BlockGroup>& head = work[0].orders[0];
  REQUIRE(head.size() == 4);
  for (size_t i = 0; i < 4; ++i) {
    CHECK(head[i].tiles == 8 - 2 * static_cast<int64_t>(i));
    CHECK(head[i].masked == 2);
  }
  CHECK(work[0].blocks() == 8);
  CHECK(work[0].tiles() == 2 * 20);
  CHECK(work[0].masked_tiles() == 16);
  const Kernel& standard = FindKernel("standard");
  const Tiling t = standard.DefaultTiling(a, gpu);  // 256 x 128
  const std::vector<LaunchWork> launches = WorkOf(standard, a, t);
  REQUIRE(launches.size() == 3);
  CHECK(launches[0].blocks() == 2 * (2 + 4));
  CHECK(launches[0].tiles() == launches[0].blocks());
  CHECK(launches[1].blocks() == 2 * 512);
  CHECK(launches[2].blocks() == 4);
  CHECK(launches[2].tiles() == 2 * (2 + 4));
}

}  // namespace
}  // namespace bitflash::sim
