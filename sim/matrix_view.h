// A read-only matrix of number bit patterns in memory, with any strides, so that a transpose costs nothing.
#ifndef BITFLASH_SIM_MATRIX_VIEW_H_
#define BITFLASH_SIM_MATRIX_VIEW_H_

#include <cstdint>
#include <cstring>

#include "data/format.h"

namespace bitflash::sim {

// Element (i, j) lies `i * row_stride + j * column_stride` elements behind `data`, which is aligned as the elements
// are.
struct MatrixView {
  const void* data = nullptr;
  data::Format format = data::Format::kBf16;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t row_stride = 0;     // elements
  int64_t column_stride = 1;  // elements

  static MatrixView RowMajor(const void* data, data::Format format, int64_t rows, int64_t columns) {
    return {data, format, rows, columns, columns, 1};
  }

  MatrixView Transposed() const { return {data, format, columns, rows, column_stride, row_stride}; }

  // The element's bit pattern in the low StorageBytes(format) bytes; formats of up to 4 bytes.
  uint32_t Bits(int64_t i, int64_t j) const {
    const int64_t bytes = data::StorageBytes(format);
    const char* element = static_cast<const char*>(data) + (i * row_stride + j * column_stride) * bytes;
    if (bytes == 1) return static_cast<uint8_t>(*element);
    if (bytes == 2) return Read<uint16_t>(element);
    return Read<uint32_t>(element);
  }

 private:
  template <typename T>
  static T Read(const char* from) {
    T value;
    std::memcpy(&value, from, sizeof(value));
    return value;
  }
};

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_MATRIX_VIEW_H_
