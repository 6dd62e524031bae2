// Scores become weights, and what they add up to joins the row sums, per SIMD target. Included once per target by each
// file of kernels.
#if defined(BITFLASH_REFERENCE_CPU_WEIGHTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BITFLASH_REFERENCE_CPU_WEIGHTS_INL_H_
#undef BITFLASH_REFERENCE_CPU_WEIGHTS_INL_H_
#else
#define BITFLASH_REFERENCE_CPU_WEIGHTS_INL_H_
#endif

#include <algorithm>
#include <limits>

#include "hwy/highway.h"
#include "reference/cpu_exp-inl.h"
#include "reference/cpu_kernels.h"
#include "reference/cpu_softmax-inl.h"

HWY_BEFORE_NAMESPACE();
namespace bitflash::reference {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Weights 2^((s - m) exponent_factor), and 0 for what counts as none.
class WeightsBelow {
 public:
  HWY_INLINE WeightsBelow(const ScoreRule& rule, float m)
      : m_(hn::Set(D(), m == kMinusInfinity ? 0.0f : m)),  // no key so far: P is 0, not NaN
        least_(hn::Set(D(), rule.least_difference)),
        exponent_(D(), hn::Set(D(), rule.exponent_factor)) {}
  HWY_INLINE void Two(V& s0, V& s1) const {
    s0 = hn::Sub(s0, m_), s1 = hn::Sub(s1, m_);
    Exp2OfTwo<true>(exponent_, least_, s0, s1);
  }
  HWY_INLINE V One(V s) const { return Exp2<true>(exponent_, least_, hn::Sub(s, m_)); }

 private:
  V m_, least_;
  Exponent<D> exponent_;
};

// Weights 2^(s exponent_factor - M) with an integer M, where none leaves the normal range. kMasked: -inf has weight 0.
template <bool kMasked>
class BoundedWeights {
 public:
  HWY_INLINE BoundedWeights(const ScoreRule& rule, float M)
      : least_(hn::Set(D(), std::numeric_limits<float>::lowest())),
        exponent_(D(), hn::Set(D(), rule.exponent_factor), M) {}
  HWY_INLINE void Two(V& s0, V& s1) const { Exp2OfTwo<kMasked>(exponent_, least_, s0, s1); }
  HWY_INLINE V One(V s) const { return Exp2<kMasked>(exponent_, least_, s); }

 private:
  V least_;
  Exponent<D> exponent_;
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
        weights.Two(x0, x1), weights.Two(x2, x3);
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

}  // namespace HWY_NAMESPACE
}  // namespace bitflash::reference
HWY_AFTER_NAMESPACE();

#endif  // BITFLASH_REFERENCE_CPU_WEIGHTS_INL_H_
