// 2^x and tanh x of vectors of fp32, per SIMD target. Included once per target by each file of kernels.
#if defined(BITFLASH_REFERENCE_CPU_EXP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BITFLASH_REFERENCE_CPU_EXP_INL_H_
#undef BITFLASH_REFERENCE_CPU_EXP_INL_H_
#else
#define BITFLASH_REFERENCE_CPU_EXP_INL_H_
#endif

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace bitflash::reference {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
inline constexpr bool kMaskedLanesAreFree = true;  // instructions with a mask do nothing in the lanes it leaves out
#else
inline constexpr bool kMaskedLanesAreFree = false;
#endif

// 2^f for f in [-0.5, 0.5] by a polynomial of least relative error (2.0e-9, Lawson's iteration) whose constant term is
// exactly 1.
inline constexpr float kExp2Factors[7] = {1.0f,           0x1.62e430p-1f,  0x1.ebfbdcp-3f, 0x1.c6aee8p-5f,
                                          0x1.3b2d4cp-7f, 0x1.5f3e52p-10f, 0x1.41fbbcp-13f};

// p power, and 0 where x < least.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V MulOrZero([[maybe_unused]] D d, V x, V least, V p, V power) {
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
  if constexpr (hn::MaxLanes(D()) == 16) {  // one comparison and no more, which Highway has no name for
    return V{_mm512_maskz_mul_ps(_mm512_cmp_ps_mask(x.raw, least.raw, _CMP_NLT_UQ), p.raw, power.raw)};
  }
#endif
  return hn::IfThenZeroElse(hn::Lt(x, least), hn::Mul(p, power));
}

// 2^(x factor) for x <= 0: 0 where x < least, which is -125 / factor; NaN for NaN, 1 for 0. The product is exact where
// multiply-add is fused. No operation here has a subnormal operand or result, at least none that costs.
// x factor = n + f with n the nearest integer.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Exp2(D d, V x, V factor, V least) {
  const hn::RebindToUnsigned<D> du;
  V f = x;
  if constexpr (!kMaskedLanesAreFree) f = hn::IfThenZeroElse(hn::Lt(x, least), x);
  // Adding 1.5 2^23 rounds to an integer, which then stands in the low bits; 127 more makes it an exponent field.
  const V shift = hn::Set(d, 0x1.8p23f + 127);
  const V shifted = hn::MulAdd(f, factor, shift);
  f = hn::MulSub(f, factor, hn::Sub(shifted, shift));
  V p = hn::Set(d, kExp2Factors[6]);
  for (int i = 5; i >= 0; --i) p = hn::MulAdd(p, f, hn::Set(d, kExp2Factors[i]));
  // A product, not an addition to the exponent field: a NaN stays one.
  return MulOrZero(d, x, least, p, hn::BitCast(d, hn::ShiftLeft<23>(hn::BitCast(du, shifted))));
}

// Exp2 of four vectors in step: so many independent chains are near enough for the processor to see them.
template <class D, class V = hn::Vec<D>>
HWY_INLINE void Exp2OfFour(D d, V factor, V least, V& x0, V& x1, V& x2, V& x3) {
  const hn::RebindToUnsigned<D> du;
  V f0 = x0, f1 = x1, f2 = x2, f3 = x3;
  if constexpr (!kMaskedLanesAreFree) {
    f0 = hn::IfThenZeroElse(hn::Lt(x0, least), x0), f1 = hn::IfThenZeroElse(hn::Lt(x1, least), x1);
    f2 = hn::IfThenZeroElse(hn::Lt(x2, least), x2), f3 = hn::IfThenZeroElse(hn::Lt(x3, least), x3);
  }
  const V shift = hn::Set(d, 0x1.8p23f + 127);
  const V n0 = hn::MulAdd(f0, factor, shift), n1 = hn::MulAdd(f1, factor, shift);
  const V n2 = hn::MulAdd(f2, factor, shift), n3 = hn::MulAdd(f3, factor, shift);
  f0 = hn::MulSub(f0, factor, hn::Sub(n0, shift)), f1 = hn::MulSub(f1, factor, hn::Sub(n1, shift));
  f2 = hn::MulSub(f2, factor, hn::Sub(n2, shift)), f3 = hn::MulSub(f3, factor, hn::Sub(n3, shift));
  const V c6 = hn::Set(d, kExp2Factors[6]);
  V p0 = c6, p1 = c6, p2 = c6, p3 = c6;
  for (int i = 5; i >= 0; --i) {
    const V ci = hn::Set(d, kExp2Factors[i]);
    p0 = hn::MulAdd(p0, f0, ci), p1 = hn::MulAdd(p1, f1, ci), p2 = hn::MulAdd(p2, f2, ci), p3 = hn::MulAdd(p3, f3, ci);
  }
  const auto finish = [&](V x, V n, V p) HWY_ATTR {
    return MulOrZero(d, x, least, p, hn::BitCast(d, hn::ShiftLeft<23>(hn::BitCast(du, n))));
  };
  x0 = finish(x0, n0, p0), x1 = finish(x1, n1, p1), x2 = finish(x2, n2, p2), x3 = finish(x3, n3, p3);
}

