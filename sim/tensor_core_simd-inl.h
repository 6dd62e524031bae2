// The vector code of tensor_core_simd.cc, compiled once per SIMD target. Lanes run across columns of B, so nothing is
// horizontal. The caller has set the rounding mode to toward zero.
//
// One step of a row is two passes over its products: the largest exponent (int16 lanes, an add and a max per product),
// then the terms (fp32 lanes: the exact product, times 2^(F - emax), truncated to int32, added). It is right when
// kLeastFast <= emax <= kGreatestFast:
//   * 2^(F - emax) is a number of fp32, and so is its inverse;
//   * a product below fp32's normal range, which fp32 may round, is below 2^(emax - F), which truncates it to zero;
//   * the result neither overflows nor is subnormal;
//   * emax is above every emax_floor.
// NaN and infinity have exponents far above (kExponentOfSpecial; 128 in the accumulator), so the same test catches
// them, and a row that fails it takes SlowStep.
#if defined(BITFLASH_SIM_TENSOR_CORE_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BITFLASH_SIM_TENSOR_CORE_SIMD_INL_H_
#undef BITFLASH_SIM_TENSOR_CORE_SIMD_INL_H_
#else
#define BITFLASH_SIM_TENSOR_CORE_SIMD_INL_H_
#endif

#include <algorithm>
#include <cstring>

#include "hwy/highway.h"
#include "sim/tensor_core_panel.h"
#include "sim/tensor_core_slow_step-inl.h"

