// The vector code of special_functions_simd.cc, compiled once per SIMD target.
//
// ex2, which every score of an attention kernel passes, runs in 32-bit integers; the others in doubles, where the
// definition's 64-bit integers are exact.
#if defined(BITFLASH_SIM_SPECIAL_FUNCTIONS_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BITFLASH_SIM_SPECIAL_FUNCTIONS_SIMD_INL_H_
#undef BITFLASH_SIM_SPECIAL_FUNCTIONS_SIMD_INL_H_
#else
#define BITFLASH_SIM_SPECIAL_FUNCTIONS_SIMD_INL_H_
#endif

#include <cmath>
#include <cstddef>

#include "data/sfu_tables.h"
#include "hwy/highway.h"
#include "sim/gpu_float.h"
#include "sim/special_functions.h"

HWY_BEFORE_NAMESPACE();
namespace bitflash::sim {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::ScalableTag<float>;
using DI = hn::RebindToSigned<DF>;
using VF = hn::Vec<DF>;
using VI = hn::Vec<DI>;

constexpr int kHidden = 1 << 23;

// What bit j of x adds to its square with the bits below it, in the columns that the unit keeps.
template <int j, class D, class V>
HWY_INLINE V SquareTerm(D d, V x) {
  const V below = hn::Add(hn::And(x, hn::Set(d, (1 << j) - 1)), hn::Set(d, 1 << (j - 1)));
  return hn::IfThenElseZero(hn::TestBit(x, hn::Set(d, 1 << j)), hn::ShiftRight<18 - j>(below));
}

// The unit's squarer without its loop over all pairs of bits: bits below 10 add nothing to the columns kept.
template <class D, class V>
HWY_INLINE V Square(D d, V x) {
  const V high = hn::Add(SquareTerm<16>(d, x), hn::Add(SquareTerm<15>(d, x), SquareTerm<14>(d, x)));
  const V low =
      hn::Add(hn::Add(SquareTerm<13>(d, x), SquareTerm<12>(d, x)), hn::Add(SquareTerm<11>(d, x), SquareTerm<10>(d, x)));
  return hn::Add(high, low);
}

// ---- ex2

// Truncates what lies in int32. Highway's ConvertTo saturates, which costs x86 three more instructions.
HWY_INLINE VI TruncateInRange(VF v) {
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
  return VI{_mm512_cvttps_epi32(v.raw)};
#elif HWY_TARGET == HWY_AVX2
  return VI{_mm256_cvttps_epi32(v.raw)};
#else
  return hn::ConvertTo(DI(), v);
#endif
}

// The coefficients of 16 or more rows at once: 64 rows live in registers where a permutation reaches them, else in
// memory.
class Ex2Table {
 public:
  explicit Ex2Table(const data::SfuTable<64>& table) {
    for (int row = 0; row < 64; ++row) {
      c0_[row] = table.c0[row];
      c12_[row] = table.c1[row] | table.c2[row] << 16;  // both are positive, c1 below 2^16
    }
  }

#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
  HWY_INLINE VI C0(VI row) const { return Find(c0_, row); }
  HWY_INLINE VI C12(VI row) const { return Find(c12_, row); }

 private:
  static HWY_INLINE VI Find(const int32_t* table, VI row) {
    const DI d;
    const VI a = hn::Load(d, table), b = hn::Load(d, table + 16), c = hn::Load(d, table + 32),
             e = hn::Load(d, table + 48);
    const auto low = _mm512_permutex2var_epi32(a.raw, row.raw, b.raw);  // looks at the low 5 bits of row
    const auto high = _mm512_permutex2var_epi32(c.raw, row.raw, e.raw);
    return VI{_mm512_mask_mov_epi32(low, _mm512_test_epi32_mask(row.raw, _mm512_set1_epi32(32)), high)};
  }
#else
  HWY_INLINE VI C0(VI row) const { return hn::GatherIndex(DI(), c0_, row); }
  HWY_INLINE VI C12(VI row) const { return hn::GatherIndex(DI(), c12_, row); }

