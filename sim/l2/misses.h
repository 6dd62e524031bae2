// Why a prediction and a count differ, as far as it is known. Decided from the launch, not from its name in a list.
#ifndef BITFLASH_SIM_L2_MISSES_H_
#define BITFLASH_SIM_L2_MISSES_H_

#include <string>

#include "sim/l2/recorded_calls.h"

namespace bitflash::sim::l2 {

// DRAM reads within 5 % (15 % in the knee) or 2 MB, and writes within 5 % or 2 MB.
bool ReadIsMissed(const Compared& launch);
bool WriteIsMissed(const Compared& launch);

// Empty when it is not missed.
std::string ReasonOfRead(const Compared& launch);
std::string ReasonOfWrite(const Compared& launch);

}  // namespace bitflash::sim::l2

#endif  // BITFLASH_SIM_L2_MISSES_H_
