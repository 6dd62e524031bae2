// AmxAttention's inner loops on the tile unit and 512-bit vectors. Compiled with flags of its own, see
// reference/CMakeLists.txt; TileUnitSteps is the only function that other files may see (golden_block-inl.h says why).
#include <immintrin.h>

#include "reference/amx_steps.h"

#define AMX_INLINE inline __attribute__((always_inline))

namespace bitflash::reference {
namespace {

struct F {
  __m512 v;
};
struct Lanes {
  __mmask16 bits;
};

AMX_INLINE F Set(float x) { return {_mm512_set1_ps(x)}; }
AMX_INLINE F Load(const float* from) { return {_mm512_load_ps(from)}; }
AMX_INLINE void Store(F x, float* to) { _mm512_store_ps(to, x.v); }
AMX_INLINE F Add(F a, F b) { return {_mm512_add_ps(a.v, b.v)}; }
AMX_INLINE F Sub(F a, F b) { return {_mm512_sub_ps(a.v, b.v)}; }
AMX_INLINE F Mul(F a, F b) { return {_mm512_mul_ps(a.v, b.v)}; }
AMX_INLINE F Div(F a, F b) { return {_mm512_div_ps(a.v, b.v)}; }
AMX_INLINE F MulAdd(F a, F b, F c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
AMX_INLINE F Max(F a, F b) { return {_mm512_max_ps(a.v, b.v)}; }  // b if one is NaN
AMX_INLINE F Abs(F a) { return {_mm512_abs_ps(a.v)}; }
AMX_INLINE F CopySign(F magnitude, F sign) {
  const __m512i bit = _mm512_set1_epi32(INT32_MIN);  // of each bit: bit ? sign : magnitude
  return {_mm512_castsi512_ps(
      _mm512_ternarylogic_epi32(bit, _mm512_castps_si512(sign.v), _mm512_castps_si512(magnitude.v), 0xCA))};
}
// x - floor(x), rounded down.
AMX_INLINE F Fraction(F x) { return {_mm512_reduce_ps(x.v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC)}; }
// p 2^floor(x), and 0 where x < -126: masked off, so that no lane has a subnormal result, which costs hundreds of
// cycles.
AMX_INLINE F ScaleOrZero(F p, F x) {
  const __mmask16 normal = _mm512_cmp_ps_mask(x.v, _mm512_set1_ps(-126.0f), _CMP_NLT_UQ);
  return {_mm512_maskz_scalef_ps(normal, p.v, x.v)};
}
AMX_INLINE Lanes Greater(F a, F b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ)}; }
AMX_INLINE bool Any(Lanes a) { return a.bits != 0; }
AMX_INLINE F Select(Lanes a, F yes, F no) { return {_mm512_mask_blend_ps(a.bits, no.v, yes.v)}; }
AMX_INLINE Lanes Between(int32_t number, const int32_t* begin, const int32_t* end) {
  const __m512i n = _mm512_set1_epi32(number);
  const __mmask16 from = _mm512_cmp_epi32_mask(_mm512_loadu_si512(begin), n, _MM_CMPINT_LE);
  return {_mm512_mask_cmp_epi32_mask(from, n, _mm512_loadu_si512(end), _MM_CMPINT_LT)};
}
// Lanes [begin, end).
AMX_INLINE Lanes Inside(int64_t begin, int64_t end) {
  const auto below = [](int64_t n) { return n <= 0 ? 0u : n >= 16 ? 0xFFFFu : (1u << n) - 1; };
  return {static_cast<__mmask16>(below(end) & ~below(begin))};
}
AMX_INLINE float Greatest(F x) { return _mm512_reduce_max_ps(x.v); }  // of numbers

// x[n] lane i = from[16 i + n]: four columns of 16 rows of 16 floats.
AMX_INLINE void LoadColumns(const float* from, F* x) {
  const auto four = [&](int64_t row) {  // columns of rows row, row + 4, row + 8, row + 12
    const auto load = [&](int64_t i) { return _mm_load_ps(from + (row + i) * 16); };
    const __m512 low = _mm512_insertf32x4(_mm512_castps128_ps512(load(0)), load(4), 1);
    return _mm512_insertf32x4(_mm512_insertf32x4(low, load(8), 2), load(12), 3);
  };
  const __m512 a = four(0), b = four(1), c = four(2), d = four(3);
  const __m512 ab = _mm512_unpacklo_ps(a, b), cd = _mm512_unpacklo_ps(c, d);
  const __m512 ab2 = _mm512_unpackhi_ps(a, b), cd2 = _mm512_unpackhi_ps(c, d);
  x[0].v = _mm512_shuffle_ps(ab, cd, 0x44);
  x[1].v = _mm512_shuffle_ps(ab, cd, 0xEE);
  x[2].v = _mm512_shuffle_ps(ab2, cd2, 0x44);
  x[3].v = _mm512_shuffle_ps(ab2, cd2, 0xEE);
}

AMX_INLINE void AskFor(const void* address) { __builtin_prefetch(address); }
AMX_INLINE void AskFarFor(const void* address) { __builtin_prefetch(address, 0, 2); }

// bf16, nearest even, subnormal numbers to 0: to[2 i] = even[i], to[2 i + 1] = odd[i].
AMX_INLINE void StorePairs(F even, F odd, uint16_t* to) {
  alignas(64) static constexpr uint16_t kInterleave[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                           21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                           11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512bh both = _mm512_cvtne2ps_pbh(odd.v, even.v);
  __m512i bits;
  __builtin_memcpy(&bits, &both, sizeof(bits));
  _mm512_store_si512(to, _mm512_permutexvar_epi16(_mm512_load_si512(kInterleave), bits));
}
// bf16 as above: lower[2 i] = upper[2 i + 1] = x[i], 0 between.
AMX_INLINE void StoreHalves(F x, uint16_t* lower, uint16_t* upper) {
  const __m256bh rounded = _mm512_cvtneps_pbh(x.v);
  __m256i bits;
  __builtin_memcpy(&bits, &rounded, sizeof(bits));
  const __m512i words = _mm512_cvtepu16_epi32(bits);
  _mm512_store_si512(lower, words);
  _mm512_store_si512(upper, _mm512_slli_epi32(words, 16));
}
AMX_INLINE float Widen(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  __builtin_memcpy(&value, &wide, sizeof(value));
  return value;
}

// Words of two numbers in bf16, as data::FromFloat: nearest even, subnormal numbers stay, NaN becomes 0x7FFF.
AMX_INLINE F PairBf16(F low, F high) {
  const auto rounded = [](F x) {  // in the upper halves
    const __m512i bits = _mm512_castps_si512(x.v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __mmask16 number = _mm512_cmp_ps_mask(x.v, x.v, _CMP_ORD_Q);
    return _mm512_mask_add_epi32(_mm512_set1_epi32(0x7FFF0000), number,
                                 _mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), odd);
  };
  const __m512i below = _mm512_srli_epi32(rounded(low), 16);
  return {_mm512_castsi512_ps(_mm512_mask_blend_epi16(0xAAAAAAAA, below, rounded(high)))};
}
// Up to 32 elements of bf16.
AMX_INLINE void StoreBf16(F words, int64_t columns, uint16_t* to) {
  const __mmask32 there = columns >= 32 ? ~__mmask32{0} : (__mmask32{1} << columns) - 1;
  _mm512_mask_storeu_epi16(to, there, _mm512_castps_si512(words.v));
}

// Up to 32 elements of bf16, zeros behind `columns`.
AMX_INLINE F LoadBf16(const uint16_t* from, int64_t columns) {
  const __mmask32 there = columns >= 32 ? ~__mmask32{0} : (__mmask32{1} << columns) - 1;
  return {_mm512_castsi512_ps(_mm512_maskz_loadu_epi16(there, from))};
}
// Words of one element of each row, up to 16 columns; null: zeros.
AMX_INLINE F InterleaveBf16(const uint16_t* even, const uint16_t* odd, int64_t columns) {
  const __mmask16 there = columns <= 0 ? 0 : columns >= 16 ? 0xFFFF : static_cast<__mmask16>((1u << columns) - 1);
  const __m512i low =
      even == nullptr ? _mm512_setzero_si512() : _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(there, even));
  const __m512i high =
      odd == nullptr ? _mm512_setzero_si512() : _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(there, odd));
  return {_mm512_castsi512_ps(_mm512_or_si512(low, _mm512_slli_epi32(high, 16)))};
}
AMX_INLINE bool AllFiniteBf16(F pairs) {
  const __m512i exponents = _mm512_set1_epi16(0x7F80);
  return _mm512_cmpeq_epi16_mask(_mm512_and_si512(_mm512_castps_si512(pairs.v), exponents), exponents) == 0;
}

