// The online softmax of some rows and one tile of keys, per SIMD target. Included once per target by cpu_kernels.cc.
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

// Weights 2^((s - m) exponent_factor), and 0 for what counts as none.
class WeightsBelow {
 public:
  HWY_INLINE WeightsBelow(const ScoreRule& rule, float m)
      : m_(hn::Set(D(), m == kMinusInfinity ? 0.0f : m)),  // no key so far: P is 0, not NaN
        factor_(hn::Set(D(), rule.exponent_factor)),
        least_(hn::Set(D(), rule.least_difference)) {}
  HWY_INLINE void Four(V& s0, V& s1, V& s2, V& s3) const {
    s0 = hn::Sub(s0, m_), s1 = hn::Sub(s1, m_), s2 = hn::Sub(s2, m_), s3 = hn::Sub(s3, m_);
    Exp2OfFour(D(), factor_, least_, s0, s1, s2, s3);
  }
  HWY_INLINE V One(V s) const { return Exp2(D(), hn::Sub(s, m_), factor_, least_); }

 private:
  V m_, factor_, least_;
};

// Weights 2^(s exponent_factor - M) with an integer M, where none leaves the normal range. kMasked: -inf has weight 0.
template <bool kMasked>
class BoundedWeights {
 public:
  HWY_INLINE BoundedWeights(const ScoreRule& rule, float M) : exponent_(D(), rule.exponent_factor, M) {}
  HWY_INLINE void Four(V& s0, V& s1, V& s2, V& s3) const { BoundedExp2OfFour<kMasked>(exponent_, s0, s1, s2, s3); }
  HWY_INLINE V One(V s) const { return BoundedExp2<kMasked>(exponent_, s); }

 private:
  BoundedExponent<D> exponent_;
};

// Turns the columns of one row of S into weights, and the row's sums l into factor l + what they add up to.
template <int64_t kRow, class Weights>
HWY_INLINE void WeighRow(const Weights& weights, Columns columns, float* HWY_RESTRICT row, float r,
                         float* HWY_RESTRICT l) {
  const D d;
  const V factor = hn::Set(d, r);
  const auto finish = [&](int64_t lane, V sum)
                          HWY_ATTR { hn::Store(hn::MulAdd(hn::Load(d, l + lane), factor, sum), d, l + lane); };
  if constexpr (kVectorsPerSum <= 4) {
    // Four vectors at a time, of one to four of the sums, each in the order of its columns.
    const auto run = [&](int64_t begin, int64_t end) HWY_ATTR {
      V sum0 = hn::Zero(d), sum1 = sum0, sum2 = sum0, sum3 = sum0;
      int64_t j = begin;
      for (; j + 4 * kLanes <= end; j += 4 * kLanes) {
        V x0 = hn::Load(d, row + j), x1 = hn::Load(d, row + j + kLanes);
        V x2 = hn::Load(d, row + j + 2 * kLanes), x3 = hn::Load(d, row + j + 3 * kLanes);
        weights.Four(x0, x1, x2, x3);
        hn::Store(x0, d, row + j), hn::Store(x1, d, row + j + kLanes);
        hn::Store(x2, d, row + j + 2 * kLanes), hn::Store(x3, d, row + j + 3 * kLanes);
        if constexpr (kVectorsPerSum == 1) {
          sum0 = hn::Add(hn::Add(hn::Add(hn::Add(sum0, x0), x1), x2), x3);
        } else if constexpr (kVectorsPerSum == 2) {
          sum0 = hn::Add(hn::Add(sum0, x0), x2), sum1 = hn::Add(hn::Add(sum1, x1), x3);
        } else {
          sum0 = hn::Add(sum0, x0), sum1 = hn::Add(sum1, x1), sum2 = hn::Add(sum2, x2), sum3 = hn::Add(sum3, x3);
        }
      }
      for (; j < end; j += kPartialSums) {  // one or two vectors
        const V x0 = weights.One(hn::Load(d, row + j));
        hn::Store(x0, d, row + j);
        sum0 = hn::Add(sum0, x0);
        if constexpr (kVectorsPerSum == 2) {
          const V x1 = weights.One(hn::Load(d, row + j + kLanes));
          hn::Store(x1, d, row + j + kLanes);
          sum1 = hn::Add(sum1, x1);
        }
      }
      finish(0, sum0);
      if constexpr (kVectorsPerSum > 1) finish(kLanes, sum1);
      if constexpr (kVectorsPerSum > 2) finish(2 * kLanes, sum2), finish(3 * kLanes, sum3);
    };
    if (columns.begin == 0 && columns.end == kRow) {
      run(0, kRow);  // bounds that the compiler knows
    } else {
      run(columns.begin, columns.end);
    }
  } else {
    for (int64_t lane = 0; lane < kPartialSums; lane += kLanes) {
      V sum = hn::Zero(d);
      for (int64_t j = columns.begin + lane; j < columns.end; j += kPartialSums) {
        const V p = weights.One(hn::Load(d, row + j));
        hn::Store(p, d, row + j);
        sum = hn::Add(sum, p);
      }
      finish(lane, sum);
    }
  }
}

// Turns the columns of S [rows, kRow] into P and updates l, after UpdateMaxima.
template <int64_t kRow>
HWY_INLINE void Exponentials(const ScoreRule& rule, int64_t rows, Columns columns, float* HWY_RESTRICT S,
                             const float* HWY_RESTRICT m, const float* HWY_RESTRICT r, float* HWY_RESTRICT l) {
  for (int64_t i = 0; i < rows; ++i) {
    WeighRow<kRow>(WeightsBelow(rule, m[i]), columns, S + i * kRow, r[i], l + i * kPartialSums);
  }
}

// Exponentials with fixed integers M in the place of maxima.
template <int64_t kRow, bool kMasked>
HWY_INLINE void BoundedExponentials(const ScoreRule& rule, int64_t rows, Columns columns, float* HWY_RESTRICT S,
                                    const float* HWY_RESTRICT M, const float* HWY_RESTRICT r, float* HWY_RESTRICT l) {
  for (int64_t i = 0; i < rows; ++i) {
    WeighRow<kRow>(BoundedWeights<kMasked>(rule, M[i]), columns, S + i * kRow, r[i], l + i * kPartialSums);
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
