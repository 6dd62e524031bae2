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
  const auto first = hn::Set(di, static_cast<int32_t>(begin)), last = hn::Set(di, static_cast<int32_t>(end));
  for (int64_t j = columns.begin; j < columns.end; j += kLanes) {
    const auto index = hn::Iota(di, static_cast<int32_t>(j));
    const auto hidden = hn::Or(hn::Lt(index, first), hn::Not(hn::Lt(index, last)));
    hn::Store(hn::IfThenElse(hn::RebindMask(d, hidden), hn::Set(d, kMinusInfinity), hn::Load(d, S + j)), d, S + j);
  }
}

// What multiplies a state whose maximum was `from` and becomes `to`. Exactly 1 when it stays, -inf included.
template <class DR>
HWY_INLINE hn::Vec<DR> RescaleFactor(DR d, const ScoreRule& rule, hn::Vec<DR> from, hn::Vec<DR> to) {
  const auto x = hn::Mul(hn::Sub(from, to), hn::Set(d, rule.exponent_factor));
  return hn::IfThenElse(hn::Eq(from, to), hn::Set(d, 1.0f), Exp2(d, x));
}

// Turns the columns of S [rows, kTileKeys] into P; updates m and l and writes r, the factors of O: [rows], with room
// for a multiple of 4.
HWY_INLINE void Softmax(const ScoreRule& rule, int64_t rows, Columns columns, float* HWY_RESTRICT S,
                        float* HWY_RESTRICT m, float* HWY_RESTRICT l, float* HWY_RESTRICT r) {
  const D d;
  const hn::CappedTag<float, 4> d4;
  for (int64_t i0 = 0; i0 < rows; i0 += 4) {
    const int64_t n = std::min<int64_t>(4, rows - i0);
    HWY_ALIGN float old_m[4] = {}, new_m[4] = {};
    for (int64_t i = 0; i < n; ++i) {
      const float* row = S + (i0 + i) * kTileKeys;
      V most = hn::Set(d, m[i0 + i]);
      for (int64_t j = columns.begin; j < columns.end; j += kLanes) most = hn::Max(most, hn::Load(d, row + j));
      old_m[i] = m[i0 + i];
      new_m[i] = hn::GetLane(hn::MaxOfLanes(d, most));
    }
    for (int64_t i = 0; i < 4; i += HWY_MIN(kLanes, 4)) {
      const auto factor = RescaleFactor(d4, rule, hn::Load(d4, old_m + i), hn::Load(d4, new_m + i));
      hn::StoreU(factor, d4, r + i0 + i);
    }
    for (int64_t i = 0; i < n; ++i) m[i0 + i] = new_m[i];
  }
  const V c = hn::Set(d, rule.exponent_factor);
  for (int64_t i = 0; i < rows; ++i) {
    float* HWY_RESTRICT row = S + i * kTileKeys;
    const V subtract = hn::Set(d, m[i] == kMinusInfinity ? 0.0f : m[i]);  // no key so far: P is 0, not NaN
    const V factor = hn::Set(d, r[i]);
    for (int64_t lane = 0; lane < kPartialSums; lane += kLanes) {
      V sum = hn::Zero(d);
      for (int64_t j = columns.begin + lane; j < columns.end; j += kPartialSums) {
        const V p = Exp2(d, hn::Mul(hn::Sub(hn::Load(d, row + j), subtract), c));
        hn::Store(p, d, row + j);
        sum = hn::Add(sum, p);
      }
      float* HWY_RESTRICT partial = l + i * kPartialSums + lane;
      hn::Store(hn::MulAdd(hn::Load(d, partial), factor, sum), d, partial);
    }
  }
}

// Changes `sums`.
HWY_INLINE float TreeSum(float* sums) {
  for (int64_t half = kPartialSums / 2; half > 0; half /= 2) {
    for (int64_t i = 0; i < half; ++i) sums[i] += sums[i + half];
  }
  return sums[0];
}

// As FinishRow of cpu_kernels.h.
inline float Finish(const ScoreRule& rule, int64_t head_dim_v, float m, const float* l, float* O) {
  const D d;
  float sums[kPartialSums];
  std::copy_n(l, kPartialSums, sums);
  const float total = TreeSum(sums);
  const V sum = hn::Set(d, total);
  for (int64_t c = 0; c < RoundUp(head_dim_v, kRowPadding); c += kLanes) {
    hn::Store(hn::Div(hn::Load(d, O + c), sum), d, O + c);
  }
  if (std::isinf(m)) return m;  // inf + log(NaN) is not the LSE
  return static_cast<float>(static_cast<double>(m) * rule.lse_factor + std::log(static_cast<double>(total)));
}

}  // namespace HWY_NAMESPACE
}  // namespace bitflash::reference
HWY_AFTER_NAMESPACE();

#endif  // BITFLASH_REFERENCE_CPU_SOFTMAX_INL_H_
