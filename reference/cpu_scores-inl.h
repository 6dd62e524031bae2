// Products of query rows and keys that are read where they are, per SIMD target. Included once per target by
// cpu_kernels.cc.
//
// A product q k of one row is 16 sums, element c in sum c % 16, added up in a fixed tree; of four rows together it is 4
// sums: the same bits for every vector width.
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

// Where the four columns lie that belong to block n of four of packed rows, in a chunk of `columns` (16 or 32) of a
// key. kSplit: a key of SplitBf16Row, whose blocks alternate between even and odd columns.
template <bool kSplit>
HWY_INLINE constexpr int64_t BlockAt(int64_t n, int64_t columns) {
  return kSplit ? n % 2 * (columns / 2) + n / 2 * 4 : n * 4;
}

#if HWY_TARGET == HWY_SCALAR

template <data::Format kFormat>
HWY_INLINE void ScoreOneRow(const float* HWY_RESTRICT q, int64_t columns, const void* const* k, Asker& asker,
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

template <bool kSplit>
HWY_INLINE void ScoreFourRows(const float* HWY_RESTRICT q, int64_t columns, const void* const* k, Asker& asker,
                              float* HWY_RESTRICT S) {
  const D d;
  (void)asker;
  for (int64_t row = 0; row < kScoreRows; ++row) {
    for (int64_t n = 0; n < 4; ++n) {
      float sums[4] = {};
      for (int64_t c = 0; c < columns; ++c) {
        const int64_t chunk = c / 32 * 32, at = BlockAt<kSplit>(c % 32 / 4, std::min<int64_t>(columns - chunk, 32));
        const V x = hn::Set(d, q[(c / 4 * kScoreRows + row) * 4 + c % 4]);
        const V y = hn::Set(d, static_cast<const float*>(k[n])[chunk + at + c % 4]);
        float& sum = sums[c % 4];
        sum = hn::GetLane(hn::MulAdd(x, y, hn::Set(d, sum)));
      }
      S[row * kDecodeTileKeys + n] = (sums[0] + sums[2]) + (sums[1] + sums[3]);
    }
  }
}

#else

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

// The first steps of TreeSum, to sums 0 to 3.
HWY_INLINE auto FoldTo4(const ProductSums& sums) {
  if constexpr (kVectorsPerSum == 1) {
    return HalveTo4(D(), sums.v0);
  } else if constexpr (kVectorsPerSum == 2) {
    return HalveTo4(D(), hn::Add(sums.v0, sums.v1));
  } else {
    return hn::Add(hn::Add(sums.v0, sums.v2), hn::Add(sums.v1, sums.v3));
  }
}

// From the four sums of each of four keys, in every block of four lanes, the four products: sums 0 + 2 and 1 + 3, then
// their sum.
template <class DX, class VX = hn::Vec<DX> >
HWY_INLINE VX JoinFourKeys(DX d, VX x0, VX x1, VX x2, VX x3) {
  const VX even = hn::Add(hn::InterleaveLower(d, x0, x2), hn::InterleaveUpper(d, x0, x2));
  const VX odd = hn::Add(hn::InterleaveLower(d, x1, x3), hn::InterleaveUpper(d, x1, x3));
  return hn::Add(hn::InterleaveLower(d, even, odd), hn::InterleaveUpper(d, even, odd));
}

// S[0..3] = q k[0], ..., q k[3]. Lines are asked for as those of k are read.
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
  const hn::Full128<float> d4;
  hn::StoreU(JoinFourKeys(d4, FoldTo4(s0), FoldTo4(s1), FoldTo4(s2), FoldTo4(s3)), d4, S);
}

// Writes each block of four lanes to its row of S.
template <class DX>
HWY_INLINE void StoreBlocks(DX d, hn::Vec<DX> x, float* HWY_RESTRICT S) {
  if constexpr (hn::MaxLanes(DX()) == 4) {
    hn::StoreU(x, d, S);
  } else {
    const hn::Half<DX> half;
    StoreBlocks(half, hn::LowerHalf(half, x), S);
    StoreBlocks(half, hn::UpperHalf(half, x), S + hn::MaxLanes(half) / 4 * kDecodeTileKeys);
  }
}