// 2^(s factor - M) for an integer M, where no result leaves the normal range. n is the integer nearest to s factor, f
// the rest, whatever M is: the exponent's only rounding is that of f, 2^-26 at most.
template <class D>
struct BoundedExponent {
  HWY_INLINE BoundedExponent(D d, float s_factor, float M)
      : factor(hn::Set(d, s_factor)), shift(hn::Set(d, 0x1.8p23f - M)) {}
  hn::Vec<D> factor, shift;
};

// p 2^n with n in the low bits: added to the exponent field, which is no work for the units of multiply-adds. kMasked:
// 0 for -inf.
template <bool kMasked, class D, class V = hn::Vec<D>>
HWY_INLINE V ScaleBounded(D d, [[maybe_unused]] V s, V p, V n) {
  const hn::RebindToUnsigned<D> du;
  const V scaled = hn::BitCast(d, hn::Add(hn::BitCast(du, p), hn::ShiftLeft<23>(hn::BitCast(du, n))));
  if constexpr (!kMasked) {
    return scaled;
  } else {
    return hn::IfThenZeroElse(hn::Lt(s, hn::Set(d, -0x1.fffffep127f)), scaled);
  }
}

// What BoundedExp2 computes with in the place of s: 0 for what is hidden, if -inf costs time.
template <bool kMasked, class D, class V = hn::Vec<D>>
HWY_INLINE V TameScore([[maybe_unused]] D d, V s) {
  if constexpr (!kMasked || kMaskedLanesAreFree) {
    return s;
  } else {
    return hn::IfThenZeroElse(hn::Lt(s, hn::Set(d, -0x1.fffffep127f)), s);
  }
}

template <bool kMasked, class D, class V = hn::Vec<D>>
HWY_INLINE V BoundedExp2(const BoundedExponent<D>& e, V s) {
  const D d;
  V f = TameScore<kMasked>(d, s);
  const V n = hn::MulAdd(f, e.factor, e.shift);
  f = hn::MulSub(f, e.factor, hn::Sub(n, e.shift));
  V p = hn::Set(d, kExp2Factors[6]);
  for (int i = 5; i >= 0; --i) p = hn::MulAdd(p, f, hn::Set(d, kExp2Factors[i]));
  return ScaleBounded<kMasked>(d, s, p, n);
}

// Two vectors in step: with four, 16 registers do not hold them and the factors.
template <bool kMasked, class D, class V = hn::Vec<D>>
HWY_INLINE void BoundedExp2OfTwo(const BoundedExponent<D>& e, V& s0, V& s1) {
  const D d;
  V f0 = TameScore<kMasked>(d, s0), f1 = TameScore<kMasked>(d, s1);
  const V n0 = hn::MulAdd(f0, e.factor, e.shift), n1 = hn::MulAdd(f1, e.factor, e.shift);
  f0 = hn::MulSub(f0, e.factor, hn::Sub(n0, e.shift)), f1 = hn::MulSub(f1, e.factor, hn::Sub(n1, e.shift));
  const V c6 = hn::Set(d, kExp2Factors[6]);
  V p0 = c6, p1 = c6;
  for (int i = 5; i >= 0; --i) {
    const V ci = hn::Set(d, kExp2Factors[i]);
    p0 = hn::MulAdd(p0, f0, ci), p1 = hn::MulAdd(p1, f1, ci);
  }
  s0 = ScaleBounded<kMasked>(d, s0, p0, n0), s1 = ScaleBounded<kMasked>(d, s1, p1, n1);
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