// Rows and columns of 16 x 16 words exchanged.
AMX_INLINE void Transpose(F* rows) {
  __m512 a[16], b[16];
  for (int i = 0; i < 16; i += 2) {
    a[i] = _mm512_unpacklo_ps(rows[i].v, rows[i + 1].v);
    a[i + 1] = _mm512_unpackhi_ps(rows[i].v, rows[i + 1].v);
  }
  for (int i = 0; i < 16; i += 4) {  // b[i + n]: column n of each quarter, of rows i to i + 3
    b[i] = _mm512_shuffle_ps(a[i], a[i + 2], 0x44);
    b[i + 1] = _mm512_shuffle_ps(a[i], a[i + 2], 0xEE);
    b[i + 2] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0x44);
    b[i + 3] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0xEE);
  }
  for (int n = 0; n < 4; ++n) {
    const __m512 low02 = _mm512_shuffle_f32x4(b[n], b[n + 4], 0x88), low13 = _mm512_shuffle_f32x4(b[n], b[n + 4], 0xDD);
    const __m512 high02 = _mm512_shuffle_f32x4(b[n + 8], b[n + 12], 0x88);
    const __m512 high13 = _mm512_shuffle_f32x4(b[n + 8], b[n + 12], 0xDD);
    rows[n].v = _mm512_shuffle_f32x4(low02, high02, 0x88);
    rows[n + 4].v = _mm512_shuffle_f32x4(low13, high13, 0x88);
    rows[n + 8].v = _mm512_shuffle_f32x4(low02, high02, 0xDD);
    rows[n + 12].v = _mm512_shuffle_f32x4(low13, high13, 0xDD);
  }
}

