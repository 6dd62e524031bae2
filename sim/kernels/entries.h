// Every kernel file defines one of these; kernels.cc lists them.
#ifndef BITFLASH_SIM_KERNELS_ENTRIES_H_
#define BITFLASH_SIM_KERNELS_ENTRIES_H_

#include "sim/kernels/kernels.h"

namespace bitflash::sim {

Kernel StandardForward();  // standard_forward.cc
Kernel Fa1Forward();       // fa1_forward.cc
Kernel Fa2Forward();       // fa2_forward.cc
Kernel Fa3Forward();       // fa3_forward.cc
Kernel SplitKvDecode();    // split_kv_decode.cc
Kernel PytorchFa2();       // pytorch_fa2.cc
Kernel CudnnForward();     // cudnn_forward.cc

// The launch of Fa3Forward, for kernels that differ in their recipe and their tiling. `p_replaces_s`: P takes over the
// registers of S, so the next tile's product waits for this one's.
void RunFa3(Stream& stream, const Attention& attention, const Tiling& tiling, const Recipe& recipe, bool p_replaces_s);

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_KERNELS_ENTRIES_H_
