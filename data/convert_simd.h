// Conversion of whole arrays, with the SIMD instructions of the machine it runs on.
//
// Every element has the bits that convert.h defines, on every SIMD target: the rounding is integer arithmetic, because
// conversion instructions and Highway's own conversions differ (Highway 1.0 truncates fp32 to bf16).
#ifndef BITFLASH_DATA_CONVERT_SIMD_H_
#define BITFLASH_DATA_CONVERT_SIMD_H_

#include <cstdint>

#include "data/convert.h"
#include "data/format.h"

namespace bitflash::data {

// Decodes `count` contiguous elements of `format` to fp32. `in` is aligned to one element; in and out do not overlap.
// Exact, except that fp64 is rounded to nearest even. The low 13 bits of tf32 are ignored.
void ToFloat(Format format, const void* in, float* out, int64_t count);

// Encodes `count` contiguous elements. `out` is aligned to one element; in and out do not overlap. fp64 is exact.
void FromFloat(Format format, const float* in, void* out, int64_t count, Rounding rounding, Overflow overflow);

inline void FromFloat(Format format, const float* in, void* out, int64_t count,
                      Rounding rounding = Rounding::kNearestEven) {
  FromFloat(format, in, out, count, rounding, UsualOverflow(format));
}

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_CONVERT_SIMD_H_
