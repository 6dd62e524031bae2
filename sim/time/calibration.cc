#include "sim/time/calibration.h"

namespace bitflash::sim {
namespace {

// Fitted with time_calibrate to half of the launches in data/golden/time and data/golden/own (MeasuredLaunch::held_out
// has the other half), then rounded. README.md has the errors on both halves.
constexpr std::string_view kH100 = "Nsight Compute on an H100 80GB HBM3: data/golden/time, data/golden/own";
constexpr std::string_view kH200 = "Nsight Compute on an H200: data/golden/h200_nsight_l2_to_sm.csv";

}  // namespace

const std::vector<Calibration>& Calibrations() {
  static const std::vector<Calibration> calibrations = {
      {.kernel = "fa2",
       .launch = "fa2_forward",
       .fixed_us = 5,
       .block_cycles = 700,
       .masked_tile = .6,
       .stall_cycles = 790,
       .hiding = 2.5,
       .one_stage_cycles = 100,
       .tensor = 1.09,
       .special = .49,
       .fp32 = .72,
       .shared = .1,
       .fitted_to = kH100},
      // Its build spills registers, and its last query tiles, the longest of a causal mask, start last.
      {.kernel = "pytorch-fa2",
       .launch = "fa2_forward",
       .fixed_us = 4,
       .block_cycles = 2000,
       .masked_tile = .8,
       .stall_cycles = 1000,
       .hiding = 2.5,
       .tensor = 1.15,
       .special = .49,
       .fp32 = .72,
       .shared = .1,
       .fitted_to = kH200},
      // One persistent block an SM (wgmma, TMA): its next tile's loads pass behind this one's stores.
      {.kernel = "standard",
       .launch = "standard_scores",
       .fixed_us = 6.3,
       .masked_tile = .2,
       .stall_cycles = 840,
       .hiding = 1,
       .crowded_cycles = 3100,
       .tensor = .5,
       .fp32 = 1,
       .shared = .5,
       .l2_share = 1.44,
       .hbm_share = .84,
       .blocks_per_sm = 1,
       .walked_row_cycles = 150,
       .fitted_to = kH100},
      // A row a block: the wait for its loads and its two sums over the block decide, ten blocks at a time; six with
      // fp32 scores, whose build takes 80 registers a thread.
      {.kernel = "standard",
       .launch = "standard_softmax",
       .fixed_us = 2.6,
       .stall_cycles = 3550,
       .hiding = 1,
       .special = .35,
       .fp32 = .9,
       .blocks_per_sm = 10,
       .blocks_per_sm_fp32_scores = 6,
       .fitted_to = kH100},
      {.kernel = "standard",
       .launch = "standard_output",
       .fixed_us = 6,
       .hiding = 1,
       .tensor = .3,
       .blocks_per_sm = 1,
       .fitted_to = kH100},
      // One warp a block, which issues its own copies: rows that are no power of two long, and pages, cost it
      // addresses.
      {.kernel = "split-kv",
       .launch = "split_kv_decode",
       .fixed_us = 8.3,
       .block_cycles = 2200,
       .masked_tile = 1.4,
       .stall_cycles = 470,
       .hiding = 1.5,
       .one_stage_cycles = 75,
       .odd_row_cycles_per_kib = 60,
       .page_cycles_per_kib = 120,
       .kib_in_flight = 96,
       .fitted_to = kH100},
      // The same with TMA. Beyond 192 columns a ring of 32 KiB holds half of a tile.
      {.kernel = "split-kv",
       .launch = "split_kv_decode",
       .tma = true,
       .fixed_us = 4.6,
       .hiding = 1,
       .page_cycles = 104,
       .wide_cycles = 1420,
       .tensor = 1.09,
       .special = 2.3,
       .fp32 = 1.8,
       .shared = .16,
       .fitted_to = kH100},
      {.kernel = "split-kv", .launch = "split_kv_combine", .fixed_us = 6.2, .fitted_to = kH100},
      // Adds part after part, each when the one before has come from HBM.
      {.kernel = "pytorch-fa2",
       .launch = "fa2_splitkv_combine",
       .fixed_us = 5,
       .hiding = 1,
       .part_cycles = 690,
       .fitted_to = kH100},
      // Softmax and products of its warpgroups pass one another, but for a persistent block's first and last tile.
      {.kernel = "fa3",
       .launch = "fa3_forward",
       .fixed_us = 5.3,
       .block_cycles = 2500,
       .masked_tile = .65,
       .hiding = 1,
       .tensor = .84,
       .special = .74,
       .fp32 = .2,
       .fitted_to = kH100},
      {.kernel = "cudnn-9.19-sm90",
       .launch = "fa3_forward",
       .fixed_us = 8.5,
       .block_cycles = 1900,
       .masked_tile = .9,
       .stall_cycles = 200,
       .hiding = 1,
       .special = .3,
       .fp32 = .3,
       .fitted_to = kH200},
  };
  return calibrations;
}

bool LoadsByTma(std::string_view launch, const Tiling& t) { return launch == "split_kv_decode" && t.tma; }

const Calibration& CalibrationOf(std::string_view kernel, std::string_view launch, bool tma) {
  const Calibration* same_launch = nullptr;
  for (const Calibration& c : Calibrations()) {
    if (c.launch != launch || c.tma != tma) continue;
    if (c.kernel == kernel) return c;
    if (!same_launch) same_launch = &c;
  }
  if (same_launch) return *same_launch;
  // Other combine kernels are like the one that was timed, other loops over keys like fa2's.
  return launch.find("combine") != launch.npos ? CalibrationOf("split-kv", "split_kv_combine") : Calibrations().front();
}

}  // namespace bitflash::sim
