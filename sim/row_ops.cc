#include "sim/row_ops.h"

#include <cmath>

#include "sim/gpu_float.h"

#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)  // as in packed_operand.cc
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sim/row_ops.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace bitflash::sim {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

// Targets without an FMA instruction round a MulAdd twice: there std::fma, which is exact in software, does it.
#if HWY_TARGET == HWY_SSSE3 || HWY_TARGET == HWY_SSE4 || HWY_TARGET == HWY_EMU128 || HWY_TARGET == HWY_SCALAR || \
    (defined(HWY_SSE2) && HWY_TARGET == HWY_SSE2)
constexpr bool kHasFma = false;
#else
constexpr bool kHasFma = true;
#endif

// Calls op(vector of x) -> vector for whole vectors and scalar(x) for the rest.
template <class Op, class Scalar>
HWY_INLINE void ForEach(float* x, int64_t count, const Op& op, const Scalar& scalar) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) hn::StoreU(op(hn::LoadU(d, x + i), i), d, x + i);
  for (; i < count; ++i) x[i] = scalar(x[i], i);
}

float RowMaximumSpan(const float* x, int64_t count, float start) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  V most = hn::Set(d, start);
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const V v = hn::LoadU(d, x + i);
    // Greater-than is false for NaN in v. `most` is NaN only when `start` is: then v replaces it.
    const auto take = hn::Or(hn::Gt(v, most), hn::IsNaN(most));
    most = hn::IfThenElse(take, v, most);
  }
  float result = start;
  HWY_ALIGN float parts[hn::MaxLanes(d)];
  hn::Store(most, d, parts);
  for (int64_t lane = 0; lane < lanes; ++lane) result = Maximum(result, parts[lane]);
  for (; i < count; ++i) result = Maximum(result, x[i]);
  return result;
}

void MultiplySpan(float* x, int64_t count, float factor) {
  const V f = hn::Set(D(), factor);
  ForEach(
      x, count, [&](V v, int64_t) { return hn::Mul(v, f); }, [&](float v, int64_t) { return v * factor; });
}

void SubtractSpan(float* x, int64_t count, float value) {
  const V s = hn::Set(D(), value);
  ForEach(
      x, count, [&](V v, int64_t) { return hn::Sub(v, s); }, [&](float v, int64_t) { return v - value; });
}

void FmaSpanRow(float* x, int64_t count, float factor, float addend) {
  if constexpr (kHasFma) {
    const V f = hn::Set(D(), factor), a = hn::Set(D(), addend);
    ForEach(
        x, count, [&](V v, int64_t) { return hn::MulAdd(v, f, a); },
        [&](float v, int64_t) { return std::fma(v, factor, addend); });
  } else {
    for (int64_t i = 0; i < count; ++i) x[i] = std::fma(x[i], factor, addend);
  }
}

void FmaIntoSpan(float* x, const float* y, int64_t count, float factor) {
  if constexpr (kHasFma) {
    const D d;
    const V f = hn::Set(d, factor);
    ForEach(
        x, count, [&](V v, int64_t i) { return hn::MulAdd(hn::LoadU(d, y + i), f, v); },
        [&](float v, int64_t i) { return std::fma(y[i], factor, v); });
  } else {
    for (int64_t i = 0; i < count; ++i) x[i] = std::fma(y[i], factor, x[i]);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace bitflash::sim
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bitflash::sim {
namespace {

HWY_EXPORT(RowMaximumSpan);
HWY_EXPORT(MultiplySpan);
HWY_EXPORT(SubtractSpan);
HWY_EXPORT(FmaSpanRow);
HWY_EXPORT(FmaIntoSpan);

int64_t Size(std::span<const float> x) { return static_cast<int64_t>(x.size()); }

}  // namespace

float RowMaximum(std::span<const float> x, float start) {
  return HWY_DYNAMIC_DISPATCH(RowMaximumSpan)(x.data(), Size(x), start);
}
void MultiplyRow(std::span<float> x, float factor) { HWY_DYNAMIC_DISPATCH(MultiplySpan)(x.data(), Size(x), factor); }
void SubtractRow(std::span<float> x, float value) { HWY_DYNAMIC_DISPATCH(SubtractSpan)(x.data(), Size(x), value); }
void FmaRow(std::span<float> x, float factor, float addend) {
  HWY_DYNAMIC_DISPATCH(FmaSpanRow)(x.data(), Size(x), factor, addend);
}
void FmaIntoRow(std::span<float> x, std::span<const float> y, float factor) {
  HWY_DYNAMIC_DISPATCH(FmaIntoSpan)(x.data(), y.data(), Size(x), factor);
}

}  // namespace bitflash::sim
#endif  // HWY_ONCE
