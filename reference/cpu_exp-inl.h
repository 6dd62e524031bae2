// 2^x and tanh x of vectors of fp32, per SIMD target. Included once per target by each file of kernels.
#if defined(BITFLASH_REFERENCE_CPU_EXP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BITFLASH_REFERENCE_CPU_EXP_INL_H_
#undef BITFLASH_REFERENCE_CPU_EXP_INL_H_
#else
#define BITFLASH_REFERENCE_CPU_EXP_INL_H_
#endif

#include <array>
#include <bit>
#include <cstdint>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace bitflash::reference {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// 2^x is T 2^f 2^n: n whole, T a power of 2^(1/8), |f| <= 1/16. f (c0 + f (c1 + f c2)) is 2^f - 1 of least relative
// error (2.6e-8, Lawson's iteration), so that 2^0 is exactly 1. With the roundings of T and of the result 1.16 ulp,
// 1.34 where multiply-add is not fused.
inline constexpr float kExp2Factors[3] = {0x1.62e432p-1f, 0x1.ec0c22p-3f, 0x1.c690d4p-5f};
HWY_ALIGN inline constexpr float kEighths[16] = {
    1.0f, 0x1.172b84p0f, 0x1.306fep0f, 0x1.4bfdaep0f, 0x1.6a09e6p0f, 0x1.8ace54p0f, 0x1.ae89fap0f, 0x1.d5818ep0f,
    1.0f, 0x1.172b84p0f, 0x1.306fep0f, 0x1.4bfdaep0f, 0x1.6a09e6p0f, 0x1.8ace54p0f, 0x1.ae89fap0f, 0x1.d5818ep0f};
// Adding it rounds to eighths, which then stand in the low bits as an integer i.
inline constexpr float kEighthsShift = 0x1.8p20f;
// With (i << 20), which is (i / 8 << 23) + (i % 8 << 20), the bits of T 2^n.
HWY_ALIGN inline constexpr std::array<int32_t, 8> kEighthBits = [] {
  std::array<int32_t, 8> bits{};
  for (int i = 0; i < 8; ++i) bits[i] = std::bit_cast<int32_t>(kEighths[i]) - (i << 20);
  return bits;
}();

#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
inline constexpr bool kMaskedLanesAreFree = true;  // instructions with a mask do nothing in the lanes it leaves out
// Whether T comes from 16 lanes and p 2^n is one instruction, which Highway has no name for.
template <class D>
inline constexpr bool kScales = hn::MaxLanes(D()) == 16;
#else
inline constexpr bool kMaskedLanesAreFree = false;
template <class D>
inline constexpr bool kScales = false;
#endif

// What 2^(x factor - M) takes for all x, M whole and such that 2^-M is normal.
template <class D>
struct Exponent {
  HWY_INLINE Exponent(D d, hn::Vec<D> x_factor, float M = 0)
      : factor(x_factor), shift(hn::Set(d, kEighthsShift - M)), powers(hn::Zero(d)) {
    if constexpr (kScales<D>) {
      const float below = std::bit_cast<float>((127 - static_cast<int32_t>(M)) << 23);
      powers = hn::Mul(hn::Load(d, kEighths), hn::Set(d, below));
    }
  }
  hn::Vec<D> factor, shift;
  hn::Vec<D> powers;  // T 2^-M, where kScales
};

// x factor = n + f with n the nearest eighth, whatever M is; the only rounding is that of f, 2^-28 at most, where
// multiply-add is fused.
template <class D, class V = hn::Vec<D>>
HWY_INLINE void Split(const Exponent<D>& e, V x, V& shifted, V& n, V& f) {
  shifted = hn::MulAdd(x, e.factor, e.shift);
  n = hn::Sub(shifted, e.shift);
  f = hn::MulSub(x, e.factor, n);
}

// 2^f - 1.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V PowerMinus1(D d, V f) {
  const V c = hn::MulAdd(hn::Set(d, kExp2Factors[2]), f, hn::Set(d, kExp2Factors[1]));
  return hn::Mul(hn::MulAdd(c, f, hn::Set(d, kExp2Factors[0])), f);
}

// kEighthBits at the low three bits of every lane.
template <class DI, class VI = hn::Vec<DI>>
HWY_INLINE VI EighthBitsAt(DI di, VI i) {
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
  const __m256i table = _mm256_load_si256(reinterpret_cast<const __m256i*>(kEighthBits.data()));
  if constexpr (hn::MaxLanes(DI()) == 8) {
    return VI{_mm256_permutevar8x32_epi32(table, i.raw)};
  } else if constexpr (hn::MaxLanes(DI()) < 8) {
    return VI{_mm256_castsi256_si128(_mm256_permutevar8x32_epi32(table, _mm256_castsi128_si256(i.raw)))};
  }
#endif
  return hn::GatherIndex(di, kEighthBits.data(), hn::And(i, hn::Set(di, 7)));
}

