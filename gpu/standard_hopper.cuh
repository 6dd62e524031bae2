// The two matrix products of standard attention with TMA and wgmma: the same bits as with mma.sync, because on compute
// capability 9.0 both instructions are the same sum of 16 products.
//
// A block is three warpgroups. One thread of the first keeps a ring of stages in shared memory filled; the other two
// multiply, each kBr / 2 rows of the tile, and store through shared memory with TMA, warp by warp: no warp waits for
// another. All addresses of shared memory are 32-bit.
#ifndef BITFLASH_GPU_STANDARD_HOPPER_CUH_
#define BITFLASH_GPU_STANDARD_HOPPER_CUH_

#include <cmath>

#include "gpu/standard.cuh"
#include "gpu/warp_specialized.cuh"
#include "gpu/wgmma.cuh"

namespace bitflash::gpu {

inline constexpr int kHopperThreads = 384;
inline constexpr int kProducerRegisters = 40, kConsumerRegisters = 232;  // 40 + 2 * 232 <= 3 * 168
inline constexpr int kConsumerWarps = 8;

}  // namespace bitflash::gpu

#endif  // BITFLASH_GPU_STANDARD_HOPPER_CUH_
