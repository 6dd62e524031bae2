// The bytes that a launch moves to and from HBM while it runs: the one place where the time model takes them from.
#ifndef BITFLASH_SIM_TIME_HBM_BYTES_H_
#define BITFLASH_SIM_TIME_HBM_BYTES_H_

#include <vector>

#include "sim/count.h"
#include "sim/l2/drift.h"

namespace bitflash::sim {

// Of every launch of `count`, in order: what sim/l2 predicts in closed form for an L2 that is empty when the launch
// starts, but for the lines that the GPU always finds dirty. Reads that L2 could not keep are in it; of the writes,
// what L2 still holds at the end is not. `rereads` as in l2::PredictOptions.
std::vector<Traffic> HbmWhileRunning(const Kernel& kernel, const Attention& attention, const Tiling& tiling,
                                     const data::Gpu& gpu, const Count& count, const l2::Rereads* rereads = nullptr);

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_TIME_HBM_BYTES_H_
