// Local memory that shipped kernels use because their registers do not suffice: facts of their builds.
#ifndef BITFLASH_SIM_L2_SPILL_H_
#define BITFLASH_SIM_L2_SPILL_H_

#include <cstdint>
#include <string_view>

#include "sim/kernels/kernels.h"

namespace bitflash::sim::l2 {

// Bytes that every thread stores for each key tile, always to the same place. They pass through L1 to L2 (stores are
// written through) and are loaded back from L1.
struct Spill {
  int64_t bytes_per_tile = 0;
};
inline constexpr int64_t kSpillGranules = 4;  // of every slot

Spill SpillOf(const Kernel& kernel, std::string_view launch, const Attention& attention, const Tiling& tiling);

}  // namespace bitflash::sim::l2

#endif  // BITFLASH_SIM_L2_SPILL_H_
