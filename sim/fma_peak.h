// What the fp32 units of a SIMD target can do, for benchmarks to stand beside.
#ifndef BITFLASH_SIM_FMA_PEAK_H_
#define BITFLASH_SIM_FMA_PEAK_H_

#include <cstdint>

namespace bitflash::sim {

// Does some microseconds of independent fp32 multiply-adds in registers and returns how many.
int64_t RunFmaLoop();

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_FMA_PEAK_H_
