// What the compiler made of our wgmma kernels (gpu/hopper_builds.csv, by gpu/check_build.py) against what the twins
// predict of an SM: threads, registers, shared memory, and how many blocks it holds.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <set>

#include "sim/count.h"
#include "sim/nsight_csv.h"
#include "sim/own_recording.h"

namespace bitflash::sim {
namespace {

struct Pair {
  std::string name;
  Tiling tiling;
  Resources built;
  LaunchCount twin;
};

Pair PairOf(const NsightRow& row, const Gpu& gpu) {
  const Kernel& kernel = FindKernel(row.at("kernel"));
  const int64_t d = Number(row, "head_dim");
  const Attention a{.batch = 4,
                    .heads_q = 8,
                    .heads_kv = 8,
                    .seqlen_q = 2048,
                    .seqlen_k = 2048,
                    .head_dim = d,
                    .head_dim_v = d,
                    .format = data::ParseFormat(row.at("format"))};
  const Tiling t = TwinTiling(kernel, a, gpu, 0, 0, Number(row, "fp32_scores") != 0);
  const Count count = CountKernel(kernel, a, t, gpu);
  const auto twin = std::ranges::find(count.launches, row.at("launch"), &LaunchCount::name);
  REQUIRE(twin != count.launches.end());
  return {row.at("launch") + " " + row.at("format") + " head_dim " + row.at("head_dim"), t,
          Resources{.threads = Number(row, "threads"),
                    .registers_per_thread = Number(row, "registers"),
                    .shared_bytes = Number(row, "static_shared") + Number(row, "dynamic_shared")},
          *twin};
}

TEST_CASE("an SM holds as many blocks of our wgmma kernels as their twins predict") {
  std::set<std::string> kernels;
  for (const char* name : {"h100", "h200"}) {
    const Gpu gpu = data::LoadGpu(name);
    for (const NsightRow& row : ReadCsv(BITFLASH_SOURCE_DIR "/gpu/hopper_builds.csv")) {
      const Pair pair = PairOf(row, gpu);
      CAPTURE(pair.name);
      CHECK(pair.tiling.Br == Number(row, "br"));
      CHECK(pair.tiling.Bc == Number(row, "bc"));
      const Occupancy occupancy = Occupy(pair.built, gpu);
      CHECK(occupancy.blocks_per_sm == Number(row, "blocks_per_sm"));  // check_build.py computes it for itself
      CHECK(occupancy.blocks_per_sm == pair.twin.occupancy.blocks_per_sm);
      // Room to align the first tile, barriers, and tiles that the twin has in flight fewer of.
      CHECK(pair.built.shared_bytes >= pair.twin.resources.shared_bytes);
      CHECK(Infeasible(pair.built, gpu).empty());
      kernels.insert(row.at("kernel"));
    }
  }
  CHECK(kernels == std::set<std::string>{"fa3", "standard"});
}

TEST_CASE("fa3 has the threads and registers that its twin predicts, at launch and after setmaxnreg") {
  const Gpu gpu = data::LoadGpu("h200");
  std::set<std::string> seen;
  for (const NsightRow& row : ReadCsv(BITFLASH_SOURCE_DIR "/gpu/hopper_builds.csv")) {
    if (row.at("kernel") != "fa3") continue;
    const Pair pair = PairOf(row, gpu);
    CAPTURE(pair.name);
    const Resources& twin = pair.twin.resources;
    CHECK(pair.built.threads == twin.threads);
    CHECK(pair.built.registers_per_thread == twin.registers_per_thread);
    CHECK(Number(row, "consumer_registers") == twin.registers_limit);
    CHECK(twin.registers_needed <= twin.registers_limit);
    std::printf("%-30s %lld bytes of shared memory, %lld more than the tiles of the twin\n", pair.name.c_str(),
                static_cast<long long>(pair.built.shared_bytes),
                static_cast<long long>(pair.built.shared_bytes - twin.shared_bytes));
    seen.insert(pair.name);
  }
  CHECK(seen.size() == 10);  // five head_dims, two formats
}

}  // namespace
}  // namespace bitflash::sim
