// Which keys are read from DRAM again by blocks that share them but are at different places: the exact mode's schedule
// replayed with slices of keys, a twenty-fourth of the capacity or less, in place of granules. For the closed form.
// skew.h says where the blocks are, stacks.h what the L2 still holds.
#ifndef BITFLASH_SIM_L2_DRIFT_H_
#define BITFLASH_SIM_L2_DRIFT_H_

#include <array>
#include <optional>
#include <vector>

#include "sim/count.h"

namespace bitflash::sim::l2 {

// An answer for the working set as it is, and for one so much smaller and larger: what nobody knows about it.
inline constexpr std::array<double, 3> kScales = {1, 0.85, 1.15};
using ByScale = std::array<double, kScales.size()>;

// For every launch the share of the bytes of K and V asked for that come from DRAM although they were read before.
// Nothing for launches whose blocks do not loop over keys that others read, too.
using Rereads = std::vector<std::optional<ByScale>>;

// `count` is CountKernel's answer for the same arguments; `always_in_use`: bytes of the L2 that each launch has for
// other things.
// Costs some ten nanoseconds for each of 6,000 reads of a slice by a block, of 120,000 where the heads are few and
// long; longer launches repeat themselves.
Rereads ReadAgain(const Kernel& kernel, const Attention& attention, const Tiling& tiling, const data::Gpu& gpu,
                  const Count& count, const std::vector<double>& always_in_use);

}  // namespace bitflash::sim::l2

#endif  // BITFLASH_SIM_L2_DRIFT_H_
