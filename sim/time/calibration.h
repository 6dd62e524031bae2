// The constants of the time model that no data sheet states: how well a kernel's schedule hides one unit's work behind
// another's, and what a launch and a block cost beside their tiles. Found by fitting measured times.
#ifndef BITFLASH_SIM_TIME_CALIBRATION_H_
#define BITFLASH_SIM_TIME_CALIBRATION_H_

#include <cstdint>
#include <string_view>
#include <vector>

#include "sim/tiling.h"

namespace bitflash::sim {

// Clocks are an SM's; they scale with the GPU's clock, the microseconds do not.
struct Calibration {
  std::string_view kernel;  // as in the list of kernels
  std::string_view launch;  // as in LaunchCount
  bool tma = false;         // split_kv_decode: of the build that loads by TMA (Tiling::tma)

  double fixed_us = 0;      // from the launch to the first tile and from the last one to the end, caches empty
  double block_cycles = 0;  // of a block: its first loads, its stores
  double masked_tile = 0;   // what a tile in which the mask hides something costs more, of a tile
  // Of a tile while a single block has the SM: what depends on what (loads, products, softmax, barriers) leaves units
  // idle. r blocks of at least four warps hide it from one another: stall_cycles / r^hiding stay.
  double stall_cycles = 0;
  double hiding = 2;
  double one_stage_cycles = 0;  // more of them where one buffer serves a tile and the next (Tiling::stages)
  // Clocks for the addresses of a KiB that is copied: for any, more where rows are no power of two long or lie in
  // pages. They stall like stall_cycles.
  double copy_cycles_per_kib = 0, odd_row_cycles_per_kib = 0, page_cycles_per_kib = 0;
  double page_cycles = 0;     // likewise, for every page of a tile, however long
  double wide_cycles = 0;     // likewise, for a tile with more than 192 columns
  double crowded_cycles = 0;  // likewise, for 64 columns of a tile of Q that is padding but for a row of one head
  double part_cycles = 0;     // likewise, for every part that a block adds to the others, one load after another
  // What is visible of each unit's own time when the SM is full: 1 is all of it.
  double tensor = 1, special = 1, fp32 = 1, shared = 0;

  // Of the L2 bandwidth that SMs attain with data of their own: more where blocks read the same lines in lock step,
  // which L2 delivers together.
  double l2_share = 1;
  double hbm_share = 1;  // of the bandwidth that a loop of reads attains
  // The kernel takes no more, where its own registers and buffers decide rather than its tiles (0: what fits).
  int64_t blocks_per_sm = 0;
  int64_t blocks_per_sm_fp32_scores = 0;  // likewise, with Tiling::fp32_scores
  // Of a persistent block that finds its next tile by walking over rows of tiles whose lengths a mask decides: each
  // row.
  double walked_row_cycles = 0;
  int64_t kib_in_flight = 0;   // or no more than load this much of K and V at once
  std::string_view fitted_to;  // the measured times; empty: taken over from another kernel
};

// Of a launch. Kernels that nobody timed take the constants of the nearest one that somebody did. `tma`: of two builds,
// the one that loads by TMA.
const Calibration& CalibrationOf(std::string_view kernel, std::string_view launch, bool tma = false);

// Whether it does; false for launches of which there is one build.
bool LoadsByTma(std::string_view launch, const Tiling& tiling);

const std::vector<Calibration>& Calibrations();

// On sm90 mma.sync reaches two thirds of the tensor cores' rate, which is stated for wgmma: 2729 of 4096 FLOP a clock
// and SM (data/golden/probes, an H100).
inline constexpr double kMmaSyncShareOnSm90 = 2729.0 / 4096;

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_TIME_CALIBRATION_H_
