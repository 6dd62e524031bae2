// A tensor in device memory with NaN around it: in front, behind, and between its rows. A kernel that reads beyond the
// tensor gives a NaN, one that writes there changes bytes that are compared.
#ifndef BITFLASH_GPU_RECORD_GUARDED_H_
#define BITFLASH_GPU_RECORD_GUARDED_H_

#include <cstdint>

#include "gpu/kernels.h"

namespace bitflash::gpu {

// kContiguous: guards at both ends only. kHeadMajor, [batch, head, row]: also 16 bytes behind every row and a guard row
// behind every head. kTokenMajor, [batch, row, head]: 16 bytes behind every head's columns, a guard head behind every
// row and a guard row behind every sequence.
enum class Layout : uint8_t { kContiguous, kHeadMajor, kTokenMajor };

// Where the elements of a [batch, heads, rows, columns] tensor of 16-bit elements lie. Rows begin at multiples of 16
// bytes when `columns` is a multiple of 8.
struct Guarded {
  int64_t At(int64_t b, int64_t h, int64_t r) const {
    return offset + b * strides.batch + h * strides.head + r * strides.row;
  }
  int64_t bytes() const { return elements * 2; }

  Strides strides;
  int64_t offset = 0;    // of the first element
  int64_t elements = 0;  // with all guards
};

Guarded MakeGuarded(int64_t batch, int64_t heads, int64_t rows, int64_t columns, Layout layout);

}  // namespace bitflash::gpu

#endif  // BITFLASH_GPU_RECORD_GUARDED_H_
