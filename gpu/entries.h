// Every kernel file defines one of these; kernels.cc lists them.
#ifndef BITFLASH_GPU_ENTRIES_H_
#define BITFLASH_GPU_ENTRIES_H_

#include "gpu/kernels.h"

namespace bitflash::gpu {

Kernel Fa2Forward();     // fa2_forward.cu
Kernel SplitKvDecode();  // split_kv_decode.cu

}  // namespace bitflash::gpu

#endif  // BITFLASH_GPU_ENTRIES_H_
