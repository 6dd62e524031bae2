// Scores of several rows and bf16 keys that are read where they are, per SIMD target: a key is a lane, so that no sum
// crosses a vector. Included once per target by cpu_decode_kernels.cc.
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

#include <algorithm>

#include "hwy/highway.h"
#include "reference/cpu_kernels.h"
#include "reference/cpu_multiply-inl.h"
#include "reference/cpu_rows-inl.h"
#include "reference/cpu_softmax-inl.h"

HWY_BEFORE_NAMESPACE();
namespace bitflash::reference {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

inline constexpr bool kTransposes = HWY_TARGET != HWY_SCALAR;

// Rows of q [rows, columns] as ScoreTransposed reads them: of every four rows, or the last ones, column by column.
inline void PackQueries(const float* q, int64_t rows, int64_t columns, float* packed) {
  for (int64_t first = 0; first < rows; first += 4) {
    const int64_t end = std::min<int64_t>(first + 4, rows);
    for (int64_t c = 0; c < columns; ++c) {
      for (int64_t row = first; row < end; ++row) *packed++ = q[row * columns + c];
    }
  }
}

#if HWY_TARGET != HWY_SCALAR

#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL

// 32 bytes at byte `at` of rows k[0] and k[4].
HWY_INLINE auto LoadTwoRows(const void* const* k, int64_t at) {
  const hn::RebindToUnsigned<D> d;
  const hn::Half<decltype(d)> half;
  const auto load = [&](const void* row) HWY_ATTR {
    return hn::LoadU(half, reinterpret_cast<const uint32_t*>(static_cast<const std::byte*>(row) + at));
  };
  return hn::Combine(d, load(k[4]), load(k[0]));
}

// Of rows k[0] to k[7]: words n + 4 b, n the index of the result, b of rows 0 to 3, 0 to 3, 4 to 7, 4 to 7 as blocks
// with b = 0, 1, 0, 1.
struct EightRows {
  hn::Vec<hn::RebindToUnsigned<D>> w0, w1, w2, w3;
};
HWY_INLINE EightRows LoadEightRows(const void* const* k, int64_t at) {
  const hn::RebindToUnsigned<D> d;
  const auto x0 = LoadTwoRows(k, at), x1 = LoadTwoRows(k + 1, at), x2 = LoadTwoRows(k + 2, at);
  const auto x3 = LoadTwoRows(k + 3, at);
  const auto even_lower = hn::InterleaveLower(d, x0, x2), even_upper = hn::InterleaveUpper(d, x0, x2);
  const auto odd_lower = hn::InterleaveLower(d, x1, x3), odd_upper = hn::InterleaveUpper(d, x1, x3);
  return {hn::InterleaveLower(d, even_lower, odd_lower), hn::InterleaveUpper(d, even_lower, odd_lower),
          hn::InterleaveLower(d, even_upper, odd_upper), hn::InterleaveUpper(d, even_upper, odd_upper)};
}

// The words of 16 columns.
HWY_INLINE void TransposeSixteen(const void* const* k, int64_t at, uint32_t* HWY_RESTRICT words) {
  const EightRows y = LoadEightRows(k, at), z = LoadEightRows(k + 8, at);
  const auto store = [&](int64_t n, __m512i a, __m512i b) HWY_ATTR {
    _mm512_store_si512(words + n * kLanes, _mm512_shuffle_i32x4(a, b, 0x88));
    _mm512_store_si512(words + (n + 4) * kLanes, _mm512_shuffle_i32x4(a, b, 0xDD));
  };
  store(0, y.w0.raw, z.w0.raw), store(1, y.w1.raw, z.w1.raw);
  store(2, y.w2.raw, z.w2.raw), store(3, y.w3.raw, z.w3.raw);
}

#else

// Words of 128 bits at byte `at` of every fourth row from k[0] on, as the blocks of a vector.
template <class DW>
HWY_INLINE hn::Vec<DW> LoadBlocks(DW d, const void* const* k, int64_t at) {
  if constexpr (hn::MaxLanes(DW()) == 4) {
    return hn::LoadU(d, reinterpret_cast<const uint32_t*>(static_cast<const std::byte*>(k[0]) + at));
  } else {
    const hn::Half<DW> half;
    return hn::Combine(d, LoadBlocks(half, k + hn::MaxLanes(DW()) / 2, at), LoadBlocks(half, k, at));
  }
}

// The words of 16 columns.
HWY_INLINE void TransposeSixteen(const void* const* k, int64_t at, uint32_t* HWY_RESTRICT words) {
  const hn::RebindToUnsigned<D> d;
  for (int64_t n = 0; n < 2; ++n, at += 16, words += 4 * kLanes) {
    const auto x0 = LoadBlocks(d, k, at), x1 = LoadBlocks(d, k + 1, at);
    const auto x2 = LoadBlocks(d, k + 2, at), x3 = LoadBlocks(d, k + 3, at);
    const auto even_lower = hn::InterleaveLower(d, x0, x2), even_upper = hn::InterleaveUpper(d, x0, x2);
    const auto odd_lower = hn::InterleaveLower(d, x1, x3), odd_upper = hn::InterleaveUpper(d, x1, x3);
    hn::Store(hn::InterleaveLower(d, even_lower, odd_lower), d, words);
    hn::Store(hn::InterleaveUpper(d, even_lower, odd_lower), d, words + kLanes);
    hn::Store(hn::InterleaveLower(d, even_upper, odd_upper), d, words + 2 * kLanes);
    hn::Store(hn::InterleaveUpper(d, even_upper, odd_upper), d, words + 3 * kLanes);
  }
}

#endif

// The words of kLanes rows of bf16: [columns / 2][kLanes]. Columns are a multiple of kRowPadding.
HWY_INLINE void TransposeWords(const void* const* k, int64_t columns, uint32_t* HWY_RESTRICT words) {
  static_assert(kRowPadding == 16);
  int64_t c = 0;
  for (; c + 64 <= columns; c += 64, words += 32 * kLanes) {  // distances that the compiler knows
    TransposeSixteen(k, 2 * c, words);
    TransposeSixteen(k, 2 * c + 32, words + 8 * kLanes);
    TransposeSixteen(k, 2 * c + 64, words + 16 * kLanes);
    TransposeSixteen(k, 2 * c + 96, words + 24 * kLanes);
  }
  for (; c < columns; c += 16, words += 8 * kLanes) TransposeSixteen(k, 2 * c, words);
}

// Named accumulators, as in cpu_multiply-inl.h.
#define BITFLASH_STEP(i)                                            \
  if constexpr (kRows > (i)) {                                      \
    const V qe = hn::Set(d, q[i]), qo = hn::Set(d, q[kRows + (i)]); \
    even##i = hn::MulAdd(qe, even, even##i);                        \
    odd##i = hn::MulAdd(qo, odd, odd##i);                           \
    if constexpr (kLanes < 16) Keep(qe), Keep(qo);                  \
  }
#define BITFLASH_END(i) \
  if constexpr (kRows > (i)) hn::StoreU(hn::Add(even##i, odd##i), d, S + (i)*kDecodeTileKeys);

// Scores of kRows rows of PackQueries and kLanes keys: a chain of the even columns, one of the odd, and their sum.
// Meanwhile asks for as many lines as kLanes rows hold: all at once they would wait for each other.
template <int kRows>
HWY_INLINE void ScoreWords(const float* HWY_RESTRICT q, int64_t columns, const uint32_t* HWY_RESTRICT words,
                           const void* const* k, Asker& asker, float* HWY_RESTRICT S) {
  static_assert(kRows >= 1 && kRows <= 4);
  const D d;
  const hn::RebindToUnsigned<D> du;
  const auto upper = hn::Set(du, 0xFFFF0000u);
  V even0 = hn::Zero(d), even1 = even0, even2 = even0, even3 = even0;
  V odd0 = even0, odd1 = even0, odd2 = even0, odd3 = even0;
  constexpr int64_t kStepsPerLine = 16 / kLanes;
  int64_t byte = 0;
  for (int64_t c = 0; c < columns; c += 2 * kStepsPerLine) {
    asker.ReadLine(*k, byte);
    byte += 64;
    if (byte >= 2 * columns) byte = 0, ++k;
    for (int64_t n = 0; n < kStepsPerLine; ++n, words += kLanes, q += 2 * kRows) {
      const auto word = hn::Load(du, words);
      const V even = hn::BitCast(d, hn::ShiftLeft<16>(word)), odd = hn::BitCast(d, hn::And(word, upper));
      BITFLASH_STEP(0)
      BITFLASH_STEP(1)
      BITFLASH_STEP(2)
      BITFLASH_STEP(3)
      Keep(even), Keep(odd);
    }
  }
  BITFLASH_END(0)
  BITFLASH_END(1)
  BITFLASH_END(2)
  BITFLASH_END(3)
}
#undef BITFLASH_STEP
#undef BITFLASH_END

// Scores of all rows of PackQueries and kLanes keys k, S [rows, kDecodeTileKeys]. words:
// [columns / 2][kLanes].
HWY_INLINE void ScoreTransposed(const float* HWY_RESTRICT q, int64_t rows, int64_t columns, const void* const* k,
                                Asker& asker, uint32_t* HWY_RESTRICT words, float* HWY_RESTRICT S) {
  TransposeWords(k, columns, words);
  Asker none;
  for (int64_t row = 0; row < rows; row += 4, q += 4 * columns, S += 4 * kDecodeTileKeys) {
    Asker& ask = row == 0 ? asker : none;
    switch (rows - row) {
      case 1:
        ScoreWords<1>(q, columns, words, k, ask, S);
        break;
      case 2:
        ScoreWords<2>(q, columns, words, k, ask, S);
        break;
      case 3:
        ScoreWords<3>(q, columns, words, k, ask, S);
        break;
      default:
        ScoreWords<4>(q, columns, words, k, ask, S);
    }
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