// T (1 + q) 2^(n - M), and if kMasked 0 where x < least.
template <bool kMasked, class D, class V = hn::Vec<D>>
HWY_INLINE V Scale([[maybe_unused]] const Exponent<D>& e, [[maybe_unused]] V x, [[maybe_unused]] V least, V shifted,
                   [[maybe_unused]] V n, V q) {
  const D d;
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
  if constexpr (kScales<D>) {
    const V T{_mm512_permutexvar_ps(_mm512_castps_si512(shifted.raw), e.powers.raw)};
    const V p = hn::MulAdd(T, q, T);
    if constexpr (!kMasked) return V{_mm512_scalef_ps(p.raw, n.raw)};
    return V{_mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(x.raw, least.raw, _CMP_NLT_UQ), p.raw, n.raw)};
  }
#endif
  const hn::RebindToSigned<D> di;
  const auto i = hn::BitCast(di, shifted);
  const V T = hn::BitCast(d, hn::Add(EighthBitsAt(di, i), hn::ShiftLeft<20>(i)));
  const V p = hn::MulAdd(T, q, T);  // also NaN, if q is
  if constexpr (!kMasked) return p;
  return hn::IfThenZeroElse(hn::Lt(x, least), p);
}

// What is computed with in the place of x: 0 where x < least, if a result below the normal range, or -inf, costs time.
template <bool kMasked, class D, class V = hn::Vec<D>>
HWY_INLINE V Tame([[maybe_unused]] D d, V x, [[maybe_unused]] V least) {
  if constexpr (!kMasked || kScales<D>) {
    return x;
  } else {
    return hn::IfThenZeroElse(hn::Lt(x, least), x);
  }
}

// 2^(x factor - M), at least 2^-125; if kMasked 0 where x < least. NaN for NaN. No operation here has a subnormal
// operand or result, at least none that costs.
template <bool kMasked, class D, class V = hn::Vec<D>>
HWY_INLINE V Exp2(const Exponent<D>& e, V least, V x) {
  const D d;
  V shifted, n, f;
  Split(e, Tame<kMasked>(d, x, least), shifted, n, f);
  return Scale<kMasked>(e, x, least, shifted, n, PowerMinus1(d, f));
}

// Of two vectors in step: with four, 16 registers do not hold them and the factors.
template <bool kMasked, class D, class V = hn::Vec<D>>
HWY_INLINE void Exp2OfTwo(const Exponent<D>& e, V least, V& x0, V& x1) {
  const D d;
  V shifted0, shifted1, n0, n1, f0, f1;
  Split(e, Tame<kMasked>(d, x0, least), shifted0, n0, f0), Split(e, Tame<kMasked>(d, x1, least), shifted1, n1, f1);
  const V c1 = hn::Set(d, kExp2Factors[1]), c2 = hn::Set(d, kExp2Factors[2]), c0 = hn::Set(d, kExp2Factors[0]);
  V q0 = hn::MulAdd(c2, f0, c1), q1 = hn::MulAdd(c2, f1, c1);
  q0 = hn::MulAdd(q0, f0, c0), q1 = hn::MulAdd(q1, f1, c0);
  q0 = hn::Mul(q0, f0), q1 = hn::Mul(q1, f1);
  x0 = Scale<kMasked>(e, x0, least, shifted0, n0, q0), x1 = Scale<kMasked>(e, x1, least, shifted1, n1, q1);
}

// 2^(x factor) for x <= 0; 0 where x < least, which is -125 / factor.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Exp2(D d, V x, V factor, V least) {
  return Exp2<true>(Exponent<D>(d, factor), least, x);
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Exp2(D d, V x) {
  return Exp2(d, x, hn::Set(d, 1.0f), hn::Set(d, -125.0f));
}

// tanh x = (1 - e) / (1 + e) with e = exp(-2 |x|); below 0.625, where that cancels, an odd polynomial of least relative
// error (4.4e-9).
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Tanh(D d, V x) {
  const V one = hn::Set(d, 1.0f), y = hn::Abs(x);
  const V e = Exp2(d, hn::Mul(y, hn::Set(d, -0x1.715476p1f)));
  const V far = hn::Div(hn::Sub(one, e), hn::Add(one, e));
  const auto is_near = hn::Lt(y, hn::Set(d, 0.625f));
  const V z = hn::Mul(y, y);
  V p = hn::MulAdd(hn::Set(d, -0x1.75e1cep-8f), z, hn::Set(d, 0x1.52269cp-6f));
  p = hn::MulAdd(p, z, hn::Set(d, -0x1.b83c5ap-5f));
  p = hn::MulAdd(p, z, hn::Set(d, 0x1.110726p-3f));
  p = hn::MulAdd(p, z, hn::Set(d, -0x1.555532p-2f));
  const V near = hn::MulAdd(hn::Mul(y, z), p, y);
  return hn::CopySignToAbs(hn::IfThenElse(is_near, near, far), x);
}

}  // namespace HWY_NAMESPACE
}  // namespace bitflash::reference
HWY_AFTER_NAMESPACE();

#endif  // BITFLASH_REFERENCE_CPU_EXP_INL_H_
