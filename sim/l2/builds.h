// Facts of compiled kernels that bytes behind the L2 depend on and that no text of the kernel says: local memory, cache
// hints, and how evenly the blocks of an SM share it. Found in counters and sources; each names which.
#ifndef BITFLASH_SIM_L2_BUILDS_H_
#define BITFLASH_SIM_L2_BUILDS_H_

#include <cstdint>
#include <string_view>

#include "sim/kernels/kernels.h"
#include "sim/l2/cache.h"
#include "sim/tile.h"

namespace bitflash::sim::l2 {

struct Build {
  // Local memory: bytes that every thread stores for each key tile, and others once per block. They pass through L1 to
  // L2 (stores are written through) and are loaded back from L1.
  int64_t spilled_per_tile = 0, spilled_per_block = 0;
  // Of what is stored for each key tile, the share that reaches HBM though the next tile's stores come soon (fitted).
  double leaked = 0;
  // Places in local memory that an SM's blocks use in turn; 0: a block takes that of the one whose slot it takes.
  int64_t places = 0;
  // What a block gets of its SM, relative to the one that is resident longer: 1 when the blocks of an SM stay in step.
  double younger = 1;
  // How much faster an SM is in whose CPC one of three TPCs is missing, relative to the others.
  double roomy_cpc = 1;
};
inline constexpr int64_t kSpillGranules = 8;  // of every block: half for each kind

// Known for sm90; elsewhere a build without peculiarities is assumed.
Build BuildOf(const Kernel& kernel, std::string_view launch, const Attention& attention, const Tiling& tiling,
              const Gpu& gpu);

// The eviction priority that the launch asks for when it moves a tile.
Hint HintOf(const Kernel& kernel, std::string_view launch, TensorId tensor, bool write, const Attention& attention,
            const Tiling& tiling);

}  // namespace bitflash::sim::l2

#endif  // BITFLASH_SIM_L2_BUILDS_H_