// The tile registers. Written as assembly: g++'s intrinsics for tile loads do not say that they read memory.
struct Tiles {
  template <int n>
  AMX_INLINE void Zero() {
    asm volatile("tilezero %%tmm%c0" ::"i"(n));
  }
  template <int n>
  AMX_INLINE void Load(const void* from, int64_t step = 64) {  // bytes from row to row
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(step), "i"(n) : "memory");
  }
  template <int n>
  AMX_INLINE void Store(void* to) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(int64_t{64}), "i"(n) : "memory");
  }
  // sums += a b, with b in pairs of rows.
  template <int sums, int a, int b>
  AMX_INLINE void Multiply() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(sums), "i"(a), "i"(b));
  }
};

// Eight tiles of 16 rows of 64 bytes (Intel 64 and IA-32 Architectures Software Developer's Manual, LDTILECFG).
class TileScope {
 public:
  TileScope() {
    alignas(64) uint8_t configuration[64] = {1};  // palette
    for (int tile = 0; tile < 8; ++tile) {
      configuration[16 + 2 * tile] = 64;  // bytes of a row, 16 bits
      configuration[48 + tile] = 16;      // rows
    }
    asm volatile("ldtilecfg %0" ::"m"(configuration) : "memory");
  }
  ~TileScope() { asm volatile("tilerelease" ::: "memory"); }
};

}  // namespace
}  // namespace bitflash::reference

#include "reference/amx_kernel-inl.h"

namespace bitflash::reference {

const AmxSteps& TileUnitSteps() { return kSteps; }

}  // namespace bitflash::reference
