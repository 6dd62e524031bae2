// One step of the fused dot-product-add on vectors, for any operands: the path beside tensor_core_simd-inl.h's fast
// one. Compiled once per SIMD target; holds the vector types and small helpers of both.
#if defined(BITFLASH_SIM_TENSOR_CORE_SLOW_STEP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BITFLASH_SIM_TENSOR_CORE_SLOW_STEP_INL_H_
#undef BITFLASH_SIM_TENSOR_CORE_SLOW_STEP_INL_H_
#else
#define BITFLASH_SIM_TENSOR_CORE_SLOW_STEP_INL_H_
#endif

#include "hwy/highway.h"
#include "sim/tensor_core_panel.h"

HWY_BEFORE_NAMESPACE();
namespace bitflash::sim {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET != HWY_SCALAR

using D16 = hn::CappedTag<int16_t, kPanelColumns>;  // one vector of exponents goes with two of values
using D16Pairs = hn::Repartition<int32_t, D16>;
using D16Half = hn::Half<D16>;
using DI = hn::Rebind<int32_t, D16Half>;
using DF = hn::RebindToFloat<DI>;
using VI = hn::Vec<DI>;
using VF = hn::Vec<DF>;

constexpr int kBias = 127;

// Truncates what is known to lie in int32, or whose result does not matter. Highway's ConvertTo saturates, which costs
// x86 three more instructions.
HWY_INLINE VI TruncateToInt(VF v) {
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
  return VI{_mm512_cvttps_epi32(v.raw)};
#elif HWY_TARGET == HWY_AVX2
  return VI{_mm256_cvttps_epi32(v.raw)};
#elif HWY_TARGET == HWY_SSE4 || HWY_TARGET == HWY_SSSE3 || HWY_TARGET == HWY_SSE2
  return VI{_mm_cvttps_epi32(v.raw)};
#else
  return hn::ConvertTo(DI(), v);
#endif
}

// 2^e for e in [-126, 127].
HWY_INLINE VF PowerOfTwo(VI e) { return hn::BitCast(DF(), hn::ShiftLeft<23>(hn::Add(e, hn::Set(DI(), kBias)))); }

// value / 2^e: a significand in [1, 2), or below 1 for a subnormal. Two factors, because 2^-e may be out of range; any
// e of a zero.
HWY_INLINE VF Significand(VF value, VI e) {
  const VI bounded = hn::Max(hn::Min(e, hn::Set(DI(), 200)), hn::Set(DI(), -200));
  const VI half = hn::ShiftRight<1>(bounded);
  return hn::Mul(hn::Mul(value, PowerOfTwo(hn::Neg(half))), PowerOfTwo(hn::Sub(half, bounded)));
}

// a + b; collects in `overflow` a sign bit where the sum left int32.
HWY_INLINE VI AddChecked(VI a, VI b, VI& overflow) {
  const VI sum = hn::Add(a, b);
  overflow = hn::Or(overflow, hn::And(hn::Xor(a, sum), hn::Xor(b, sum)));
  return sum;
}

// Terms below 2^(emax - F) vanish whatever their exponent, so a shift of -40 stands for all lower ones.
HWY_INLINE VI Align(VF significand, VI exponent, VI emax, int alignment_bits) {
  const DI di;
  const VI shift = hn::Add(hn::Sub(exponent, emax), hn::Set(di, alignment_bits));
  const VI bounded = hn::Min(hn::Max(shift, hn::Set(di, -40)), hn::Set(di, alignment_bits));
  return TruncateToInt(hn::Mul(significand, PowerOfTwo(bounded)));
}

// The accumulator apart: exponent as of a subnormal at least -126, of zero far below; significand in [1, 2) or below 1.
HWY_INLINE void SplitAccumulator(VF c, VI& exponent, VF& significand) {
  const DI di;
  const DF df;
  const VI bits = hn::BitCast(di, c), fraction = hn::And(bits, hn::Set(di, 0x7FFFFF));
  const VI field = hn::And(hn::ShiftRight<23>(bits), hn::Set(di, 0xFF));
  exponent = hn::Sub(hn::Max(field, hn::Set(di, 1)), hn::Set(di, kBias));
  exponent = hn::IfThenElse(hn::Eq(hn::Or(field, fraction), hn::Zero(di)), hn::Set(di, 2 * kExponentOfZero), exponent);
  const VF subnormal = hn::Mul(hn::ConvertTo(df, fraction), PowerOfTwo(hn::Set(di, -23)));
  const VF normal = hn::BitCast(df, hn::Or(fraction, hn::Set(di, kBias << 23)));
  significand = hn::IfThenElse(hn::RebindMask(df, hn::Eq(field, hn::Zero(di))), subnormal, normal);
  significand = hn::CopySign(significand, c);
}

// sum * 2^scale in fp32, truncated; past fp32's range it is infinity, even so. -0 becomes +0.
HWY_INLINE VF ScaleBack(VI sum, VI scale, ResultRounding rounding) {
  const DI di;
  const DF df;
  const VF whole = hn::ConvertTo(df, sum);
  const VI exponent = hn::Sub(hn::ShiftRight<23>(hn::BitCast(di, hn::Abs(whole))), hn::Set(di, kBias));
  const auto too_large = hn::And(hn::Ne(sum, hn::Zero(di)), hn::Gt(hn::Add(exponent, scale), hn::Set(di, 127)));
  VF result = whole;
  VI left = scale;  // from -277 to 229: more than one factor of fp32 holds
  for (int factor = 0; factor < 3; ++factor) {
    const VI e = hn::Min(hn::Max(left, hn::Set(di, -100)), hn::Set(di, 100));
    result = hn::Mul(result, PowerOfTwo(e));
    left = hn::Sub(left, e);
  }
  const VF infinity = hn::CopySign(hn::BitCast(df, hn::Set(di, 0x7F800000)), whole);
  result = hn::IfThenElse(hn::RebindMask(df, too_large), infinity, result);
  if (rounding == ResultRounding::kTruncateFp32To13) result = hn::And(result, hn::BitCast(df, hn::Set(di, ~0x3FF)));
  return hn::Add(result, hn::Zero(df));
}

// One step of one row for the lanes at c, whatever the exponents: they stay integers until a term is aligned.
// Lanes whose products hold NaN or infinity, and those whose sum leaves int32, take the scalar definition.
HWY_NOINLINE void SlowStep(const TensorCore& core, const float* a_values, const int32_t* a_exponents,
                           const float* b_values, const int16_t* b_exponents, float* c) {
  const DI di;
  const DF df;
  const D16Half d16;
  const auto ea = [&](int k) { return static_cast<int16_t>(a_exponents[k]); };
  VI p_max = hn::Set(di, 2 * kExponentOfZero);
  for (int k = 0; k < core.products; ++k) {
    const VI eb = hn::PromoteTo(di, hn::LoadU(d16, b_exponents + k * kPanelColumns));
    p_max = hn::Max(p_max, hn::Add(eb, hn::Set(di, ea(k))));
  }
  VI c_exponent;
  VF c_significand;
  SplitAccumulator(hn::LoadU(df, c), c_exponent, c_significand);
  const VI largest = hn::Max(p_max, c_exponent);

  // Lanes that need no sum: a NaN in c decides, an infinity if all products are finite, and no term at all gives +0.
  const VI c_bits = hn::BitCast(di, hn::LoadU(df, c));
  const VI c_magnitude = hn::And(c_bits, hn::Set(di, 0x7FFFFFFF)), infinity = hn::Set(di, 0x7F800000);
  const auto special_product = hn::Gt(p_max, hn::Set(di, 1000));
  const auto c_is_nan = hn::Gt(c_magnitude, infinity), no_term = hn::Lt(largest, hn::Set(di, -1000));
  const auto decided = hn::Or(hn::Or(c_is_nan, no_term), hn::AndNot(special_product, hn::Eq(c_magnitude, infinity)));
  VI decision = hn::IfThenElse(c_is_nan, hn::Set(di, 0x7FFFFFFF), c_bits);
  decision = hn::IfThenElse(no_term, hn::Zero(di), decision);
  if (hn::AllTrue(di, decided)) {
    hn::StoreU(hn::BitCast(df, decision), df, c);
    return;
  }

  const VI emax = hn::Max(largest, hn::Set(di, core.emax_floor));
  VI sum = Align(c_significand, c_exponent, emax, core.alignment_bits);
  VI overflow = hn::Zero(di);
  for (int k = 0; k < core.products; ++k) {
    const VI eb = hn::PromoteTo(di, hn::LoadU(d16, b_exponents + k * kPanelColumns)), ea_k = hn::Set(di, ea(k));
    const VF product = hn::Mul(Significand(hn::Set(df, a_values[k]), ea_k),
                               Significand(hn::LoadU(df, b_values + k * kPanelColumns), eb));
    sum = AddChecked(sum, Align(product, hn::Add(ea_k, eb), emax, core.alignment_bits), overflow);
  }
  VF result = ScaleBack(sum, hn::Sub(emax, hn::Set(di, core.alignment_bits)), core.rounding);
  result = hn::IfThenElse(hn::RebindMask(df, decided), hn::BitCast(df, decision), result);

  const auto one_by_one = hn::AndNot(decided, hn::Or(special_product, hn::Lt(overflow, hn::Zero(di))));
  HWY_ALIGN float results[hn::MaxLanes(DF())];
  HWY_ALIGN int32_t flags[hn::MaxLanes(DI())];
  hn::Store(result, df, results);
  hn::Store(hn::VecFromMask(di, one_by_one), di, flags);
  for (size_t lane = 0; lane < hn::Lanes(df); ++lane) {
    c[lane] = flags[lane] ? PanelStepOneByOne(core, a_values, a_exponents, b_values + lane, b_exponents + lane, c[lane])
                          : results[lane];
  }
}

#endif  // HWY_TARGET != HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace bitflash::sim
HWY_AFTER_NAMESPACE();

#endif  // BITFLASH_SIM_TENSOR_CORE_SLOW_STEP_INL_H_