HWY_BEFORE_NAMESPACE();
namespace bitflash::sim {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_SCALAR  // one lane: nothing to gain, and no halves of a vector

void MultiplyPanel(const PanelProduct& p) {
  const int64_t products = p.core.products;
  for (int64_t row = p.row_begin; row < p.row_end; ++row) {
    for (int64_t k = 0; k < p.a.depth(); k += products) {
      for (int64_t column = 0; column < p.columns; ++column) {
        float& d = p.accumulator[row * p.row_stride + column];
        const int64_t at = k * kPanelColumns + column;
        d = PanelStepOneByOne(p.core, p.a.values(row) + k, p.a.exponents(row) + k, p.b_values + at, p.b_exponents + at,
                              d);
      }
    }
  }
}

#else

constexpr int kLeastFast = -100;
constexpr int kGreatestFast = 120;  // 16 products below 2^(120 + 2), and c, stay below 2^127

// The largest exponents of a step's products, for all lanes of a vector of exponents.
template <int kProducts>
HWY_INLINE hn::Vec<D16> LargestExponents(const int32_t* HWY_RESTRICT a_exponents,
                                         const int16_t* HWY_RESTRICT b_exponents) {
  const D16 d16;
  const D16Pairs d_pairs;
  auto largest = hn::Add(hn::Load(d16, b_exponents), hn::BitCast(d16, hn::Set(d_pairs, a_exponents[0])));
  HWY_UNROLL(32)
  for (int k = 1; k < kProducts; ++k) {
    const auto ea = hn::BitCast(d16, hn::Set(d_pairs, a_exponents[k]));
    largest = hn::Max(largest, hn::Add(hn::Load(d16, b_exponents + k * kPanelColumns), ea));
  }
  return largest;
}

// The fields of fp32 that hold 2^(F - emax), where `largest` is that of the products; sets the sign bit of `refused` in
// lanes whose emax is not for the fast path.
HWY_INLINE VI ScaleField(VI largest, VF c, int alignment_bits, VI& refused) {
  const DI di;
  const VI c_field = hn::BitCast(di, hn::ShiftRight<24>(hn::ShiftLeft<1>(hn::BitCast(hn::RebindToUnsigned<DI>(), c))));
  const VI emax = hn::Max(hn::Add(largest, hn::Set(di, kBias)), c_field);  // biased
  refused = hn::Or(refused, hn::Or(hn::Sub(emax, hn::Set(di, kLeastFast + kBias)),
                                   hn::Sub(hn::Set(di, kGreatestFast + kBias), emax)));
  return hn::ShiftLeft<23>(hn::Sub(hn::Set(di, 2 * kBias + alignment_bits), emax));
}

// Adds c to the sum of the products and scales back; `overflow` collects a sign bit where int32 was too small.
template <bool kTo13Bits>
HWY_INLINE VF Finish(VI products, VF c, VI scale_field, VI& overflow) {
  const DI di;
  const DF df;
  const VI addend = TruncateToInt(hn::Mul(c, hn::BitCast(df, scale_field)));
  const VI sum = AddChecked(products, addend, overflow);
  const VI inverse_field = hn::Sub(hn::Set(di, (2 * kBias) << 23), scale_field);
  const VF result = hn::Mul(hn::ConvertTo(df, sum), hn::BitCast(df, inverse_field));
  return kTo13Bits ? hn::And(result, hn::BitCast(df, hn::Set(di, ~0x3FF))) : result;
}

HWY_INLINE VI AddTerm(VI sum, VF a, VF b, VI scale_field) {
  return hn::Add(sum, TruncateToInt(hn::Mul(hn::Mul(a, b), hn::BitCast(DF(), scale_field))));
}

// Adds kProducts aligned products of one or two rows of A to the sums: sum<row><half of the columns>. (A lambda would
// read better, but clang 14 calls it instead of inlining it, which costs half of the speed.)
template <int kProducts, int kRows>
HWY_INLINE void AddTerms(const float* HWY_RESTRICT a0, const float* HWY_RESTRICT a1, const float* HWY_RESTRICT b,
                         VI scale00, VI scale01, VI scale10, VI scale11, VI& sum00, VI& sum01, VI& sum10, VI& sum11) {
  const DF df;
  const size_t lanes = hn::Lanes(df);
  HWY_UNROLL(32)
  for (int k = 0; k < kProducts; ++k) {
    const VF b0 = hn::Load(df, b + k * kPanelColumns), b1 = hn::Load(df, b + k * kPanelColumns + lanes);
    const VF ak0 = hn::Set(df, a0[k]);
    sum00 = AddTerm(sum00, ak0, b0, scale00);
    sum01 = AddTerm(sum01, ak0, b1, scale01);
    if constexpr (kRows == 2) {
      const VF ak1 = hn::Set(df, a1[k]);
      sum10 = AddTerm(sum10, ak1, b0, scale10);
      sum11 = AddTerm(sum11, ak1, b1, scale11);
    }
  }
}

// kRows rows of the panel. Two at a time share the loads of B and hide each other's latency.
template <int kProducts, bool kTo13Bits, int kRows>
HWY_INLINE void MultiplyRows(const PanelProduct& p, int64_t row, float* d0, float* d1) {
  static_assert(kRows == 1 || kRows == 2);
  const DI di;
  const DF df;
  const D16Half d16_half;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(df));
  const int64_t steps = (p.a.depth() + kProducts - 1) / kProducts;
  const int alignment_bits = p.core.alignment_bits;
  for (int64_t column = 0; column < p.columns; column += 2 * lanes) {
    VF c00 = hn::LoadU(df, d0 + column), c01 = hn::LoadU(df, d0 + column + lanes);
    VF c10 = hn::Zero(df), c11 = hn::Zero(df);
    if constexpr (kRows == 2) c10 = hn::LoadU(df, d1 + column), c11 = hn::LoadU(df, d1 + column + lanes);
    const float* HWY_RESTRICT a0 = p.a.values(row);
    const int32_t* HWY_RESTRICT ea0 = p.a.exponents(row);
    const float* HWY_RESTRICT a1 = p.a.values(row + kRows - 1);
    const int32_t* HWY_RESTRICT ea1 = p.a.exponents(row + kRows - 1);
    const float* HWY_RESTRICT b = p.b_values + column;
    const int16_t* HWY_RESTRICT eb = p.b_exponents + column;
    for (int64_t step = 0; step < steps; ++step) {
      VI refused = hn::Zero(di), scale00, scale01;
      VI scale10 = refused, scale11 = refused;
      {
        const auto largest = LargestExponents<kProducts>(ea0, eb);
        scale00 = ScaleField(hn::PromoteTo(di, hn::LowerHalf(d16_half, largest)), c00, alignment_bits, refused);
        scale01 = ScaleField(hn::PromoteTo(di, hn::UpperHalf(d16_half, largest)), c01, alignment_bits, refused);
      }
      if constexpr (kRows == 2) {
        const auto largest = LargestExponents<kProducts>(ea1, eb);
        scale10 = ScaleField(hn::PromoteTo(di, hn::LowerHalf(d16_half, largest)), c10, alignment_bits, refused);
        scale11 = ScaleField(hn::PromoteTo(di, hn::UpperHalf(d16_half, largest)), c11, alignment_bits, refused);
      }
      VI sum00 = hn::Zero(di), sum01 = hn::Zero(di), sum10 = hn::Zero(di), sum11 = hn::Zero(di);
      if constexpr (kProducts <= 16 || kTo13Bits) {
        AddTerms<kProducts, kRows>(a0, a1, b, scale00, scale01, scale10, scale11, sum00, sum01, sum10, sum11);
      } else {  // 16 terms below 2^27 cannot leave int32, 32 can
        AddTerms<16, kRows>(a0, a1, b, scale00, scale01, scale10, scale11, sum00, sum01, sum10, sum11);
        const VI half00 = sum00, half01 = sum01, half10 = sum10, half11 = sum11;
        sum00 = sum01 = sum10 = sum11 = hn::Zero(di);
        AddTerms<16, kRows>(a0 + 16, a1 + 16, b + 16 * kPanelColumns, scale00, scale01, scale10, scale11, sum00, sum01,
                            sum10, sum11);
        sum00 = AddChecked(half00, sum00, refused), sum01 = AddChecked(half01, sum01, refused);
        sum10 = AddChecked(half10, sum10, refused), sum11 = AddChecked(half11, sum11, refused);
      }
      const VF r00 = Finish<kTo13Bits>(sum00, c00, scale00, refused);
      const VF r01 = Finish<kTo13Bits>(sum01, c01, scale01, refused);
      VF r10 = c10, r11 = c11;
      if constexpr (kRows == 2) {
        r10 = Finish<kTo13Bits>(sum10, c10, scale10, refused);
        r11 = Finish<kTo13Bits>(sum11, c11, scale11, refused);
      }
      if (HWY_LIKELY(hn::AllFalse(di, hn::Lt(refused, hn::Zero(di))))) {
        c00 = r00, c01 = r01, c10 = r10, c11 = r11;
      } else {
        HWY_ALIGN float c[4 * hn::MaxLanes(DF())];
        hn::Store(c00, df, c), hn::Store(c01, df, c + lanes);
        SlowStep(p.core, a0, ea0, b, eb, c);
        SlowStep(p.core, a0, ea0, b + lanes, eb + lanes, c + lanes);
        c00 = hn::Load(df, c), c01 = hn::Load(df, c + lanes);
        if constexpr (kRows == 2) {
          hn::Store(c10, df, c), hn::Store(c11, df, c + lanes);
          SlowStep(p.core, a1, ea1, b, eb, c);
          SlowStep(p.core, a1, ea1, b + lanes, eb + lanes, c + lanes);
          c10 = hn::Load(df, c), c11 = hn::Load(df, c + lanes);
        }
      }
      a0 += kProducts, ea0 += kProducts, a1 += kProducts, ea1 += kProducts;
      b += kProducts * kPanelColumns, eb += kProducts * kPanelColumns;
    }
    hn::StoreU(c00, df, d0 + column), hn::StoreU(c01, df, d0 + column + lanes);
    if constexpr (kRows == 2) hn::StoreU(c10, df, d1 + column), hn::StoreU(c11, df, d1 + column + lanes);
  }
}

