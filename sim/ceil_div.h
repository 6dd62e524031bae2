// How many tiles, steps or units cover a length.
#ifndef BITFLASH_SIM_CEIL_DIV_H_
#define BITFLASH_SIM_CEIL_DIV_H_

#include <cstdint>

namespace bitflash::sim {

// a / b rounded up, for a >= 0 and b > 0 with a + b in range.
constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_CEIL_DIV_H_
