// The prediction without a replay, for sweeps: arithmetic on the bytes that the counting machine gives.
#ifndef BITFLASH_SIM_L2_CLOSED_FORM_H_
#define BITFLASH_SIM_L2_CLOSED_FORM_H_

#include <vector>

#include "sim/l2/predict.h"

namespace bitflash::sim::l2 {

// Share of a working set that is read from DRAM again in every pass over it; `load` is the working set over the
// capacity, copies counted. From 0 to 1 around 1, as gpu/probes/l2_counters.py counts.
double MissRate(double load);

// The launches of `count`, without names and bounds. `rereads`: RereadsOf (predict.h) of the same arguments.
std::vector<Prediction> ClosedForm(const Kernel& kernel, const Attention& attention, const Tiling& tiling,
                                   const data::Gpu& gpu, const Count& count, Start start, const Rereads& rereads);

}  // namespace bitflash::sim::l2

#endif  // BITFLASH_SIM_L2_CLOSED_FORM_H_
