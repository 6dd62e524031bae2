// The logarithm of a row's sum: one per row, and the library's takes as long as a tenth of a short row. Internal.
#ifndef BITFLASH_REFERENCE_FAST_LOG_H_
#define BITFLASH_REFERENCE_FAST_LOG_H_

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace bitflash::reference {

// log x within 2^-38 of its size, more than an fp32 result needs, for normal numbers. Without branches: a loop over it
// becomes one over vectors.
inline double NormalLog(float x) {
  // x = 2^e f with f from sqrt(1/2) to sqrt(2); log f = 2 artanh s with s = (f - 1) / (f + 1), |s| < 0.172.
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const int32_t e = static_cast<int32_t>(bits - 0x3F3504F3u) >> 23;
  const double f = std::bit_cast<float>(bits - (static_cast<uint32_t>(e) << 23));
  const double s = (f - 1) / (f + 1), z = s * s;
  const double series = 1.0 + z * (1.0 / 3 + z * (1.0 / 5 + z * (1.0 / 7 + z * (1.0 / 9 + z * (1.0 / 11 + z / 13)))));
  return static_cast<double>(e) * 0x1.62e42fefa39efp-1 + 2 * s * series;
}

inline bool HasNormalLog(float x) {
  return x >= std::numeric_limits<float>::min() && x <= std::numeric_limits<float>::max();
}

// Of any number: as std::log where x is 0, negative, infinite or NaN.
inline double FastLog(float x) { return HasNormalLog(x) ? NormalLog(x) : std::log(static_cast<double>(x)); }

}  // namespace bitflash::reference

#endif  // BITFLASH_REFERENCE_FAST_LOG_H_
