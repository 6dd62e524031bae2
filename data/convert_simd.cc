#include "data/convert_simd.h"

#include <bit>
#include <cassert>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "data/convert_simd.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep; compiles this file once per SIMD target
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace bitflash::data {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D32 = hn::ScalableTag<uint32_t>;
using V32 = hn::Vec<D32>;
using M32 = hn::Mask<D32>;

// A format as compile-time numbers, and its elements as the lanes of a vector of uint32_t.
template <class T, int kExponentBits, int kFractionBits, bool kInfinity>
struct Layout {
  using Element = T;
  static constexpr int kFraction = kFractionBits;
  static constexpr int kWidth = kExponentBits + kFractionBits;  // without the sign
  static constexpr int kUnused = static_cast<int>(sizeof(T)) * 8 - 1 - kWidth;
  static constexpr int kWidening = 23 - kFractionBits;
  static constexpr int kRebias = 127 - ((1 << (kExponentBits - 1)) - 1);
  static constexpr uint32_t kTopBinade = ((1u << kExponentBits) - 1) << kFractionBits;
  static constexpr uint32_t kNan = (1u << kWidth) - 1;
  static constexpr uint32_t kMaxFinite = kInfinity ? kTopBinade - 1 : kNan - 1;
};
using Tf32 = Layout<uint32_t, 8, 10, true>;
using Fp16 = Layout<uint16_t, 5, 10, true>;
using Bf16 = Layout<uint16_t, 8, 7, true>;
using E4m3 = Layout<uint8_t, 4, 3, false>;
using E5m2 = Layout<uint8_t, 5, 2, true>;

template <class T>
V32 LoadElements(D32 d, const T* in) {
  if constexpr (sizeof(T) == 4) {
    return hn::LoadU(d, in);
  } else {
    return hn::PromoteTo(d, hn::LoadU(hn::Rebind<T, D32>(), in));
  }
}

template <class T>
void StoreElements(D32 d, V32 v, T* out) {
  if constexpr (sizeof(T) == 4) {
    hn::StoreU(v, d, out);
  } else if constexpr (sizeof(T) == 2) {
    const hn::Rebind<uint16_t, D32> d16;
    hn::StoreU(hn::DemoteTo(d16, hn::BitCast(hn::RebindToSigned<D32>(), v)), d16, out);
  } else {
    hn::StoreU(hn::U8FromU32(v), hn::Rebind<uint8_t, D32>(), out);
  }
}

// The fp32 bits of the elements in the lanes of `pattern`.
template <class L>
V32 DecodeLanes(D32 d, V32 pattern) {
  if constexpr (L::kUnused != 0) pattern = hn::ShiftRight<L::kUnused>(pattern);
  const V32 sign = hn::ShiftLeft<31 - L::kWidth>(hn::AndNot(hn::Set(d, (1u << L::kWidth) - 1), pattern));
  const V32 code = hn::And(pattern, hn::Set(d, (1u << L::kWidth) - 1));
  V32 bits = hn::ShiftLeft<L::kWidening>(code);
  if constexpr (L::kRebias != 0) {
    // A subnormal is its fraction, an integer, times the unit 2^(1 - bias - kFraction): both conversion and product
    // are exact, and neither operand nor result is subnormal in fp32, so the host's flush-to-zero flags do not matter.
    const hn::RebindToFloat<D32> df;
    const hn::RebindToSigned<D32> di;
    const auto unit = hn::BitCast(df, hn::Set(d, static_cast<uint32_t>(L::kRebias + 1 - L::kFraction) << 23));
    const auto subnormal = hn::Mul(hn::ConvertTo(df, hn::BitCast(di, code)), unit);
    const V32 normal = hn::Add(bits, hn::Set(d, static_cast<uint32_t>(L::kRebias) << 23));
    // Codes have at most 16 bits here: signed comparison, which every target has, is right.
    const M32 is_normal = hn::RebindMask(d, hn::Gt(hn::BitCast(di, code), hn::Set(di, (1 << L::kFraction) - 1)));
    const M32 is_special = hn::RebindMask(d, hn::Gt(hn::BitCast(di, code), hn::Set(di, int32_t{L::kMaxFinite})));
    bits = hn::IfThenElse(is_normal, normal, hn::BitCast(d, subnormal));
    bits = hn::Or(bits, hn::IfThenElseZero(is_special, hn::Set(d, 0x7F800000u)));
  }
  return hn::Or(sign, bits);
}

// What does not depend on the element.
struct Rule {
  uint32_t infinity;  // code of infinite operands
  uint32_t overflow;  // code of finite values beyond the range
  bool copies_nans;   // cuts NaNs instead of replacing them: tf32 with kNearestAway (convert.h)
};

// The patterns of `L` for the fp32 bits in the lanes.
template <class L, Rounding kRounding>
V32 EncodeLanes(D32 d, V32 bits, const Rule& rule) {
  const hn::RebindToSigned<D32> di;
  const auto gt = [&](V32 a, uint32_t b) {  // a, b < 2^31
    return hn::RebindMask(d, hn::Gt(hn::BitCast(di, a), hn::Set(di, static_cast<int32_t>(b))));
  };
  const V32 one = hn::Set(d, 1u);
  const V32 magnitude = hn::And(bits, hn::Set(d, 0x7FFFFFFFu));
  const V32 sign = hn::ShiftRight<31 - L::kWidth>(hn::AndNot(hn::Set(d, 0x7FFFFFFFu), bits));

  V32 code;
  if constexpr (L::kRebias == 0) {
    // The exponent field is fp32's, so cutting the fraction is all; a carry into the exponent is right as it is.
    // Of operands up to infinity the sum stays below 2^31; what NaNs give is replaced at the end.
    constexpr uint32_t kHalf = 1u << (L::kWidening - 1);
    V32 raised = magnitude;
    if constexpr (kRounding == Rounding::kNearestEven) {
      const V32 odd = hn::And(hn::ShiftRight<L::kWidening>(magnitude), one);
      raised = hn::Add(hn::Add(magnitude, hn::Set(d, kHalf - 1)), odd);
    } else if constexpr (kRounding == Rounding::kNearestAway) {
      raised = hn::Add(magnitude, hn::Set(d, kHalf));
    }
    code = hn::ShiftRight<L::kWidening>(raised);
  } else {
    // As in convert.cc: a significand of 24 bits and the binade, which is never below the smallest normal one.
    // A shift of 25 already leaves less than half a unit. fp32 subnormals are far below half a unit too, so that
    // their missing hidden bit does not matter.
    const V32 smallest = hn::Set(d, static_cast<uint32_t>(L::kRebias + 1));
    const V32 exponent = hn::ShiftRight<23>(magnitude);
    const V32 binade = hn::Max(exponent, smallest);
    const V32 shift = hn::Min(hn::Add(hn::Set(d, uint32_t{L::kWidening}), hn::Sub(binade, exponent)), hn::Set(d, 25u));
    const V32 significand = hn::Or(hn::And(bits, hn::Set(d, 0x7FFFFFu)), hn::Set(d, 0x800000u));
    V32 raised = significand;
    if constexpr (kRounding != Rounding::kTowardZero) {
      const V32 half = hn::Shl(one, hn::Sub(shift, one));
      if constexpr (kRounding == Rounding::kNearestEven) {
        const V32 odd = hn::And(hn::Shr(significand, shift), one);
        raised = hn::Add(hn::Add(significand, hn::Sub(half, one)), odd);
      } else {
        raised = hn::Add(significand, half);
      }
    }
    code = hn::Add(hn::ShiftLeft<L::kFraction>(hn::Sub(binade, smallest)), hn::Shr(raised, shift));
  }
  const V32 beyond = hn::IfThenElse(gt(magnitude, 0x7F7FFFFFu), hn::Set(d, rule.infinity), hn::Set(d, rule.overflow));
  code = hn::Or(sign, hn::IfThenElse(gt(code, L::kMaxFinite), beyond, code));
  V32 nan = hn::Set(d, L::kNan);
  if constexpr (L::kUnused != 0 && kRounding == Rounding::kNearestAway) {
    if (rule.copies_nans) nan = hn::ShiftRight<L::kUnused>(bits);
  }
  code = hn::IfThenElse(gt(magnitude, 0x7F800000u), nan, code);
  if constexpr (L::kUnused != 0) code = hn::ShiftLeft<L::kUnused>(code);
  return code;
}

// Calls convert(lanes of In, lanes of Out) for whole vectors; the ragged tail goes through a buffer of one vector.
template <class In, class Out, class Convert>
void ForEachVector(const In* in, Out* out, int64_t count, const Convert& convert) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(D32()));
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) convert(in + i, out + i);
  if (i >= count) return;
  HWY_ALIGN In tail_in[HWY_MAX_BYTES / 4] = {};
  HWY_ALIGN Out tail_out[HWY_MAX_BYTES / 4];
  const size_t rest = static_cast<size_t>(count - i);
  std::memcpy(tail_in, in + i, rest * sizeof(In));
  convert(tail_in, tail_out);
  std::memcpy(out + i, tail_out, rest * sizeof(Out));
}

