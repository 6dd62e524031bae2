// Products of query rows and keys that are read where they are, per SIMD target. Included once per target by
// cpu_decode_kernels.cc.
//
// A product q k is 16 sums, element c in sum c % 16, added up in a fixed tree: the same bits for every vector width.
#if defined(BITFLASH_REFERENCE_CPU_SCORES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BITFLASH_REFERENCE_CPU_SCORES_INL_H_
#undef BITFLASH_REFERENCE_CPU_SCORES_INL_H_
#else
#define BITFLASH_REFERENCE_CPU_SCORES_INL_H_
#endif

#include "hwy/highway.h"
#include "reference/cpu_kernels.h"
#include "reference/cpu_rows-inl.h"
#include "reference/cpu_softmax-inl.h"

HWY_BEFORE_NAMESPACE();
namespace bitflash::reference {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_SCALAR

inline constexpr int64_t kScoreRows = 1;

template <data::Format kFormat, int kRows>
HWY_INLINE void ScoreFourKeys(const float* HWY_RESTRICT q, int64_t columns, const void* const* k, Asker& asker,
                              float* HWY_RESTRICT S) {
  const D d;
  (void)asker;
  for (int64_t n = 0; n < 4; ++n) {
    float sums[kPartialSums] = {};
    for (int64_t c = 0; c < columns; ++c) {
      float& sum = sums[c % kPartialSums];
      sum = hn::GetLane(hn::MulAdd(hn::Set(d, q[c]), LoadRow<kFormat>(k[n], c), hn::Set(d, sum)));
    }
    S[n] = TreeSum(sums);
  }
}

#else

// Rows whose scores are computed together: with four keys they fit the registers, or with two.
inline constexpr int64_t kScoreRows = kVectorsPerSum == 1 ? 4 : kVectorsPerSum == 2 ? 2 : 1;

// The kPartialSums sums of one product.
struct ProductSums {
  V v0, v1, v2, v3;  // kVectorsPerSum of them count
};

HWY_INLINE ProductSums ZeroSums() {
  const V zero = hn::Zero(D());
  return {zero, zero, zero, zero};
}

template <data::Format kFormat>
HWY_INLINE void AddProducts(const float* HWY_RESTRICT q, const void* k, int64_t c, ProductSums& sums) {
  const D d;
  static_assert(kVectorsPerSum <= 4);
  sums.v0 = hn::MulAdd(hn::LoadU(d, q + c), LoadRow<kFormat>(k, c), sums.v0);
  if constexpr (kVectorsPerSum > 1) {
    sums.v1 = hn::MulAdd(hn::LoadU(d, q + c + kLanes), LoadRow<kFormat>(k, c + kLanes), sums.v1);
  }
  if constexpr (kVectorsPerSum > 2) {
    sums.v2 = hn::MulAdd(hn::LoadU(d, q + c + 2 * kLanes), LoadRow<kFormat>(k, c + 2 * kLanes), sums.v2);
    sums.v3 = hn::MulAdd(hn::LoadU(d, q + c + 3 * kLanes), LoadRow<kFormat>(k, c + 3 * kLanes), sums.v3);
  }
}

// The first steps of RowSum, to sums 0 to 3.
HWY_INLINE auto FoldTo4(const ProductSums& sums) {
  if constexpr (kVectorsPerSum == 1) {
    return HalveTo4(D(), sums.v0);
  } else if constexpr (kVectorsPerSum == 2) {
    return HalveTo4(D(), hn::Add(sums.v0, sums.v1));
  } else {
    return hn::Add(hn::Add(sums.v0, sums.v2), hn::Add(sums.v1, sums.v3));
  }
}

// Four products from four sums of each: the last steps for all of them at once, sums 0 + 2 and 1 + 3, then their sum.
template <class V4>
HWY_INLINE V4 JoinFour(V4 x0, V4 x1, V4 x2, V4 x3) {
  const hn::Full128<float> d4;
  const auto even = hn::Add(hn::InterleaveLower(d4, x0, x2), hn::InterleaveUpper(d4, x0, x2));
  const auto odd = hn::Add(hn::InterleaveLower(d4, x1, x3), hn::InterleaveUpper(d4, x1, x3));
  return hn::Add(hn::InterleaveLower(d4, even, odd), hn::InterleaveUpper(d4, even, odd));
}

template <class V4>
HWY_INLINE void StoreFourScores(V4 x0, V4 x1, V4 x2, V4 x3, float* HWY_RESTRICT S) {
  hn::StoreU(JoinFour(x0, x1, x2, x3), hn::Full128<float>(), S);
}

// S[0..3] = q k[0], ..., q k[3].
template <data::Format kFormat>
HWY_INLINE void ScoreOneRow(const float* HWY_RESTRICT q, int64_t columns, const void* const* k, Asker& asker,
                            float* HWY_RESTRICT S) {
  const void *k0 = k[0], *k1 = k[1], *k2 = k[2], *k3 = k[3];
  ProductSums s0 = ZeroSums(), s1 = s0, s2 = s0, s3 = s0;
  for (int64_t c = 0; c < columns; c += kPartialSums) {
    for (const void* row : {k0, k1, k2, k3}) asker.Read<kFormat>(row, c, kPartialSums);
    AddProducts<kFormat>(q, k0, c, s0);
    AddProducts<kFormat>(q, k1, c, s1);
    AddProducts<kFormat>(q, k2, c, s2);
    AddProducts<kFormat>(q, k3, c, s3);
  }
  StoreFourScores(FoldTo4(s0), FoldTo4(s1), FoldTo4(s2), FoldTo4(s3), S);
}

#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL

// The first steps of RowSum for one key and four rows: blocks of sums 0 to 3 of rows 0, 2, 1, 3.
HWY_INLINE V JoinRows(V row0, V row1, V row2, V row3) {
  const D d;
  const V a = hn::Add(hn::ConcatLowerLower(d, row1, row0), hn::ConcatUpperUpper(d, row1, row0));
  const V b = hn::Add(hn::ConcatLowerLower(d, row3, row2), hn::ConcatUpperUpper(d, row3, row2));
  return hn::Add(hn::OddEvenBlocks(hn::SwapAdjacentBlocks(b), a), hn::OddEvenBlocks(b, hn::SwapAdjacentBlocks(a)));
}

// S[0..3, 0..3] of four rows and four keys from JoinRows of each key.
HWY_INLINE void StoreSixteenScores(V x0, V x1, V x2, V x3, float* HWY_RESTRICT S) {
  const D d;
  const hn::Half<D> half;
  const hn::Half<hn::Half<D> > quarter;
  const V even = hn::Add(hn::InterleaveLower(d, x0, x2), hn::InterleaveUpper(d, x0, x2));
  const V odd = hn::Add(hn::InterleaveLower(d, x1, x3), hn::InterleaveUpper(d, x1, x3));
  const V sums = hn::Add(hn::InterleaveLower(d, even, odd), hn::InterleaveUpper(d, even, odd));
  const auto lower = hn::LowerHalf(half, sums), upper = hn::UpperHalf(half, sums);
  hn::StoreU(hn::LowerHalf(quarter, lower), quarter, S);
  hn::StoreU(hn::UpperHalf(quarter, lower), quarter, S + 2 * kDecodeTileKeys);
  hn::StoreU(hn::LowerHalf(quarter, upper), quarter, S + kDecodeTileKeys);
  hn::StoreU(hn::UpperHalf(quarter, upper), quarter, S + 3 * kDecodeTileKeys);
}

// ScoreFourKeys of two or four rows: each key is loaded once.
template <data::Format kFormat, int kRows>
HWY_INLINE void ScoreSomeRows(const float* HWY_RESTRICT q, int64_t columns, const void* const* k, Asker& asker,
                              float* HWY_RESTRICT S) {
  static_assert(kRows == 2 || kRows == 4);
  const void *k0 = k[0], *k1 = k[1], *k2 = k[2], *k3 = k[3];
  const D d;
  const float *q0 = q, *q1 = q + columns, *q2 = q + (kRows > 2 ? 2 : 0) * columns, *q3 = q + (kRows - 1) * columns;
  V a0 = hn::Zero(d), a1 = a0, a2 = a0, a3 = a0, b0 = a0, b1 = a0, b2 = a0, b3 = a0;
  V e0 = a0, e1 = a0, e2 = a0, e3 = a0, f0 = a0, f1 = a0, f2 = a0, f3 = a0;
  for (int64_t c = 0; c < columns; c += kPartialSums) {
    for (const void* row : {k0, k1, k2, k3}) asker.Read<kFormat>(row, c, kPartialSums);
    const V x0 = LoadRow<kFormat>(k0, c), x1 = LoadRow<kFormat>(k1, c);
    const V x2 = LoadRow<kFormat>(k2, c), x3 = LoadRow<kFormat>(k3, c);
    V y = hn::LoadU(d, q0 + c);
    a0 = hn::MulAdd(y, x0, a0), a1 = hn::MulAdd(y, x1, a1), a2 = hn::MulAdd(y, x2, a2), a3 = hn::MulAdd(y, x3, a3);
    y = hn::LoadU(d, q1 + c);
    b0 = hn::MulAdd(y, x0, b0), b1 = hn::MulAdd(y, x1, b1), b2 = hn::MulAdd(y, x2, b2), b3 = hn::MulAdd(y, x3, b3);
    if constexpr (kRows > 2) {
      y = hn::LoadU(d, q2 + c);
      e0 = hn::MulAdd(y, x0, e0), e1 = hn::MulAdd(y, x1, e1), e2 = hn::MulAdd(y, x2, e2), e3 = hn::MulAdd(y, x3, e3);
      y = hn::LoadU(d, q3 + c);
      f0 = hn::MulAdd(y, x0, f0), f1 = hn::MulAdd(y, x1, f1), f2 = hn::MulAdd(y, x2, f2), f3 = hn::MulAdd(y, x3, f3);
    }
  }
  if constexpr (kRows == 4) {
    StoreSixteenScores(JoinRows(a0, b0, e0, f0), JoinRows(a1, b1, e1, f1), JoinRows(a2, b2, e2, f2),
                       JoinRows(a3, b3, e3, f3), S);
  } else {
    StoreFourScores(HalveTo4(d, a0), HalveTo4(d, a1), HalveTo4(d, a2), HalveTo4(d, a3), S);
    StoreFourScores(HalveTo4(d, b0), HalveTo4(d, b1), HalveTo4(d, b2), HalveTo4(d, b3), S + kDecodeTileKeys);
  }
}

#elif HWY_TARGET == HWY_AVX2

// ScoreFourKeys of two rows, two keys at a time.
template <data::Format kFormat, int kRows>
HWY_INLINE void ScoreSomeRows(const float* HWY_RESTRICT q, int64_t columns, const void* const* k, Asker& asker,
                              float* HWY_RESTRICT S) {
  static_assert(kRows == 2);
  const hn::Full128<float> d4;
  const hn::Half<decltype(d4)> d2;
  for (int64_t n = 0; n < 4; n += 2) {
    const void *k0 = k[n], *k1 = k[n + 1];
    ProductSums a0 = ZeroSums(), a1 = a0, b0 = a0, b1 = a0;
    for (int64_t c = 0; c < columns; c += kPartialSums) {
      for (const void* row : {k0, k1}) asker.Read<kFormat>(row, c, kPartialSums);
      AddProducts<kFormat>(q, k0, c, a0);
      AddProducts<kFormat>(q, k1, c, a1);
      AddProducts<kFormat>(q + columns, k0, c, b0);
      AddProducts<kFormat>(q + columns, k1, c, b1);
    }
    const auto scores = JoinFour(FoldTo4(a0), FoldTo4(a1), FoldTo4(b0), FoldTo4(b1));
    hn::StoreU(hn::LowerHalf(d2, scores), d2, S + n);
    hn::StoreU(hn::UpperHalf(d2, scores), d2, S + kDecodeTileKeys + n);
  }
}

#endif

// S[row, 0..3] = q[row] k[0], ..., q[row] k[3] for kRows rows, at most kScoreRows: q [kRows, columns],
// S [kRows, kDecodeTileKeys].
template <data::Format kFormat, int kRows>
HWY_INLINE void ScoreFourKeys(const float* HWY_RESTRICT q, int64_t columns, const void* const* k, Asker& asker,
                              float* HWY_RESTRICT S) {
  if constexpr (kRows == 1) {
    ScoreOneRow<kFormat>(q, columns, k, asker, S);
  } else {
    ScoreSomeRows<kFormat, kRows>(q, columns, k, asker, S);
  }
}

#endif  // HWY_TARGET == HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace bitflash::reference
HWY_AFTER_NAMESPACE();

#endif  // BITFLASH_REFERENCE_CPU_SCORES_INL_H_