 private:
#endif
  alignas(64) int32_t c0_[64];
  alignas(64) int32_t c12_[64];
};

HWY_INLINE VF Ex2(const Ex2Table& table, VF x) {
  const DF df;
  const DI di;
  const VF magnitude = hn::Abs(x);
  const auto in_range = hn::Lt(magnitude, hn::Set(df, 128.0f));  // false for NaN
  // 7.23 fixed point; a negative number is complemented bit by bit unless its fraction is zero: then exactly negated.
  const VI fixed = TruncateInRange(hn::Mul(hn::IfThenElseZero(in_range, magnitude), hn::Set(df, float{kHidden})));
  const VI sign = hn::ShiftRight<31>(hn::BitCast(di, x));
  const auto whole = hn::Eq(hn::And(fixed, hn::Set(di, kHidden - 1)), hn::Zero(di));
  const VI t = hn::Sub(hn::Xor(fixed, sign), hn::IfThenElseZero(whole, sign));
  const VI exponent = hn::ShiftRight<23>(t);
  const VI offset = hn::And(t, hn::Set(di, 0x1FFFF));
  const VI row = hn::And(hn::ShiftRight<17>(t), hn::Set(di, 63));

  // The definition, (c0 2^13 + c1 x + c2 square + 0x77E2) >> 15, with x = xh 2^16 + xm and the high bits of the sum
  // taken out: they divide by 2^15, and what is left stays below 2^32.
  const VI k = hn::Add(table.C0(row), hn::Set(di, 3));
  const VI c12 = table.C12(row);
  const VI c1 = hn::And(c12, hn::Set(di, 0xFFFF)), c2 = hn::ShiftRight<16>(c12);
  const VI xm = hn::And(offset, hn::Set(di, 0xFFFF));
  const auto high_bit = hn::TestBit(offset, hn::Set(di, 0x10000));
  VI rest = hn::Add(hn::Mul(c1, xm), hn::Mul(c2, Square(di, offset)));
  rest = hn::Add(rest, hn::Add(hn::ShiftLeft<13>(hn::And(k, hn::Set(di, 3))), hn::Set(di, 6114)));
  const hn::RebindToUnsigned<DI> du;
  const VI rest_high = hn::BitCast(di, hn::ShiftRight<15>(hn::BitCast(du, rest)));
  VI bits = hn::Add(hn::ShiftRight<2>(k), hn::IfThenElseZero(high_bit, hn::Add(c1, c1)));
  bits = hn::Add(hn::Add(bits, rest_high), hn::ShiftLeft<23>(hn::Add(exponent, hn::Set(di, 126))));

  bits = hn::IfThenElseZero(hn::Gt(exponent, hn::Set(di, -127)), bits);
  const VI out_of_range = hn::IfThenElse(hn::RebindMask(di, hn::IsNaN(x)), hn::Set(di, 0x7FFFFFFF),
                                         hn::AndNot(sign, hn::Set(di, 0x7F800000)));
  return hn::IfThenElse(in_range, hn::BitCast(df, bits), hn::BitCast(df, out_of_range));
}

HWY_INLINE VF Exp2f(const Ex2Table& table, VF x) {
  const DF df;
  const auto halved = hn::Lt(x, hn::Set(df, -126.0f));
  const VF y = Ex2(table, hn::IfThenElse(halved, hn::Mul(x, hn::Set(df, 0.5f)), x));
  return hn::IfThenElse(halved, hn::Mul(y, y), y);
}

// ---- rcp, rsqrt, lg2: as many lanes as a vector has doubles

using DD = hn::ScalableTag<double>;
using DI32 = hn::Rebind<int32_t, DD>;
using DF32 = hn::Rebind<float, DD>;
using VD = hn::Vec<DD>;
using VI32 = hn::Vec<DI32>;
using VF32 = hn::Vec<DF32>;

// floor((c0 * a0 + c1 * x + c2 * square * a2 + rounding) * scale); all of it integers below 2^53 but the last factor, a
// power of two.
template <size_t kRows>
HWY_INLINE VD Quadratic(const data::SfuTable<kRows>& table, VI32 row, VI32 x, VI32 square_of, double a0, double a2,
                        double rounding, double scale) {
  const DD dd;
  const DI32 di;
  const VD c0 = hn::PromoteTo(dd, hn::GatherIndex(di, table.c0.data(), row));
  const VD c1 = hn::PromoteTo(dd, hn::GatherIndex(di, table.c1.data(), row));
  const VD c2 = hn::PromoteTo(dd, hn::GatherIndex(di, table.c2.data(), row));
  const VD square = hn::PromoteTo(dd, Square(di, square_of));
  VD sum = hn::Add(hn::Mul(c0, hn::Set(dd, a0)), hn::Mul(c1, hn::PromoteTo(dd, x)));
  sum = hn::Add(sum, hn::Add(hn::Mul(hn::Mul(c2, square), hn::Set(dd, a2)), hn::Set(dd, rounding)));
  return hn::Floor(hn::Mul(sum, hn::Set(dd, scale)));
}

HWY_INLINE VI32 Field(VI32 bits) { return hn::And(hn::ShiftRight<23>(bits), hn::Set(DI32(), 0xFF)); }
HWY_INLINE VI32 Fraction(VI32 bits) { return hn::And(bits, hn::Set(DI32(), kHidden - 1)); }
HWY_INLINE VI32 SignBit(VI32 bits) { return hn::And(bits, hn::Set(DI32(), static_cast<int32_t>(0x80000000))); }

// The fp32 pattern of significand * 2^(field - 127 - 23), the significand with its hidden bit or 2^24.
HWY_INLINE VI32 Assemble(VI32 field, VD significand) {
  const DI32 di;
  return hn::Add(hn::ShiftLeft<23>(hn::Sub(field, hn::Set(di, 1))), hn::DemoteTo(di, significand));
}

HWY_INLINE VI32 Rcp(const data::SfuTables& tables, VI32 bits) {
  const DI32 di;
  const VI32 fraction = Fraction(bits), field = Field(bits), sign = SignBit(bits);
  const VI32 offset = hn::And(fraction, hn::Set(di, 0xFFFF));
  const VD significand = Quadratic(tables.rcp, hn::ShiftRight<16>(fraction), offset, hn::Add(offset, offset), 8192, 1,
                                   0x47E7, 1.0 / 32768);
  VI32 y = Assemble(hn::Sub(hn::Set(di, 253), field), significand);  // 2^24 carries into the exponent
  y = hn::IfThenElseZero(hn::Gt(y, hn::Set(di, kHidden - 1)), y);    // below 2^-126, infinity's inverse among them
  y = hn::IfThenElse(hn::Eq(field, hn::Zero(di)), hn::Set(di, 0x7F800000), y);
  y = hn::Or(y, sign);
  const auto nan = hn::Gt(hn::AndNot(sign, bits), hn::Set(di, 0x7F800000));
  return hn::IfThenElse(nan, hn::Set(di, 0x7FFFFFFF), y);
}

// What rsqrt and lg2 share: NaN for NaN and negative numbers, `of_infinity`, and `of_zero` for zeros and subnormals.
HWY_INLINE VI32 WithSpecials(VI32 y, VI32 bits, int32_t of_infinity, VI32 of_zero) {
  const DI32 di;
  y = hn::IfThenElse(hn::Eq(bits, hn::Set(di, 0x7F800000)), hn::Set(di, of_infinity), y);
  const auto nan = hn::Or(hn::Gt(bits, hn::Set(di, 0x7F800000)), hn::Lt(bits, hn::Zero(di)));
  y = hn::IfThenElse(nan, hn::Set(di, 0x7FFFFFFF), y);
  return hn::IfThenElse(hn::Eq(Field(bits), hn::Zero(di)), of_zero, y);
}

HWY_INLINE VI32 Rsqrt(const data::SfuTables& tables, VI32 bits) {
  const DI32 di;
  const VI32 power = hn::Sub(Field(bits), hn::Set(di, 127));
  const VI32 g = hn::Or(Fraction(bits), hn::ShiftLeft<23>(hn::And(power, hn::Set(di, 1))));
  const VI32 offset = hn::And(g, hn::Set(di, 0x1FFFF));
  const VD significand = Quadratic(tables.rsqrt, hn::ShiftRight<17>(g), offset, offset, 16384, 4, 0x7FFF, 1.0 / 65536);
  const VI32 field = hn::Sub(hn::Set(di, 126), hn::ShiftRight<1>(power));
  const VI32 of_power_of_four = hn::ShiftLeft<23>(hn::Add(field, hn::Set(di, 1)));
  const VI32 y = hn::IfThenElse(hn::Eq(g, hn::Zero(di)), of_power_of_four, Assemble(field, significand));
  return WithSpecials(y, bits, 0, hn::Or(SignBit(bits), hn::Set(di, 0x7F800000)));
}

HWY_INLINE VI32 Lg2(const data::SfuTables& tables, VI32 bits) {
  const DI32 di;
  const DD dd;
  const hn::Rebind<uint64_t, DD> du64;
  const VI32 fraction = Fraction(bits);
  const VI32 offset = hn::And(fraction, hn::Set(di, 0x1FFFF));
  const VD units = Quadratic(tables.lg2, hn::ShiftRight<17>(fraction), offset, offset, 4096, 2, 0x3345, 0.25);
  const VD power = hn::PromoteTo(dd, hn::Sub(Field(bits), hn::Set(di, 127)));
  VD sum = hn::Add(hn::Mul(power, hn::Set(dd, 0x1p36)), units);
  sum = hn::IfThenElse(hn::Lt(sum, hn::Zero(dd)), hn::Add(sum, hn::Set(dd, 1.0)), sum);  // ~s = -s - 1
  // Truncated to 24 bits where a double has 53; then the conversion to fp32 is exact.
  const VD kept = hn::And(sum, hn::BitCast(dd, hn::Set(du64, ~uint64_t{0} << 29)));
  VI32 y = hn::BitCast(di, hn::DemoteTo(DF32(), hn::Mul(kept, hn::Set(dd, 0x1p-36))));
  y = hn::IfThenElseZero(hn::Ne(bits, hn::Set(di, 0x3F800000)), y);
  return WithSpecials(y, bits, 0x7F800000, hn::Set(di, static_cast<int32_t>(0xFF800000)));
}

// ---- logf

#if HWY_NATIVE_FMA
HWY_INLINE VF Logf(VF x) {
  const DF df;
  const DI di;
  const VF infinity = hn::BitCast(df, hn::Set(di, 0x7F800000)), nan = hn::BitCast(df, hn::Set(di, 0x7FFFFFFF));
  const auto tiny = hn::Lt(x, hn::Set(df, 0x1p-126f));
  const VF scaled = hn::IfThenElse(tiny, hn::Mul(x, hn::Set(df, 0x1p23f)), x);
  const VI bits = hn::BitCast(di, scaled);
  const VI k = hn::And(hn::Sub(bits, hn::Set(di, 0x3F2AAAAB)), hn::Set(di, static_cast<int32_t>(0xFF800000)));
  const VF z = hn::Sub(hn::BitCast(df, hn::Sub(bits, k)), hn::Set(df, 1.0f));
  const VF exponent =
      hn::MulAdd(hn::ConvertTo(df, k), hn::Set(df, 0x1p-23f), hn::IfThenElseZero(tiny, hn::Set(df, -23.0f)));
  const auto constant = [&](uint32_t c) HWY_ATTR { return hn::BitCast(df, hn::Set(di, static_cast<int32_t>(c))); };
  VF h = constant(0xBE055027);
  h = hn::MulAdd(h, z, constant(0x3E1039F6));
  h = hn::MulAdd(h, z, constant(0xBDF8CDCC));
  h = hn::MulAdd(h, z, constant(0x3E0F2955));
  h = hn::MulAdd(h, z, constant(0xBE2AD8B9));
  h = hn::MulAdd(h, z, constant(0x3E4CED0B));
  h = hn::MulAdd(h, z, constant(0xBE7FFF22));
  h = hn::MulAdd(h, z, constant(0x3EAAAA78));
  h = hn::MulAdd(h, z, constant(0xBF000000));
  VF y = hn::MulAdd(exponent, constant(0x3F317218), hn::MulAdd(hn::Mul(z, h), z, z));
  y = hn::IfThenElse(hn::Eq(scaled, infinity), infinity, y);
  y = hn::IfThenElse(hn::Or(hn::IsNaN(x), hn::Lt(x, hn::Zero(df))), nan, y);
  return hn::IfThenElse(hn::Eq(x, hn::Zero(df)), hn::Neg(infinity), y);
}
#endif

// ---- Spans

// Applies `evaluate` to whole vectors of D and to the rest in a padded one.
template <class D, class Evaluate>
HWY_INLINE void ForEachVector(D d, const float* x, float* y, size_t count, const Evaluate& evaluate) {
  const size_t lanes = hn::Lanes(d);
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) hn::StoreU(evaluate(hn::LoadU(d, x + i)), d, y + i);
  if (i == count) return;
  HWY_ALIGN float rest[hn::MaxLanes(D())] = {};
  for (size_t lane = 0; i + lane < count; ++lane) rest[lane] = x[i + lane];
  hn::Store(evaluate(hn::Load(d, rest)), d, rest);
  for (size_t lane = 0; i + lane < count; ++lane) y[i + lane] = rest[lane];
}

