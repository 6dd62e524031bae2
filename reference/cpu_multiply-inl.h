// The product of a strip of rows and a panel of columns in registers, per SIMD target. Included once per target by
// cpu_prefill_kernels.cc.
//
// The register tile holds 6 rows x 4 vectors where there are 32 registers, else 6 x 2: one accumulator per output
// element, so that neither its width nor the vectors' enters the result. Each step loads 4 vectors and 6 broadcasts for
// 24 multiply-adds: the loads need less than half of the cycles, if the panel comes from the first-level cache.
#if defined(BITFLASH_REFERENCE_CPU_MULTIPLY_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BITFLASH_REFERENCE_CPU_MULTIPLY_INL_H_
#undef BITFLASH_REFERENCE_CPU_MULTIPLY_INL_H_
#else
#define BITFLASH_REFERENCE_CPU_MULTIPLY_INL_H_
#endif

#include <algorithm>

#include "hwy/highway.h"
#include "reference/cpu_kernels.h"
#include "reference/cpu_softmax-inl.h"

HWY_BEFORE_NAMESPACE();
namespace bitflash::reference {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL || HWY_ARCH_ARM_A64
inline constexpr int kPanelVectors = 4;
#else
inline constexpr int kPanelVectors = 2;
#endif
inline constexpr int64_t kPanel = kPanelVectors * kLanes;  // columns

// Highway's prefetch would bring it into the first-level cache, which is full.
HWY_INLINE void PrefetchSecondLevel(const float* line) { __builtin_prefetch(line, 0, 2); }

// Says that `v` is still wanted. Without it g++ 12 writes a sum over the last use of a factor, so that sums wander from
// register to register and, where none is left, through memory: 7 % of the products with AVX2.
HWY_INLINE void Keep([[maybe_unused]] V v) {
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
  asm volatile("" : : "v"(v.raw));
#endif
}

// Named accumulators: g++ 12 keeps an array of vectors in memory, at a quarter of the speed.
#define BITFLASH_START(i)                                                                 \
  V c##i##0 = hn::Zero(d), c##i##1 = c##i##0, c##i##2 = c##i##0, c##i##3 = c##i##0;       \
  if constexpr (kScaled) {                                                                \
    const V factor = hn::Set(d, r[i]);                                                    \
    const float* HWY_RESTRICT row = c + i * c_row;                                        \
    c##i##0 = hn::Mul(hn::Load(d, row), factor);                                          \
    if constexpr (kVectors > 1) c##i##1 = hn::Mul(hn::Load(d, row + kLanes), factor);     \
    if constexpr (kVectors > 2) c##i##2 = hn::Mul(hn::Load(d, row + 2 * kLanes), factor); \
    if constexpr (kVectors > 3) c##i##3 = hn::Mul(hn::Load(d, row + 3 * kLanes), factor); \
  }
#define BITFLASH_STEP(i, n)                                           \
  {                                                                   \
    const V x = hn::Set(d, a##i[k + n]);                              \
    c##i##0 = hn::MulAdd(x, b0, c##i##0);                             \
    if constexpr (kVectors > 1) c##i##1 = hn::MulAdd(x, b1, c##i##1); \
    if constexpr (kVectors > 2) c##i##2 = hn::MulAdd(x, b2, c##i##2); \
    if constexpr (kVectors > 3) c##i##3 = hn::MulAdd(x, b3, c##i##3); \
    if constexpr (kVectors > 1) Keep(x);                              \
  }
#define BITFLASH_STEPS(n)                                                             \
  {                                                                                   \
    const float* HWY_RESTRICT from = b + (n)*kVectors * kLanes;                       \
    const V b0 = hn::Load(d, from);                                                   \
    [[maybe_unused]] const V b1 = kVectors > 1 ? hn::Load(d, from + kLanes) : b0;     \
    [[maybe_unused]] const V b2 = kVectors > 2 ? hn::Load(d, from + 2 * kLanes) : b0; \
    [[maybe_unused]] const V b3 = kVectors > 3 ? hn::Load(d, from + 3 * kLanes) : b0; \
    BITFLASH_STEP(0, n)                                                               \
    BITFLASH_STEP(1, n)                                                               \
    BITFLASH_STEP(2, n)                                                               \
    BITFLASH_STEP(3, n)                                                               \
    BITFLASH_STEP(4, n)                                                               \
    BITFLASH_STEP(5, n)                                                               \
    Keep(b0), Keep(b1), Keep(b2), Keep(b3);                                           \
  }
#define BITFLASH_END(i)                                                  \
  {                                                                      \
    float* HWY_RESTRICT row = c + i * c_row;                             \
    hn::Store(c##i##0, d, row);                                          \
    if constexpr (kVectors > 1) hn::Store(c##i##1, d, row + kLanes);     \
    if constexpr (kVectors > 2) hn::Store(c##i##2, d, row + 2 * kLanes); \
    if constexpr (kVectors > 3) hn::Store(c##i##3, d, row + 3 * kLanes); \
  }

// C = A B, or diag(r) C + A B: A [6, depth] with rows a_row apart, B [depth, kVectors vectors], C [6] with rows c_row
// apart. Depth ascends. Meanwhile asks for a line of memory from `ahead` on every four steps.
template <int kVectors, bool kScaled>
HWY_INLINE void Multiply(const float* HWY_RESTRICT a, int64_t a_row, const float* HWY_RESTRICT b, int64_t depth,
                         [[maybe_unused]] const float* HWY_RESTRICT r, float* HWY_RESTRICT c, int64_t c_row,
                         const float* ahead) {
  static_assert(kStripRows == 6);
  const D d;
  const float *HWY_RESTRICT a0 = a, *HWY_RESTRICT a1 = a0 + a_row, *HWY_RESTRICT a2 = a1 + a_row;
  const float *HWY_RESTRICT a3 = a2 + a_row, *HWY_RESTRICT a4 = a3 + a_row, *HWY_RESTRICT a5 = a4 + a_row;
  BITFLASH_START(0)
  BITFLASH_START(1)
  BITFLASH_START(2)
  BITFLASH_START(3)
  BITFLASH_START(4)
  BITFLASH_START(5)
  int64_t k = 0;
  for (; k + 4 <= depth; k += 4, b += 4 * kVectors * kLanes) {
    PrefetchSecondLevel(ahead + 4 * k);
    BITFLASH_STEPS(0)
    BITFLASH_STEPS(1)
    BITFLASH_STEPS(2)
    BITFLASH_STEPS(3)
  }
  for (; k < depth; ++k, b += kVectors * kLanes) BITFLASH_STEPS(0)
  BITFLASH_END(0)
  BITFLASH_END(1)
  BITFLASH_END(2)
  BITFLASH_END(3)
  BITFLASH_END(4)
  BITFLASH_END(5)
}
#undef BITFLASH_START
#undef BITFLASH_STEP
#undef BITFLASH_STEPS
#undef BITFLASH_END

// The panel that starts at `column` of a row of `columns`: its width, a multiple of kLanes.
HWY_INLINE int64_t PanelWidth(int64_t columns, int64_t column) { return std::min(kPanel, columns - column); }

}  // namespace HWY_NAMESPACE
}  // namespace bitflash::reference
HWY_AFTER_NAMESPACE();

#endif  // BITFLASH_REFERENCE_CPU_MULTIPLY_INL_H_