template <class L>
void Decode(const void* in, float* out, int64_t count) {
  using T = typename L::Element;
  ForEachVector(static_cast<const T*>(in), out, count, [](const T* from, float* to) HWY_ATTR {
    const D32 d;
    const hn::RebindToFloat<D32> df;
    hn::StoreU(hn::BitCast(df, DecodeLanes<L>(d, LoadElements(d, from))), df, to);
  });
}

template <class L, Rounding kRounding>
void EncodeRounded(const float* in, void* out, int64_t count, const Rule& rule) {
  using T = typename L::Element;
  ForEachVector(in, static_cast<T*>(out), count, [&rule](const float* from, T* to) HWY_ATTR {
    const D32 d;
    const hn::RebindToFloat<D32> df;
    StoreElements(d, EncodeLanes<L, kRounding>(d, hn::BitCast(d, hn::LoadU(df, from)), rule), to);
  });
}

template <class L>
void Encode(const float* in, void* out, int64_t count, Rounding rounding, Overflow overflow) {
  constexpr bool kHasInfinity = L::kMaxFinite + 1 == L::kTopBinade;
  Rule rule;
  rule.infinity = overflow == Overflow::kSatFinite ? L::kMaxFinite : (kHasInfinity ? L::kTopBinade : L::kNan);
  rule.overflow = rounding == Rounding::kTowardZero ? L::kMaxFinite : rule.infinity;
  rule.copies_nans = overflow == Overflow::kIeee;  // only where EncodeLanes asks
  switch (rounding) {
    case Rounding::kNearestEven:
      return EncodeRounded<L, Rounding::kNearestEven>(in, out, count, rule);
    case Rounding::kNearestAway:
      return EncodeRounded<L, Rounding::kNearestAway>(in, out, count, rule);
    case Rounding::kTowardZero:
      return EncodeRounded<L, Rounding::kTowardZero>(in, out, count, rule);
  }
}

