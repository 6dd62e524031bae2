// The counting machine against Nsight Compute: bytes that the SMs of an H200 received from L2 in PyTorch's
// FlashAttention-2 and in cuDNN. data/golden/h200_nsight_l2_to_sm.json says how they were recorded.
#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include "data/gpu.h"
#include "sim/count.h"
#include "sim/nsight_csv.h"

namespace bitflash::sim {
namespace {

using Row = NsightRow;

std::vector<Row> ReadRecording() { return ReadNsight("h200_nsight_l2_to_sm.csv"); }

Attention ProblemOf(const Row& row) {
  return sim::ProblemOf(row, Number(row, "causal") ? data::Mask::Causal() : data::Mask::Full());
}

// How a recorded kernel is replayed: the simulated kernel, its tile, and which of its launches the row is.
struct Replay {
  const char* kernel;
  Tiling tiling;
  size_t launch = 0;
  // Which launch facts the model claims. A cuDNN kernel has cuDNN's own layout of shared memory, and a replay of a
  // kernel of other structure (cuDNN decode, the combine kernels) claims bytes only.
  bool grid_and_threads = false;
  bool shared_bytes = false;
};

// Tiles from the recorded kernel names, grids and the published launch code; nothing is fitted.
Replay ReplayOf(const Row& row) {
  const std::string& kernel = row.at("kernel");
  const bool pack = row.at("seqlen_q") == "1" && row.at("heads_q") != row.at("heads_kv");
  if (kernel == "fa2_fwd_hd128_128x64") return {"fa2", {.Br = 128, .Bc = 64, .pack_gqa = pack}, 0, true, true};
  if (kernel == "fa2_fwd_hd64_128x128") return {"fa2", {.Br = 128, .Bc = 128, .pack_gqa = pack}, 0, true, true};
  const Tiling fa2_split{.Br = 64, .Bc = 128, .splits = 28, .pack_gqa = pack};  // grid 1x28x8
  if (kernel == "fa2_splitkv_hd128_64x128") return {"split-kv", fa2_split, 0, true, true};
  if (kernel == "fa2_splitkv_combine_hd128") return {"pytorch-fa2", fa2_split, 1};
  // The query tile of the 132 persistent blocks is 128 rows: two consumer warpgroups of 64.
  const Tiling cudnn{.Br = 128, .Bc = 128, .warps = 8, .stages = row.at("head_dim") == "64" ? 4 : 2};
  if (kernel.starts_with("cudnn_sm90")) return {"cudnn-9.19-sm90", cudnn, 0, true};
  // d3 is a grid of 32 x 8: 32 parts; d1 and d2 launch one block per KV head.
  const bool parts = row.at("grid") == "32x8x1" || kernel == "cudnn_lean_reduction";
  const Tiling cudnn_decode{.Br = 16, .Bc = 128, .splits = parts ? 32 : 1, .pack_gqa = pack};
  if (kernel.starts_with("cudnn_sm80")) return {parts ? "split-kv" : "fa2", cudnn_decode};
  REQUIRE(kernel == "cudnn_lean_reduction");
  return {"split-kv", cudnn_decode, 1};
}

// Rows that differ by more than 0.1 %, with how much and what is known. The test fails too when one of them fits.
struct Miss {
  const char* row;
  double percent;
  const char* known;
};
constexpr Miss kMisses[] = {
    {"d3 cudnn_sm80_fprop_wmma_knob35_16x128x128", 0.110,
     "589,824 bytes more than counted, with every part reading Q (0.157 % more than Q, K and V once); cause unknown"},
    {"d3 cudnn_lean_reduction", 10.769,
     "57,344 bytes more: the statistics cost 64 bytes a row and part, two 32-byte sectors, where m and l are 8 bytes"},
};

TEST_CASE("bytes from L2 to the SMs: within 0.1 % of Nsight's counter on an H200") {
  const data::Gpu gpu = data::LoadGpu("h200");
  int within = 0, exact = 0, missed = 0;
  for (const Row& row : ReadRecording()) {
    const std::string name = row.at("case") + " " + row.at("kernel");
    CAPTURE(name);
    const Replay replay = ReplayOf(row);
    const Count count = CountKernel(FindKernel(replay.kernel), ProblemOf(row), replay.tiling, gpu);
    const int64_t counted = Sum(count.launches.at(replay.launch).ledger.l2_to_sm).read;
    const int64_t measured = Number(row, "xbar_read_bytes");
    CAPTURE(counted);
    CAPTURE(measured);
    const double percent = Percent(measured, counted);
    const Miss* miss = nullptr;
    for (const Miss& m : kMisses) miss = name == m.row ? &m : miss;
    if (miss) {
      CHECK(percent == doctest::Approx(miss->percent).epsilon(0.005));
      ++missed;
      continue;
    }
    CHECK(std::abs(percent) < 0.1);
    CHECK(measured >= counted);  // the tile traffic is a floor: nothing that the model charges goes unread
    exact += measured == counted;
    ++within;
  }
  CHECK(within == 20);
  CHECK(exact == 4);  // FlashAttention-2's decode: d1, d2, d3 and its combine kernel, to the byte
  CHECK(missed == 2);
}

TEST_CASE("launch facts that the model claims are the measured ones") {
  const data::Gpu gpu = data::LoadGpu("h200");
  int compared = 0;
  for (const Row& row : ReadRecording()) {
    const Replay replay = ReplayOf(row);
    if (!replay.grid_and_threads) continue;
    CAPTURE(row.at("case"));
    CAPTURE(row.at("kernel"));
    const Count count = CountKernel(FindKernel(replay.kernel), ProblemOf(row), replay.tiling, gpu);
    const LaunchCount& launch = count.launches.at(replay.launch);
    Grid grid = launch.grid;
    // FlashAttention-2 orders its axes (query tile, sequence, head), a choice that changes no count.
    if (launch.name == "fa2_forward") std::swap(grid.y, grid.z);
    CHECK(Dimensions(grid) == row.at("grid"));
    CHECK(launch.resources.threads == std::stoll(row.at("block")));
    if (replay.shared_bytes) CHECK(launch.resources.shared_bytes == Number(row, "smem"));
    // fa3 owns at launch what its threads divide evenly. The others are estimates, tiles and 28 more, and compilers
    // never need less: 224 against 255 (fa2, which spills), 160 against 246 (the split kernel).
    const int64_t registers = launch.resources.registers_per_thread;
    CHECK(registers <= Number(row, "registers"));
    if (launch.name == "fa3_forward") CHECK(registers == Number(row, "registers"));
    if (launch.name == "fa2_forward") CHECK(registers == 224);
    if (launch.name == "split_kv_decode") CHECK(registers == 160);
    ++compared;
  }
  CHECK(compared == 17);
}

}  // namespace
}  // namespace bitflash::sim
