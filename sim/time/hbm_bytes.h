// The bytes that a launch moves to and from HBM while it runs: the one place where the time model takes them from.
#ifndef BITFLASH_SIM_TIME_HBM_BYTES_H_
#define BITFLASH_SIM_TIME_HBM_BYTES_H_

#include "data/gpu.h"
#include "sim/ledger.h"

namespace bitflash::sim {

// Reads are the compulsory ones: L2 is empty at the start, and nothing is read twice. Of the writes, what L2 still
// holds at the end has not left yet: with 50 MiB of L2 at most 28 MB, and less where reads took the place. A rule of
// recorded launches on an H200 (DRAM counters of 21 kernels), not a model of the cache.
Traffic HbmWhileRunning(const Ledger& ledger, const data::Gpu& gpu);

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_TIME_HBM_BYTES_H_
