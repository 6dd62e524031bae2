// One function per CUDA kernel; kernels.cc lists them.
#ifndef BITFLASH_GPU_ENTRIES_H_
#define BITFLASH_GPU_ENTRIES_H_

#include "gpu/kernels.h"

namespace bitflash::gpu {

const Kernel& Fa2Forward();
const Kernel& Fa3Forward();
const Kernel& SplitKvDecode();
const Kernel& StandardForward();

// The path of devices without wgmma, on any device: tests compare the two on Hopper. Its tile is another one.
const Kernel& StandardForwardPortable();

// The path of devices without TMA, on any device: the same bits.
const Kernel& SplitKvDecodePortable();

// The rule by which the softmax of standard attention reads a row of scores once (sim/tiling.h, row_on_chip); it
// decides bits. Longer rows are read twice, in slices.
bool StandardRowOnChip(int64_t seqlen_k, int64_t shared_bytes_per_block);

}  // namespace bitflash::gpu

#endif  // BITFLASH_GPU_ENTRIES_H_