void EvaluateSpan(Function function, const data::SfuTables& tables, const float* x, float* y, size_t count) {
  const DF df;
  const DF32 df32;
  const DI32 di32;
  switch (function) {
    case Function::kEx2: {
      static const Ex2Table table(tables.ex2);
      return ForEachVector(df, x, y, count, [&](VF v) HWY_ATTR { return Ex2(table, v); });
    }
    case Function::kExp2f: {
      static const Ex2Table table(tables.ex2);
      return ForEachVector(df, x, y, count, [&](VF v) HWY_ATTR { return Exp2f(table, v); });
    }
    case Function::kRcp:
      return ForEachVector(df32, x, y, count,
                           [&](VF32 v) HWY_ATTR { return hn::BitCast(df32, Rcp(tables, hn::BitCast(di32, v))); });
    case Function::kRsqrt:
      return ForEachVector(df32, x, y, count,
                           [&](VF32 v) HWY_ATTR { return hn::BitCast(df32, Rsqrt(tables, hn::BitCast(di32, v))); });
    case Function::kLg2:
      return ForEachVector(df32, x, y, count,
                           [&](VF32 v) HWY_ATTR { return hn::BitCast(df32, Lg2(tables, hn::BitCast(di32, v))); });
    case Function::kLogf:
#if HWY_NATIVE_FMA
      return ForEachVector(df, x, y, count, [&](VF v) HWY_ATTR { return Logf(v); });
#else  // Highway's MulAdd would round twice
      for (size_t i = 0; i < count; ++i) y[i] = sim::Logf(x[i]);
      return;
#endif
  }
}

