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

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_KERNELS_ENTRIES_H_
