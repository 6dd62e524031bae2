// The operands of a tile product, decoded once into planes that vectors load: values as fp32 and exponents as int16.
//
// Every number of an input format is an fp32 number, so the value plane is exact. Its exponent is kept beside it
// because a subnormal's is its format's least, which fp32 does not show, and because the alignment needs nothing else.
#ifndef BITFLASH_SIM_PACKED_OPERAND_H_
#define BITFLASH_SIM_PACKED_OPERAND_H_

#include <cstdint>

#include "sim/aligned_array.h"
#include "sim/matrix_view.h"

namespace bitflash::sim {

// Exponents of what has none. Sums of two of any kind stay in int16; a sum with kExponentOfSpecial in it is above every
// sum of finite ones even when the other operand is zero (infinity times zero is NaN), and one with kExponentOfZero and
// no special is below.
inline constexpr int kExponentOfZero = -4000;
inline constexpr int kExponentOfSpecial = 12000;  // infinity or NaN

inline constexpr int64_t kPanelColumns = 32;   // B is cut into panels of so many columns, the last padded with zeros
inline constexpr int64_t kDepthMultiple = 32;  // k is padded with zeros to a multiple of the longest step

// A, [rows x depth].
class PackedRows {
 public:
  // Decodes `a`, replacing the content; memory is kept for the next call.
  void Pack(const MatrixView& a);

  data::Format format() const { return format_; }
  int64_t rows() const { return rows_; }
  int64_t depth() const { return depth_; }
  int64_t stride() const { return stride_; }  // elements from row to row
  const float* values(int64_t row) const { return values_.data() + row * stride_; }
  // The exponent in both halves of 32 bits: vectors broadcast 32 bits from memory at no cost, not 16.
  const int32_t* exponents(int64_t row) const { return exponents_.data() + row * stride_; }

 private:
  data::Format format_ = data::Format::kBf16;
  int64_t rows_ = 0, depth_ = 0, stride_ = 0;
  AlignedArray<float> values_;
  AlignedArray<int32_t> exponents_;
};

// B, [depth x columns], in panels [panel][depth][kPanelColumns].
class PackedColumns {
 public:
  // Decodes `b`, replacing the content. For S = Q K^T pass K's view transposed: packing transposes.
  void Pack(const MatrixView& b);

  data::Format format() const { return format_; }
  int64_t depth() const { return depth_; }
  int64_t columns() const { return columns_; }
  int64_t panels() const { return (columns_ + kPanelColumns - 1) / kPanelColumns; }
  const float* values(int64_t panel) const { return values_.data() + panel * stride_ * kPanelColumns; }
  const int16_t* exponents(int64_t panel) const { return exponents_.data() + panel * stride_ * kPanelColumns; }

 private:
  data::Format format_ = data::Format::kBf16;
  int64_t depth_ = 0, columns_ = 0, stride_ = 0;
  AlignedArray<float> values_;
  AlignedArray<int16_t> exponents_;
};

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_PACKED_OPERAND_H_