HWY_INLINE VF CanonicalNans(VF x) {
  return hn::IfThenElse(hn::IsNaN(x), hn::BitCast(DF(), hn::Set(DI(), 0x7FFFFFFF)), x);
}

void FmaSpan(const float* a, const float* b, const float* c, float* result, size_t count) {
  size_t i = 0;
#if HWY_NATIVE_FMA
  const DF df;
  for (; i + hn::Lanes(df) <= count; i += hn::Lanes(df)) {
    const VF sum = hn::MulAdd(hn::LoadU(df, a + i), hn::LoadU(df, b + i), hn::LoadU(df, c + i));
    hn::StoreU(CanonicalNans(sum), df, result + i);
  }
#endif
  for (; i < count; ++i) result[i] = sim::Fma(a[i], b[i], c[i]);
}

void DivideSpan(const float* a, const float* b, float* result, size_t count) {
  const DF df;
  size_t i = 0;
  for (; i + hn::Lanes(df) <= count; i += hn::Lanes(df)) {
    hn::StoreU(CanonicalNans(hn::Div(hn::LoadU(df, a + i), hn::LoadU(df, b + i))), df, result + i);
  }
  for (; i < count; ++i) result[i] = sim::Divide(a[i], b[i]);
}

void ReciprocalSpan(const float* x, float* result, size_t count) {
  const DF df;
  ForEachVector(df, x, result, count, [&](VF v) HWY_ATTR { return CanonicalNans(hn::Div(hn::Set(df, 1.0f), v)); });
}

}  // namespace HWY_NAMESPACE
}  // namespace bitflash::sim
HWY_AFTER_NAMESPACE();

#endif  // BITFLASH_SIM_SPECIAL_FUNCTIONS_SIMD_INL_H_
