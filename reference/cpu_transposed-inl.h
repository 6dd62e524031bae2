// Scores of several rows and bf16 keys that are read where they are, per SIMD target: a key is a lane, so that no sum
// crosses a vector. Included once per target by cpu_kernels.cc.
//
// Two neighbouring columns of bf16 are one word, and words are what is transposed: half the work that fp32 would need,
// shared by all rows. A shift and a mask then make two vectors of fp32 of a vector of words. Sums over a row's products
// would take longer than the products themselves at head_dim 64.
#if defined(BITFLASH_REFERENCE_CPU_TRANSPOSED_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BITFLASH_REFERENCE_CPU_TRANSPOSED_INL_H_
#undef BITFLASH_REFERENCE_CPU_TRANSPOSED_INL_H_
#else
#define BITFLASH_REFERENCE_CPU_TRANSPOSED_INL_H_
#endif

#include "hwy/highway.h"
#include "reference/cpu_kernels.h"
#include "reference/cpu_rows-inl.h"
#include "reference/cpu_softmax-inl.h"

HWY_BEFORE_NAMESPACE();
namespace bitflash::reference {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

inline constexpr bool kTransposes = HWY_TARGET != HWY_SCALAR;

#if HWY_TARGET != HWY_SCALAR

// Words of 128 bits at byte `at` of every fourth row from k[n] on, as the blocks of a vector.
template <class DW>
HWY_INLINE hn::Vec<DW> LoadBlocks(DW d, const void* const* k, int64_t at) {
  if constexpr (hn::MaxLanes(DW()) == 4) {
    return hn::LoadU(d, reinterpret_cast<const uint32_t*>(static_cast<const std::byte*>(k[0]) + at));
  } else {
    const hn::Half<DW> half;
    constexpr int64_t kRows = hn::MaxLanes(DW()) / 2;
    return hn::Combine(d, LoadBlocks(half, k + kRows, at), LoadBlocks(half, k, at));
  }
}

// The words of kLanes rows of bf16: [columns / 2][kLanes].
HWY_INLINE void TransposeWords(const void* const* k, int64_t columns, Asker& asker, uint32_t* HWY_RESTRICT words) {
  const hn::RebindToUnsigned<D> d;
  for (int64_t c = 0; c < columns; c += 8, words += 4 * kLanes) {
    if (c % 32 == 0) {
      for (int64_t n = 0; n < kLanes; ++n) asker.Read<data::Format::kBf16>(k[n], c, 32);
    }
    const auto x0 = LoadBlocks(d, k, 2 * c), x1 = LoadBlocks(d, k + 1, 2 * c);
    const auto x2 = LoadBlocks(d, k + 2, 2 * c), x3 = LoadBlocks(d, k + 3, 2 * c);
    const auto even_lower = hn::InterleaveLower(d, x0, x2), even_upper = hn::InterleaveUpper(d, x0, x2);
    const auto odd_lower = hn::InterleaveLower(d, x1, x3), odd_upper = hn::InterleaveUpper(d, x1, x3);
    hn::Store(hn::InterleaveLower(d, even_lower, odd_lower), d, words);
    hn::Store(hn::InterleaveUpper(d, even_lower, odd_lower), d, words + kLanes);
    hn::Store(hn::InterleaveLower(d, even_upper, odd_upper), d, words + 2 * kLanes);
    hn::Store(hn::InterleaveUpper(d, even_upper, odd_upper), d, words + 3 * kLanes);
  }
}

// Named accumulators, as in cpu_multiply-inl.h.
#define BITFLASH_STEP(i)                                                  \
  if constexpr (kRows > (i)) {                                            \
    even##i = hn::MulAdd(hn::Set(d, q[(i)*columns + c]), even, even##i);  \
    odd##i = hn::MulAdd(hn::Set(d, q[(i)*columns + c + 1]), odd, odd##i); \
  }
#define BITFLASH_END(i) \
  if constexpr (kRows > (i)) hn::StoreU(hn::Add(even##i, odd##i), d, S + (i)*kDecodeTileKeys);

// Scores of kRows rows and kLanes keys: a chain of the even columns, one of the odd, and their sum.
template <int kRows>
HWY_INLINE void ScoreWords(const float* HWY_RESTRICT q, int64_t columns, const uint32_t* HWY_RESTRICT words,
                           float* HWY_RESTRICT S) {
  static_assert(kRows >= 1 && kRows <= 4);
  const D d;
  const hn::RebindToUnsigned<D> du;
  const auto upper = hn::Set(du, 0xFFFF0000u);
  V even0 = hn::Zero(d), even1 = even0, even2 = even0, even3 = even0;
  V odd0 = even0, odd1 = even0, odd2 = even0, odd3 = even0;
  for (int64_t c = 0; c < columns; c += 2, words += kLanes) {
    const auto word = hn::Load(du, words);
    const V even = hn::BitCast(d, hn::ShiftLeft<16>(word)), odd = hn::BitCast(d, hn::And(word, upper));
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
#undef BITFLASH_STEP
#undef BITFLASH_END

// Scores of all rows of q [rows, columns] and kLanes keys k, S [rows, kDecodeTileKeys]. words: [columns / 2][kLanes].
HWY_INLINE void ScoreTransposed(const float* HWY_RESTRICT q, int64_t rows, int64_t columns, const void* const* k,
                                Asker& asker, uint32_t* HWY_RESTRICT words, float* HWY_RESTRICT S) {
  TransposeWords(k, columns, asker, words);
  int64_t row = 0;
  for (; row + 4 <= rows; row += 4) ScoreWords<4>(q + row * columns, columns, words, S + row * kDecodeTileKeys);
  q += row * columns;
  S += row * kDecodeTileKeys;
  switch (rows - row) {
    case 3:
      return ScoreWords<3>(q, columns, words, S);
    case 2:
      return ScoreWords<2>(q, columns, words, S);
    case 1:
      return ScoreWords<1>(q, columns, words, S);
    default:
      return;
  }
}

#else

void ScoreTransposed(const float* q, int64_t rows, int64_t columns, const void* const* k, Asker& asker, uint32_t* words,
                     float* S);  // not there

#endif  // HWY_TARGET != HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace bitflash::reference
HWY_AFTER_NAMESPACE();

#endif  // BITFLASH_REFERENCE_CPU_TRANSPOSED_INL_H_
