// The online softmax of some rows and one tile of keys, per SIMD target. Included once per target by each file of
// kernels.
#if defined(BITFLASH_REFERENCE_CPU_SOFTMAX_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BITFLASH_REFERENCE_CPU_SOFTMAX_INL_H_
#undef BITFLASH_REFERENCE_CPU_SOFTMAX_INL_H_
#else
#define BITFLASH_REFERENCE_CPU_SOFTMAX_INL_H_
#endif

#include <algorithm>
#include <cmath>
#include <limits>

#include "hwy/highway.h"
#include "reference/cpu_exp-inl.h"
#include "reference/cpu_kernels.h"
#include "reference/fast_log.h"

HWY_BEFORE_NAMESPACE();
namespace bitflash::reference {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::CappedTag<float, kPartialSums>;
using V = hn::Vec<D>;
inline constexpr int64_t kLanes = HWY_MIN(static_cast<int64_t>(HWY_LANES(float)), kPartialSums);
inline constexpr int64_t kVectorsPerSum = kPartialSums / kLanes;
inline constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// The columns [begin, end) of a tile, multiples of kPartialSums.
struct Columns {
  int64_t begin, end;
};

HWY_INLINE void CapScores(const ScoreRule& rule, Columns columns, float* HWY_RESTRICT S) {
  const D d;
  for (int64_t j = columns.begin; j < columns.end; j += kLanes) {
    const V s = hn::Mul(hn::Load(d, S + j), hn::Set(d, rule.cap_factor));
    hn::Store(hn::Mul(hn::Set(d, rule.softcap), Tanh(d, s)), d, S + j);
  }
}

// Hides the columns outside [begin, end).
HWY_INLINE void MaskScores(Columns columns, int64_t begin, int64_t end, float* HWY_RESTRICT S) {
  const D d;
  const hn::RebindToSigned<D> di;
  // hn::Iota would write its lanes to memory one by one and wait to read them as a vector.
  HWY_ALIGN static constexpr int32_t kLane[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const auto lane = hn::Load(di, kLane);
  const auto mask = [&](int64_t j) HWY_ATTR {
    const auto before = hn::Lt(lane, hn::Set(di, static_cast<int32_t>(begin - j)));
    const auto inside = hn::Lt(lane, hn::Set(di, static_cast<int32_t>(end - j)));
    const auto hidden = hn::Or(before, hn::Not(inside));
    hn::Store(hn::IfThenElse(hn::RebindMask(d, hidden), hn::Set(d, kMinusInfinity), hn::Load(d, S + j)), d, S + j);
  };
  int64_t j = columns.begin;
  for (; j < std::min(begin, columns.end); j += kLanes) mask(j);
  for (j = std::max(j, end / kPartialSums * kPartialSums); j < columns.end; j += kLanes) mask(j);
}

// What multiplies a state whose maximum was `from` and becomes `to`. Exactly 1 when it stays, -inf included.
template <class DR>
HWY_INLINE hn::Vec<DR> RescaleFactor(DR d, const ScoreRule& rule, hn::Vec<DR> from, hn::Vec<DR> to) {
  const auto factor = hn::Set(d, rule.exponent_factor), least = hn::Set(d, rule.least_difference);
  return hn::IfThenElse(hn::Eq(from, to), hn::Set(d, 1.0f), Exp2(d, hn::Sub(from, to), factor, least));
}

// Maxima and sums, four rows at a time where a vector has as many lanes; -inf and NaN as hn::Max treats them.
#if HWY_TARGET != HWY_SCALAR

template <class DX>
HWY_INLINE auto MaxTo4([[maybe_unused]] DX d, hn::Vec<DX> x) {
  if constexpr (hn::MaxLanes(DX()) == 4) {
    return x;
  } else {
    const hn::Half<DX> half;
    return MaxTo4(half, hn::Max(hn::LowerHalf(half, x), hn::UpperHalf(half, x)));
  }
}

// The maxima of rows s0 to s3 as the lanes of a vector.
HWY_INLINE auto MaximaOfFour(Columns columns, const float* s0, const float* s1, const float* s2, const float* s3) {
  const D d;
  const hn::Full128<float> d4;
  V x0 = hn::Load(d, s0 + columns.begin), x1 = hn::Load(d, s1 + columns.begin);
  V x2 = hn::Load(d, s2 + columns.begin), x3 = hn::Load(d, s3 + columns.begin);
  for (int64_t j = columns.begin + kLanes; j < columns.end; j += kLanes) {
    x0 = hn::Max(x0, hn::Load(d, s0 + j)), x1 = hn::Max(x1, hn::Load(d, s1 + j));
    x2 = hn::Max(x2, hn::Load(d, s2 + j)), x3 = hn::Max(x3, hn::Load(d, s3 + j));
  }
  const auto y0 = MaxTo4(d, x0), y1 = MaxTo4(d, x1), y2 = MaxTo4(d, x2), y3 = MaxTo4(d, x3);
  const auto even = hn::Max(hn::InterleaveLower(d4, y0, y2), hn::InterleaveUpper(d4, y0, y2));
  const auto odd = hn::Max(hn::InterleaveLower(d4, y1, y3), hn::InterleaveUpper(d4, y1, y3));
  return hn::Max(hn::InterleaveLower(d4, even, odd), hn::InterleaveUpper(d4, even, odd));
}

// m = max(m, the columns of S) of eight rows.
template <int64_t kRow>
HWY_INLINE void RaiseMaxima(Columns columns, const float* HWY_RESTRICT S, float* HWY_RESTRICT m) {
  const hn::Full128<float> d4;
  for (int64_t i = 0; i < 8; i += 4) {
    const float* from = S + i * kRow;
    const auto most = MaximaOfFour(columns, from, from + kRow, from + 2 * kRow, from + 3 * kRow);
    hn::StoreU(hn::Max(hn::LoadU(d4, m + i), most), d4, m + i);
  }
}

// UpdateMaxima of four rows.
template <int64_t kRow>
HWY_INLINE void UpdateFourMaxima(const ScoreRule& rule, Columns columns, const float* HWY_RESTRICT S,
                                 float* HWY_RESTRICT m, float* HWY_RESTRICT r) {
  const hn::Full128<float> d4;
  const auto old_m = hn::LoadU(d4, m);
  const auto new_m = hn::Max(old_m, MaximaOfFour(columns, S, S + kRow, S + 2 * kRow, S + 3 * kRow));
  hn::StoreU(RescaleFactor(d4, rule, old_m, new_m), d4, r);
  hn::StoreU(new_m, d4, m);
}

#else

template <int64_t kRow>
HWY_INLINE void RaiseMaxima(Columns columns, const float* HWY_RESTRICT S, float* HWY_RESTRICT m) {
  for (int64_t i = 0; i < 6; ++i) {
    for (int64_t j = columns.begin; j < columns.end; ++j) m[i] = std::max(m[i], S[i * kRow + j]);
  }
}

#endif

// Updates the maxima m with the columns of S [rows, kRow], at least kPartialSums, and writes r, the factors of l and O.
template <int64_t kRow>
HWY_INLINE void UpdateMaxima(const ScoreRule& rule, int64_t rows, Columns columns, const float* HWY_RESTRICT S,
                             float* HWY_RESTRICT m, float* HWY_RESTRICT r) {
  const D d;
  const hn::CappedTag<float, 1> d1;
  int64_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  for (; i + 4 <= rows; i += 4) UpdateFourMaxima<kRow>(rule, columns, S + i * kRow, m + i, r + i);
#endif
  for (; i < rows; ++i) {
    V most = hn::Set(d, m[i]);
    for (int64_t j = columns.begin; j < columns.end; j += kLanes) most = hn::Max(most, hn::Load(d, S + i * kRow + j));
    const float new_m = hn::GetLane(hn::MaxOfLanes(d, most));
    r[i] = hn::GetLane(RescaleFactor(d1, rule, hn::Set(d1, m[i]), hn::Set(d1, new_m)));
    m[i] = new_m;
  }
}

#if HWY_TARGET == HWY_SCALAR

// Changes `sums`.
HWY_INLINE float TreeSum(float* sums) {
  for (int64_t half = kPartialSums / 2; half > 0; half /= 2) {
    for (int64_t i = 0; i < half; ++i) sums[i] += sums[i + half];
  }
  return sums[0];
}

// The sum of a row's kPartialSums.
HWY_INLINE float RowSum(const float* l) {
  float sums[kPartialSums];
  std::copy_n(l, kPartialSums, sums);
  return TreeSum(sums);
}

#else

// Halves added until four lanes are left.
template <class DX>
HWY_INLINE auto HalveTo4([[maybe_unused]] DX d, hn::Vec<DX> x) {
  if constexpr (hn::MaxLanes(DX()) == 4) {
    return x;
  } else {
    const hn::Half<DX> half;
    return HalveTo4(half, hn::Add(hn::LowerHalf(half, x), hn::UpperHalf(half, x)));
  }
}

// The sum of a row's kPartialSums: halves added until one is left.
HWY_INLINE float RowSum(const float* l) {
  const D d;
  V sum = hn::Load(d, l);
  if constexpr (kVectorsPerSum == 2) sum = hn::Add(sum, hn::Load(d, l + kLanes));
  if constexpr (kVectorsPerSum == 4) {
    sum = hn::Add(hn::Add(sum, hn::Load(d, l + 2 * kLanes)),
                  hn::Add(hn::Load(d, l + kLanes), hn::Load(d, l + 3 * kLanes)));
  }
  auto four = HalveTo4(d, sum);
  four = hn::Add(four, hn::Shuffle1032(four));
  return hn::GetLane(hn::Add(four, hn::Shuffle2301(four)));
}

#endif

HWY_INLINE void MultiplyAll(const float* from, int64_t count, float factor, float* to) {
  const D d;
  const V f = hn::Set(d, factor);
  for (int64_t c = 0; c < count; c += kLanes) hn::StoreU(hn::Mul(hn::LoadU(d, from + c), f), d, to + c);
}

HWY_INLINE float LseOf(const ScoreRule& rule, float m, float sum) {
  if (std::isinf(m)) return m;  // inf + log(NaN) is not the LSE
  return static_cast<float>(static_cast<double>(m) * rule.lse_factor + FastLog(sum));
}

}  // namespace HWY_NAMESPACE
}  // namespace bitflash::reference
HWY_AFTER_NAMESPACE();

#endif  // BITFLASH_REFERENCE_CPU_SOFTMAX_INL_H_
