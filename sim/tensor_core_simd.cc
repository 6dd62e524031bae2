#include "sim/tensor_core_simd.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cfenv>
#include <cmath>
#include <string>
#include <vector>

#include "data/error.h"
#include "sim/tensor_core_panel.h"
#include "sim/tensor_core_scalar.h"

#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)  // as in packed_operand.cc
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sim/tensor_core_simd.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "sim/tensor_core_simd-inl.h"

#if HWY_ONCE
namespace bitflash::sim {
namespace {

HWY_EXPORT(MultiplyPanel);

// The operand that the planes hold, for the scalar definition.
Decoded FromPlanes(float value, int exponent) {
  const bool negative = std::signbit(value);
  if (std::isnan(value)) return {.kind = Decoded::Kind::kNan};
  if (std::isinf(value)) return {.kind = Decoded::Kind::kInfinity, .negative = negative};
  if (value == 0) return {.negative = negative};
  const float significand = std::ldexp(std::fabs(value), 23 - exponent);  // an integer below 2^24
  return {.negative = negative, .exponent = exponent, .significand = static_cast<int64_t>(significand)};
}

// Rounds toward zero while it lives. Inside, every other floating-point operation is exact or may truncate too, and the
// conversions from integers, which decide the bits, need no more than one instruction on any target.
class TruncatingMode {
 public:
  TruncatingMode() : before_(std::fegetround()) { std::fesetround(FE_TOWARDZERO); }
  ~TruncatingMode() { std::fesetround(before_); }
  TruncatingMode(const TruncatingMode&) = delete;
  TruncatingMode& operator=(const TruncatingMode&) = delete;

 private:
  int before_;
};

void Check(const TensorCore& core, data::Format format, const char* operand) {
  if (format != core.input) {
    throw data::UsageError(std::string(operand) + " is " + std::string(data::Name(format)) + ": " + ToString(core) +
                           " takes " + std::string(data::Name(core.input)));
  }
}

void MultiplyAddOneByOne(const TensorCore& core, const PackedRows& a, const PackedColumns& b, float* accumulator,
                         int64_t row_stride, int64_t row_begin, int64_t row_end) {
  std::vector<Decoded> row(a.depth()), column(a.depth());
  for (int64_t j = 0; j < b.columns(); ++j) {
    const int64_t panel = j / kPanelColumns, offset = j % kPanelColumns;
    for (int64_t k = 0; k < a.depth(); ++k) {
      const int64_t at = k * kPanelColumns + offset;
      column[k] = FromPlanes(b.values(panel)[at], b.exponents(panel)[at]);
    }
    for (int64_t i = row_begin; i < row_end; ++i) {
      for (int64_t k = 0; k < a.depth(); ++k) {
        row[k] = FromPlanes(a.values(i)[k], static_cast<int16_t>(a.exponents(i)[k]));
      }
      float& d = accumulator[i * row_stride + j];
      d = AccumulatorValue(core.accumulator,
                           DotProductAdd(core, std::span<const Decoded>(row), std::span<const Decoded>(column),
                                         AccumulatorPattern(core.accumulator, d)));
    }
  }
}

}  // namespace

float PanelStepOneByOne(const TensorCore& core, const float* a_values, const int32_t* a_exponents,
                        const float* b_values, const int16_t* b_exponents, float c) {
  Decoded a[kDepthMultiple], b[kDepthMultiple];
  const size_t products = static_cast<size_t>(core.products);
  for (size_t k = 0; k < products; ++k) {
    a[k] = FromPlanes(a_values[k], static_cast<int16_t>(a_exponents[k]));
    b[k] = FromPlanes(b_values[k * kPanelColumns], b_exponents[k * kPanelColumns]);
  }
  return std::bit_cast<float>(FusedStep(core, {a, products}, {b, products}, std::bit_cast<uint32_t>(c)));
}

void MultiplyAdd(const TensorCore& core, const PackedRows& a, const PackedColumns& b, float* accumulator,
                 int64_t row_stride, int64_t row_begin, int64_t row_end) {
  Check(core, a.format(), "A");
  Check(core, b.format(), "B");
  if (a.depth() != b.depth()) {
    throw data::UsageError("A has " + std::to_string(a.depth()) + " columns and B " + std::to_string(b.depth()) +
                           " rows: expected the same number");
  }
  assert(0 <= row_begin && row_begin <= row_end && row_end <= a.rows());
  if (core.accumulator != data::Format::kFp32 || core.accumulator_add != AccumulatorAdd::kInEveryStep) {
    MultiplyAddOneByOne(core, a, b, accumulator, row_stride, row_begin, row_end);
    return;
  }
  const TruncatingMode truncating;
  for (int64_t panel = 0; panel < b.panels(); ++panel) {
    const PanelProduct product{.core = core,
                               .a = a,
                               .b_values = b.values(panel),
                               .b_exponents = b.exponents(panel),
                               .columns = std::min(kPanelColumns, b.columns() - panel * kPanelColumns),
                               .accumulator = accumulator + panel * kPanelColumns,
                               .row_stride = row_stride,
                               .row_begin = row_begin,
                               .row_end = row_end};
    HWY_DYNAMIC_DISPATCH(MultiplyPanel)(product);
  }
}

}  // namespace bitflash::sim
#endif  // HWY_ONCE