template <int kProducts, bool kTo13Bits>
void MultiplyPanelOf(const PanelProduct& p) {
  const auto d = [&](int64_t row) { return p.accumulator + row * p.row_stride; };
  if (p.columns == kPanelColumns) {
    int64_t row = p.row_begin;
    for (; row + 2 <= p.row_end; row += 2) MultiplyRows<kProducts, kTo13Bits, 2>(p, row, d(row), d(row + 1));
    if (row < p.row_end) MultiplyRows<kProducts, kTo13Bits, 1>(p, row, d(row), nullptr);
    return;
  }
  // The last panel is cut: its rows pass through a whole one, since the columns beyond belong to somebody else.
  for (int64_t row = p.row_begin; row < p.row_end; ++row) {
    float whole[kPanelColumns] = {};
    std::memcpy(whole, d(row), static_cast<size_t>(p.columns) * sizeof(float));
    MultiplyRows<kProducts, kTo13Bits, 1>(p, row, whole, nullptr);
    std::memcpy(d(row), whole, static_cast<size_t>(p.columns) * sizeof(float));
  }
}

void MultiplyPanel(const PanelProduct& p) {
  const bool to_13_bits = p.core.rounding == ResultRounding::kTruncateFp32To13;
  switch (p.core.products) {
    case 4:
      return MultiplyPanelOf<4, false>(p);
    case 8:
      return MultiplyPanelOf<8, false>(p);
    case 16:
      return to_13_bits ? MultiplyPanelOf<16, true>(p) : MultiplyPanelOf<16, false>(p);
    default:
      return to_13_bits ? MultiplyPanelOf<32, true>(p) : MultiplyPanelOf<32, false>(p);
  }
}

#endif  // HWY_TARGET == HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace bitflash::sim
HWY_AFTER_NAMESPACE();

#endif  // BITFLASH_SIM_TENSOR_CORE_SIMD_INL_H_
