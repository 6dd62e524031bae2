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

// Vectors of columns that 4 rows, or fewer, sum up in registers: half of them hold sums.
inline constexpr int kValueVectors = kVectorsPerSum == 1 ? 4 : 2;

// Named accumulators and no lambdas, as in cpu_multiply-inl.h.
#define BITFLASH_START(i)                                                               \
  V x##i##0 = hn::Zero(d), x##i##1 = x##i##0, x##i##2 = x##i##0, x##i##3 = x##i##0;     \
  if constexpr (kRows > (i)) {                                                          \
    const V factor = hn::Set(d, r[i]);                                                  \
    const float* from = O + (i)*o_row + c;                                              \
    x##i##0 = hn::Mul(hn::LoadU(d, from), factor);                                      \
    if constexpr (kVectors > 1) x##i##1 = hn::Mul(hn::LoadU(d, from + kLanes), factor); \
    if constexpr (kVectors > 2) {                                                       \
      x##i##2 = hn::Mul(hn::LoadU(d, from + 2 * kLanes), factor);                       \
      x##i##3 = hn::Mul(hn::LoadU(d, from + 3 * kLanes), factor);                       \
    }                                                                                   \
  }
#define BITFLASH_STEP(i)                                              \
  if constexpr (kRows > (i)) {                                        \
    const V p = hn::Set(d, P[(i)*kDecodeTileKeys + k]);               \
    x##i##0 = hn::MulAdd(p, v0, x##i##0);                             \
    if constexpr (kVectors > 1) x##i##1 = hn::MulAdd(p, v1, x##i##1); \
    if constexpr (kVectors > 2) {                                     \
      x##i##2 = hn::MulAdd(p, v2, x##i##2);                           \
      x##i##3 = hn::MulAdd(p, v3, x##i##3);                           \
    }                                                                 \
  }
#define BITFLASH_END(i)                                              \
  if constexpr (kRows > (i)) {                                       \
    float* to = O + (i)*o_row + c;                                   \
    hn::StoreU(x##i##0, d, to);                                      \
    if constexpr (kVectors > 1) hn::StoreU(x##i##1, d, to + kLanes); \
    if constexpr (kVectors > 2) {                                    \
      hn::StoreU(x##i##2, d, to + 2 * kLanes);                       \
      hn::StoreU(x##i##3, d, to + 3 * kLanes);                       \
    }                                                                \
  }

// O[row, c...] = r[row] O + sum_k P[row, k] V[k, c...] for kRows rows and kVectors vectors of columns, keys
// [begin, end) ascending. P's rows are kDecodeTileKeys apart.
template <data::Format kFormat, int kRows, int kVectors>
HWY_INLINE void AddValues(const float* HWY_RESTRICT P, const void* const* v, int64_t begin, int64_t end, int64_t c,
                          Asker& asker, const float* HWY_RESTRICT r, float* HWY_RESTRICT O, int64_t o_row) {
  static_assert((kRows == 1 || kRows == 2 || kRows == 4) && (kVectors == 1 || kVectors == 2 || kVectors == 4));
  const D d;
  BITFLASH_START(0)
  BITFLASH_START(1)
  BITFLASH_START(2)
  BITFLASH_START(3)
  for (int64_t k = begin; k < end; ++k) {
    const void* row = v[k];
    asker.Read<kFormat>(row, c, kVectors * kLanes);
    V v0, v1, v2, v3;
    if constexpr (kFormat == data::Format::kBf16 && kVectors > 1) {
      LoadBf16Pair(row, c, v0, v1);
      if constexpr (kVectors > 2) LoadBf16Pair(row, c + 2 * kLanes, v2, v3);
    } else {
      v0 = LoadRow<kFormat>(row, c);
      if constexpr (kVectors > 1) v1 = LoadRow<kFormat>(row, c + kLanes);
      if constexpr (kVectors > 2) {
        v2 = LoadRow<kFormat>(row, c + 2 * kLanes), v3 = LoadRow<kFormat>(row, c + 3 * kLanes);
      }
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
  for (; kVectors > 2 && c + 2 * kLanes <= columns; c += 2 * kLanes) {
    AddValues<kFormat, kRows, 2>(P, v, begin, end, c, asker, r, O, columns);
  }
  for (; c < columns; c += kLanes) AddValues<kFormat, kRows, 1>(P, v, begin, end, c, asker, r, O, columns);
}

}  // namespace HWY_NAMESPACE
}  // namespace bitflash::reference
HWY_AFTER_NAMESPACE();

#endif  // BITFLASH_REFERENCE_CPU_VALUES_INL_H_