// S of kRows rows and four keys; see ScoreFourRows.
template <bool kSplit, int kRows>
HWY_INLINE void ScoreRows(const float* HWY_RESTRICT q, int64_t columns, const void* const* k, Asker& asker,
                          float* HWY_RESTRICT S) {
  constexpr int kVectors = kRows * 4 / static_cast<int>(kLanes);
  static_assert(kVectors == 1 || kVectors == 2);
  const D d;
  const float *k0 = static_cast<const float*>(k[0]), *k1 = static_cast<const float*>(k[1]);
  const float *k2 = static_cast<const float*>(k[2]), *k3 = static_cast<const float*>(k[3]);
  V a0 = hn::Zero(d), a1 = a0, a2 = a0, a3 = a0;
  [[maybe_unused]] V b0 = a0, b1 = a0, b2 = a0, b3 = a0;
  const auto add = [&](int64_t c) HWY_ATTR {
    const V x0 = hn::LoadDup128(d, k0 + c), x1 = hn::LoadDup128(d, k1 + c);
    const V x2 = hn::LoadDup128(d, k2 + c), x3 = hn::LoadDup128(d, k3 + c);
    const V a = hn::LoadU(d, q);
    a0 = hn::MulAdd(a, x0, a0), a1 = hn::MulAdd(a, x1, a1), a2 = hn::MulAdd(a, x2, a2), a3 = hn::MulAdd(a, x3, a3);
    if constexpr (kVectors > 1) {
      const V b = hn::LoadU(d, q + kLanes);
      b0 = hn::MulAdd(b, x0, b0), b1 = hn::MulAdd(b, x1, b1), b2 = hn::MulAdd(b, x2, b2), b3 = hn::MulAdd(b, x3, b3);
    }
    q += 4 * kScoreRows;
  };
  const auto ask = [&](int64_t c) HWY_ATTR {
    for (const float* row : {k0, k1, k2, k3}) asker.Read<data::Format::kFp32>(row, c, kPartialSums);
  };
  int64_t c = 0;
  for (; c + 32 <= columns; c += 32) {  // loops with bounds that the compiler knows: unrolled
    ask(c), ask(c + kPartialSums);
    for (int64_t n = 0; n < 8; ++n) add(c + BlockAt<kSplit>(n, 32));
  }
  if (c < columns) {
    ask(c);
    for (int64_t n = 0; n < 4; ++n) add(c + BlockAt<kSplit>(n, 16));
  }
  StoreBlocks(d, JoinFourKeys(d, a0, a1, a2, a3), S);
  if constexpr (kVectors > 1) StoreBlocks(d, JoinFourKeys(d, b0, b1, b2, b3), S + kRows / 2 * kDecodeTileKeys);
}

// S[row, 0..3] = q[row] k[0], ..., q[row] k[3] of four rows from PackRows and keys in fp32, S [4, kDecodeTileKeys].
// Four sums a product, each of one place in the blocks of four.
template <bool kSplit>
HWY_INLINE void ScoreFourRows(const float* HWY_RESTRICT q, int64_t columns, const void* const* k, Asker& asker,
                              float* HWY_RESTRICT S) {
  constexpr int kRows = kLanes == 4 ? 2 : 4;
  ScoreRows<kSplit, kRows>(q, columns, k, asker, S);
  [[maybe_unused]] Asker none;
  if constexpr (kRows == 2) ScoreRows<kSplit, kRows>(q + 2 * 4, columns, k, none, S + 2 * kDecodeTileKeys);
}

#endif  // HWY_TARGET == HWY_SCALAR

// Four rows as ScoreFourRows reads them, [columns / 4][4 rows][4]; the rows that are not there are 0. split: blocks of
// the even columns of each eight, then of the odd ones.
inline void PackRows(const float* HWY_RESTRICT q, int64_t rows, int64_t columns, bool split,
                     float* HWY_RESTRICT packed) {
  for (int64_t c = 0; c < columns; c += 4) {
    for (int64_t row = 0; row < kScoreRows; ++row) {
      for (int64_t n = 0; n < 4; ++n) {
        const int64_t column = split ? c / 8 * 8 + 2 * n + c / 4 % 2 : c + n;
        *packed++ = row < rows ? q[row * columns + column] : 0.0f;
      }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace bitflash::reference
HWY_AFTER_NAMESPACE();

#endif  // BITFLASH_REFERENCE_CPU_SCORES_INL_H_
