// O = diag(r) O + P V with rows of V that are read where they are, per SIMD target. Included once per target by
// cpu_decode_kernels.cc.
#if defined(BITFLASH_REFERENCE_CPU_VALUES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BITFLASH_REFERENCE_CPU_VALUES_INL_H_
#undef BITFLASH_REFERENCE_CPU_VALUES_INL_H_
#else
#define BITFLASH_REFERENCE_CPU_VALUES_INL_H_
#endif

#include "hwy/highway.h"
#include "reference/cpu_kernels.h"
#include "reference/cpu_rows-inl.h"
#include "reference/cpu_softmax-inl.h"

HWY_BEFORE_NAMESPACE();
namespace bitflash::reference {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Vectors of columns that four rows sum up in registers, half of which hold sums; and how many as fewer rows do, so
// that rows of V are read whole, or nearly.
inline constexpr int kValueVectors = kVectorsPerSum == 1 ? 4 : 2;
inline constexpr int kTwoRowVectors = 4, kOneRowVectors = kVectorsPerSum == 1 ? 4 : 8;

// The first one or two of kVectors vectors of columns from c.
template <data::Format kFormat, int kVectors>
HWY_INLINE void LoadSome(const void* row, int64_t c, V& first, V& second) {
  if constexpr (kVectors == 1) {
    first = LoadRow<kFormat>(row, c);
  } else if constexpr (kFormat == data::Format::kBf16) {
    LoadBf16Pair(row, c, first, second);
  } else {
    first = LoadRow<kFormat>(row, c), second = LoadRow<kFormat>(row, c + kLanes);
  }
}

// Named accumulators and no lambdas, as in cpu_multiply-inl.h.
#define BITFLASH_DECLARE(i)                                                         \
  V x##i##0 = hn::Zero(d), x##i##1 = x##i##0, x##i##2 = x##i##0, x##i##3 = x##i##0; \
  [[maybe_unused]] V x##i##4 = x##i##0, x##i##5 = x##i##0, x##i##6 = x##i##0, x##i##7 = x##i##0;
#define BITFLASH_START_ONE(i, n) x##i##n = hn::Mul(hn::LoadU(d, from + (n)*kLanes), factor);
#define BITFLASH_STEP_ONE(i, n) x##i##n = hn::MulAdd(p, v##n, x##i##n);
#define BITFLASH_END_ONE(i, n) hn::StoreU(x##i##n, d, to + (n)*kLanes);
#define BITFLASH_ALL(ONE, i)                \
  ONE(i, 0)                                 \
  if constexpr (kVectors > 1) ONE(i, 1)     \
  if constexpr (kVectors > 2) {             \
    ONE(i, 2) ONE(i, 3)                     \
  }                                         \
  if constexpr (kVectors > 4) {             \
    ONE(i, 4) ONE(i, 5) ONE(i, 6) ONE(i, 7) \
  }
#define BITFLASH_START(i)                  \
  BITFLASH_DECLARE(i)                      \
  if constexpr (kRows > (i)) {             \
    const V factor = hn::Set(d, r[i]);     \
    const float* from = O + (i)*o_row + c; \
    BITFLASH_ALL(BITFLASH_START_ONE, i)    \
  }
#define BITFLASH_STEP(i)                                \
  if constexpr (kRows > (i)) {                          \
    const V p = hn::Set(d, P[(i)*kDecodeTileKeys + k]); \
    BITFLASH_ALL(BITFLASH_STEP_ONE, i)                  \
  }
#define BITFLASH_END(i)               \
  if constexpr (kRows > (i)) {        \
    float* to = O + (i)*o_row + c;    \
    BITFLASH_ALL(BITFLASH_END_ONE, i) \
  }

// O[row, c...] = r[row] O + sum_k P[row, k] V[k, c...] for kRows rows and kVectors vectors of columns, keys
// [begin, end) ascending. P's rows are kDecodeTileKeys apart.
template <data::Format kFormat, int kRows, int kVectors>
HWY_INLINE void AddValues(const float* HWY_RESTRICT P, const void* const* v, int64_t begin, int64_t end, int64_t c,
                          Asker& asker, const float* HWY_RESTRICT r, float* HWY_RESTRICT O, int64_t o_row) {
  static_assert(kRows == 1 || kRows == 2 || kRows == 4);
  static_assert(kVectors == 1 || kVectors == 2 || kVectors == 4 || kVectors == 8);
  const D d;
  BITFLASH_START(0)
  BITFLASH_START(1)
  BITFLASH_START(2)
  BITFLASH_START(3)
  for (int64_t k = begin; k < end; ++k) {
    const void* row = v[k];
    asker.Read<kFormat>(row, c, kVectors * kLanes);
    V v0;
    [[maybe_unused]] V v1, v2, v3, v4, v5, v6, v7;
    LoadSome<kFormat, kVectors>(row, c, v0, v1);
    if constexpr (kVectors > 2) LoadSome<kFormat, kVectors>(row, c + 2 * kLanes, v2, v3);
    if constexpr (kVectors > 4) {
      LoadSome<kFormat, kVectors>(row, c + 4 * kLanes, v4, v5);
      LoadSome<kFormat, kVectors>(row, c + 6 * kLanes, v6, v7);
    }
    BITFLASH_STEP(0)
    BITFLASH_STEP(1)
    BITFLASH_STEP(2)
    BITFLASH_STEP(3)
  }
  BITFLASH_END(0)
  BITFLASH_END(1)
  BITFLASH_END(2)
  BITFLASH_END(3)
}

#undef BITFLASH_DECLARE
#undef BITFLASH_START_ONE
#undef BITFLASH_STEP_ONE
#undef BITFLASH_END_ONE
#undef BITFLASH_ALL
#undef BITFLASH_START
#undef BITFLASH_STEP
#undef BITFLASH_END

// AddValues for all columns. bf16: pairs of vectors, as many as there are, stay in the order of LoadBf16Pair.
template <data::Format kFormat, int kRows, int kVectors>
HWY_INLINE void AddAllColumns(const float* P, const void* const* v, int64_t begin, int64_t end, int64_t columns,
                              Asker& asker, const float* r, float* O) {
  int64_t c = 0;
  for (; c + kVectors * kLanes <= columns; c += kVectors * kLanes) {
    AddValues<kFormat, kRows, kVectors>(P, v, begin, end, c, asker, r, O, columns);
  }
  for (; kVectors > 4 && c + 4 * kLanes <= columns; c += 4 * kLanes) {
    AddValues<kFormat, kRows, 4>(P, v, begin, end, c, asker, r, O, columns);
  }
  for (; kVectors > 2 && c + 2 * kLanes <= columns; c += 2 * kLanes) {
    AddValues<kFormat, kRows, 2>(P, v, begin, end, c, asker, r, O, columns);
  }
  for (; c < columns; c += kLanes) AddValues<kFormat, kRows, 1>(P, v, begin, end, c, asker, r, O, columns);
}

}  // namespace HWY_NAMESPACE
}  // namespace bitflash::reference
HWY_AFTER_NAMESPACE();

#endif  // BITFLASH_REFERENCE_CPU_VALUES_INL_H_
