// Inputs of AmxAttention as bf16. Internal.
#ifndef BITFLASH_REFERENCE_AMX_ROUNDING_H_
#define BITFLASH_REFERENCE_AMX_ROUNDING_H_

#include <cstdint>

#include "data/convert_simd.h"
#include "data/format.h"

namespace bitflash::reference {

// The row as bf16: where it lies, or rounded into `rounded`. wide: [columns].
inline const uint16_t* AsBf16(data::Format format, const void* row, int64_t columns, float* wide, uint16_t* rounded) {
  if (format == data::Format::kBf16) return static_cast<const uint16_t*>(row);
  const float* values = static_cast<const float*>(row);
  if (format != data::Format::kFp32) {
    data::ToFloat(format, row, wide, columns);
    values = wide;
  }
  data::FromFloat(data::Format::kBf16, values, rounded, columns);
  return rounded;
}

}  // namespace bitflash::reference

#endif  // BITFLASH_REFERENCE_AMX_ROUNDING_H_
