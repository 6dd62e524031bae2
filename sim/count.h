// The counting machine's result: what a kernel costs, launch by launch, without executing it.
#ifndef BITFLASH_SIM_COUNT_H_
#define BITFLASH_SIM_COUNT_H_

#include <optional>
#include <string>
#include <vector>

#include "data/attention.h"
#include "data/gpu.h"
#include "sim/kernels/kernels.h"
#include "sim/ledger.h"
#include "sim/occupancy.h"
#include "sim/tiling.h"

namespace bitflash::sim {

struct LaunchCount {
  std::string name;  // "fa2_forward"
  Grid grid;
  Resources resources;
  Occupancy occupancy;  // on the GPU that was asked about
  double waves = 0;     // blocks / (SMs * blocks per SM)
  Ledger ledger;
};

struct Count {
  std::vector<LaunchCount> launches;
  Ledger total;
};

// Costs one evaluation of the kernel's text per distinct block, never per tile: microseconds to milliseconds.
// Throws UsageError when the kernel does not take the problem, when the tiling is infeasible on the GPU (naming the
// limit it breaks), when the queries are cut into more than 2^20 tiles (fa1: or the keys), or when a sum of counts
// passes 2^62.
Count CountKernel(const Kernel& kernel, const Attention& attention, const Tiling& tiling, const Gpu& gpu);

// Why `tiling` (or the problem itself) is not possible for the kernel on the GPU: one sentence with the limit, what is
// needed and what there is; empty when it is possible.
std::string Infeasible(const Kernel& kernel, const Attention& attention, const Tiling& tiling, const Gpu& gpu);

// What a user chose of a tiling; everything else is the published kernel's choice.
struct TilingChoice {
  std::optional<int64_t> Br, Bc, warps, stages, splits, part_keys, page_size;
  std::optional<bool> pack_gqa, fp32_scores;
};

// The published tiling with the user's choices in it; a chosen tile without a number of warps gets 4, or 8 when its
// registers need them. Not checked for feasibility: CountKernel does that.
Tiling ResolveTiling(const Kernel& kernel, const Attention& attention, const Gpu& gpu, const TilingChoice& choice);

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_COUNT_H_