void DecodeNarrow(Format format, const void* in, float* out, int64_t count) {
  switch (format) {
    case Format::kTf32:
      return Decode<Tf32>(in, out, count);
    case Format::kFp16:
      return Decode<Fp16>(in, out, count);
    case Format::kBf16:
      return Decode<Bf16>(in, out, count);
    case Format::kE4m3:
      return Decode<E4m3>(in, out, count);
    case Format::kE5m2:
      return Decode<E5m2>(in, out, count);
    case Format::kFp32:
    case Format::kFp64:
      break;
  }
  assert(false && "a format of at most 19 bits");
}

void EncodeNarrow(Format format, const float* in, void* out, int64_t count, Rounding rounding, Overflow overflow) {
  switch (format) {
    case Format::kTf32:
      return Encode<Tf32>(in, out, count, rounding, overflow);
    case Format::kFp16:
      return Encode<Fp16>(in, out, count, rounding, overflow);
    case Format::kBf16:
      return Encode<Bf16>(in, out, count, rounding, overflow);
    case Format::kE4m3:
      return Encode<E4m3>(in, out, count, rounding, overflow);
    case Format::kE5m2:
      return Encode<E5m2>(in, out, count, rounding, overflow);
    case Format::kFp32:
    case Format::kFp64:
      break;
  }
  assert(false && "a format of at most 19 bits");
}

}  // namespace HWY_NAMESPACE
}  // namespace bitflash::data
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bitflash::data {

HWY_EXPORT(DecodeNarrow);
HWY_EXPORT(EncodeNarrow);

void ToFloat(Format format, const void* in, float* out, int64_t count) {
  if (count == 0) return;
  if (format == Format::kFp32) {
    std::memcpy(out, in, static_cast<size_t>(count) * sizeof(float));
  } else if (format == Format::kFp64) {
    const double* values = static_cast<const double*>(in);
    for (int64_t i = 0; i < count; ++i) out[i] = std::bit_cast<float>(Encode(Format::kFp32, values[i]));
  } else {
    HWY_DYNAMIC_DISPATCH(DecodeNarrow)(format, in, out, count);
  }
}

void FromFloat(Format format, const float* in, void* out, int64_t count, Rounding rounding, Overflow overflow) {
  if (count == 0) return;
  if (format == Format::kFp32 && overflow == Overflow::kIeee) {
    std::memcpy(out, in, static_cast<size_t>(count) * sizeof(float));
  } else if (format == Format::kFp32) {
    uint32_t* patterns = static_cast<uint32_t*>(out);
    for (int64_t i = 0; i < count; ++i) patterns[i] = Encode(format, in[i], rounding, overflow);
  } else if (format == Format::kFp64) {
    double* values = static_cast<double*>(out);
    for (int64_t i = 0; i < count; ++i) values[i] = in[i];
  } else {
    HWY_DYNAMIC_DISPATCH(EncodeNarrow)(format, in, out, count, rounding, overflow);
  }
}

}  // namespace bitflash::data
#endif  // HWY_ONCE
