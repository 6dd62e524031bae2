#include "sim/packed_operand.h"

#include <algorithm>
#include <cassert>
#include <cstring>

// The scalable targets are left out: nobody has run this on them, and 128-bit NEON serves the same processors.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sim/packed_operand.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace bitflash::sim {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Decodes `count` patterns, a multiple of 32, to values and exponents.
void DecodePatterns(data::Format format, const uint32_t* bits, int64_t count, float* values, int32_t* exponents) {
  const data::FormatInfo& info = data::Info(format);
  const hn::CappedTag<uint32_t, 32> du;
  const hn::RebindToSigned<decltype(du)> di;
  const hn::RebindToFloat<decltype(du)> df;
  const int width = info.exponent_bits + info.fraction_bits;  // of the magnitude
  const int unused = format == data::Format::kTf32 ? 13 : 0;  // low bits that the tensor core drops
  const uint32_t top = ((1u << info.exponent_bits) - 1) << info.fraction_bits;
  const auto infinity = hn::Set(di, info.has_infinity ? static_cast<int32_t>(top) : -1);
  const auto last_finite =
      hn::Set(di, static_cast<int32_t>(info.has_infinity ? top - 1 : top + (1u << info.fraction_bits) - 2));
  const auto magnitude_mask = hn::Set(du, (1u << width) - 1);
  // The bits of a narrow format, moved to fp32's fraction, mean a number that is too small by the difference of biases.
  const auto rebias = hn::BitCast(df, hn::Set(di, (254 - info.bias) << 23));
  const auto bias = hn::Set(di, info.bias), one = hn::Set(di, 1);
  for (int64_t i = 0; i < count; i += static_cast<int64_t>(hn::Lanes(du))) {
    const auto pattern = hn::ShiftRightSame(hn::LoadU(du, bits + i), unused);
    const auto unsigned_magnitude = hn::And(pattern, magnitude_mask);
    const auto magnitude = hn::BitCast(di, unsigned_magnitude);
    const auto sign = hn::ShiftLeftSame(hn::AndNot(magnitude_mask, pattern), 31 - width);
    auto value = hn::Mul(hn::BitCast(df, hn::ShiftLeftSame(unsigned_magnitude, 23 - info.fraction_bits)), rebias);
    auto exponent = hn::Sub(hn::Max(hn::ShiftRightSame(magnitude, info.fraction_bits), one), bias);
    exponent = hn::IfThenElse(hn::Eq(magnitude, hn::Zero(di)), hn::Set(di, kExponentOfZero), exponent);
    const auto special = hn::Gt(magnitude, last_finite);
    exponent = hn::IfThenElse(special, hn::Set(di, kExponentOfSpecial), exponent);
    const auto special_value =
        hn::IfThenElse(hn::Eq(magnitude, infinity), hn::Set(di, 0x7F800000), hn::Set(di, 0x7FFFFFFF));
    value = hn::IfThenElse(hn::RebindMask(df, special), hn::BitCast(df, special_value), value);
    hn::StoreU(hn::Or(value, hn::BitCast(df, sign)), df, values + i);
    hn::StoreU(exponent, di, exponents + i);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace bitflash::sim
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bitflash::sim {
namespace {

HWY_EXPORT(DecodePatterns);

constexpr int64_t kChunk = 256;  // patterns decoded at a time, through the stack
static_assert(kChunk % kPanelColumns == 0 && kChunk % kDepthMultiple == 0);

int64_t RoundUp(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

template <typename T>
void Widen(const MatrixView& view, int64_t i, int64_t j, int64_t count, uint32_t* bits) {
  const T* from = static_cast<const T*>(view.data) + i * view.row_stride + j * view.column_stride;
  if (view.column_stride == 1) {
    for (int64_t n = 0; n < count; ++n) bits[n] = from[n];
  } else {
    for (int64_t n = 0; n < count; ++n) bits[n] = from[n * view.column_stride];
  }
}

// Patterns (i, j), (i, j + 1), ..., then zeros up to `padded`.
void ReadRow(const MatrixView& view, int64_t i, int64_t j, int64_t count, int64_t padded, uint32_t* bits) {
  switch (data::StorageBytes(view.format)) {
    case 1:
      Widen<uint8_t>(view, i, j, count, bits);
      break;
    case 2:
      Widen<uint16_t>(view, i, j, count, bits);
      break;
    default:
      Widen<uint32_t>(view, i, j, count, bits);
  }
  std::fill(bits + count, bits + padded, 0u);
}

}  // namespace

void PackedRows::Pack(const MatrixView& a) {
  assert(data::StorageBytes(a.format) <= 4);
  format_ = a.format, rows_ = a.rows, depth_ = a.columns, stride_ = RoundUp(a.columns, kDepthMultiple);
  values_.Resize(rows_ * stride_);
  exponents_.Resize(rows_ * stride_);
  alignas(64) uint32_t bits[kChunk];
  for (int64_t i = 0; i < rows_; ++i) {
    for (int64_t k = 0; k < stride_; k += kChunk) {
      const int64_t padded = std::min(kChunk, stride_ - k);
      ReadRow(a, i, k, std::clamp<int64_t>(depth_ - k, 0, padded), padded, bits);
      int32_t* exponents = exponents_.data() + i * stride_ + k;
      HWY_DYNAMIC_DISPATCH(DecodePatterns)(format_, bits, padded, values_.data() + i * stride_ + k, exponents);
      for (int64_t n = 0; n < padded; ++n) exponents[n] = (exponents[n] & 0xFFFF) | (exponents[n] * 65536);
    }
  }
}

void PackedColumns::Pack(const MatrixView& b) {
  assert(data::StorageBytes(b.format) <= 4);
  format_ = b.format, depth_ = b.rows, columns_ = b.columns, stride_ = RoundUp(b.rows, kDepthMultiple);
  values_.Resize(panels() * stride_ * kPanelColumns);
  exponents_.Resize(panels() * stride_ * kPanelColumns);
  alignas(64) uint32_t bits[kChunk];
  alignas(64) int32_t exponents[kChunk];
  constexpr int64_t kRowsPerChunk = kChunk / kPanelColumns;
  for (int64_t panel = 0; panel < panels(); ++panel) {
    const int64_t columns = std::min(kPanelColumns, columns_ - panel * kPanelColumns);
    for (int64_t k = 0; k < stride_; k += kRowsPerChunk) {
      for (int64_t row = 0; row < kRowsPerChunk; ++row) {
        ReadRow(b, k + row, panel * kPanelColumns, k + row < depth_ ? columns : 0, kPanelColumns,
                bits + row * kPanelColumns);
      }
      const int64_t at = (panel * stride_ + k) * kPanelColumns;
      HWY_DYNAMIC_DISPATCH(DecodePatterns)(format_, bits, kChunk, values_.data() + at, exponents);
      for (int64_t n = 0; n < kChunk; ++n) exponents_.data()[at + n] = static_cast<int16_t>(exponents[n]);
    }
  }
}

}  // namespace bitflash::sim
#endif  // HWY_ONCE
