#include "data/convert.h"

#include <algorithm>
#include <bit>
#include <cassert>

namespace bitflash::data {
namespace {

// Bits of a 4-byte pattern below the fraction: 13 in tf32, none elsewhere.
constexpr int UnusedBits(Format format) { return format == Format::kTf32 ? 13 : 0; }

// The pattern whose exponent field is all ones and whose fraction is zero: infinity where there is one.
// Without the unused bits, as every `code` in this file.
uint32_t TopBinade(const FormatInfo& info) { return ((1u << info.exponent_bits) - 1) << info.fraction_bits; }

uint32_t MaxFiniteCode(const FormatInfo& info) {
  // e4m3: the topmost pattern is the only NaN, the one below it is 448 (OCP OFP8 1.0, table 1).
  return info.has_infinity ? TopBinade(info) - 1 : TopBinade(info) + (1u << info.fraction_bits) - 2;
}

uint32_t NanCode(const FormatInfo& info) { return TopBinade(info) + (1u << info.fraction_bits) - 1; }

// The code of an infinite operand, or of a finite one that rounds to nearest beyond the range.
uint32_t InfinityCode(const FormatInfo& info, Overflow overflow) {
  if (overflow == Overflow::kSatFinite) return MaxFiniteCode(info);
  return info.has_infinity ? TopBinade(info) : NanCode(info);
}

// significand * 2^-shift, rounded to an integer.
uint64_t ShiftRounded(uint64_t significand, int shift, Rounding rounding) {
  const uint64_t kept = significand >> shift;
  const uint64_t rest = significand - (kept << shift);
  const uint64_t half = uint64_t{1} << (shift - 1);
  switch (rounding) {
    case Rounding::kTowardZero:
      return kept;
    case Rounding::kNearestAway:
      return kept + (rest >= half);
    case Rounding::kNearestEven:
      break;
  }
  return kept + (rest > half || (rest == half && kept % 2 == 1));
}

}  // namespace

uint32_t Encode(Format format, double value, Rounding rounding, Overflow overflow) {
  assert(format != Format::kFp64);
  const FormatInfo& info = Info(format);
  const uint64_t bits = std::bit_cast<uint64_t>(value);
  const uint64_t magnitude = bits & ~(uint64_t{1} << 63);
  constexpr uint64_t kInfinity = uint64_t{0x7FF} << 52;
  if (magnitude > kInfinity) return CanonicalNan(format);

  uint64_t code = InfinityCode(info, overflow);
  if (magnitude != kInfinity) {
    // |value| = significand * 2^(exponent - 52).
    const int field = static_cast<int>(magnitude >> 52);
    const int exponent = std::max(field, 1) - 1023;
    const uint64_t significand = (magnitude & ((uint64_t{1} << 52) - 1)) | (uint64_t{field != 0} << 52);
    // The result is a multiple of 2^(binade - fraction_bits); below the smallest normal number the binade stays, which
    // is what makes subnormals. A shift of 54 already leaves less than half a unit.
    const int smallest = 1 - info.bias;
    const int binade = std::max(exponent, smallest);
    const int shift = std::min(52 - info.fraction_bits + binade - exponent, 54);
    // The hidden bit of the rounded significand counts one up in the exponent field, and a carry counts one more.
    const uint64_t rounded =
        (static_cast<uint64_t>(binade - smallest) << info.fraction_bits) + ShiftRounded(significand, shift, rounding);
    if (rounded <= MaxFiniteCode(info)) {
      code = rounded;
    } else if (rounding == Rounding::kTowardZero) {
      code = MaxFiniteCode(info);
    }
  }
  const uint64_t sign = bits >> 63 << (info.exponent_bits + info.fraction_bits);
  return static_cast<uint32_t>((sign | code) << UnusedBits(format));
}

uint32_t Encode(Format format, float value, Rounding rounding, Overflow overflow) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if (format == Format::kFp32 && overflow == Overflow::kIeee) return bits;
  if (format == Format::kTf32 && rounding == Rounding::kNearestAway && overflow == Overflow::kIeee) {
    // cvt.rna copies NaNs (convert.h).
    if ((bits & 0x7FFFFFFF) > 0x7F800000) return bits >> UnusedBits(format) << UnusedBits(format);
  }
  return Encode(format, static_cast<double>(value), rounding, overflow);
}

float Decode(Format format, uint32_t bits) {
  assert(format != Format::kFp64);
  const FormatInfo& info = Info(format);
  const uint32_t pattern = bits >> UnusedBits(format);
  const int width = info.exponent_bits + info.fraction_bits;
  assert(pattern >> width <= 1);
  const uint32_t sign = pattern >> width << 31;
  const uint32_t code = pattern & ((1u << width) - 1);
  const int widening = 23 - info.fraction_bits;
  const uint32_t fraction = (code << widening) & 0x7FFFFF;
  if (code > MaxFiniteCode(info)) return std::bit_cast<float>(sign | 0x7F800000 | fraction);
  if (info.bias == 127 || code == 0) return std::bit_cast<float>(sign | code << widening);

  const uint32_t rebias = static_cast<uint32_t>(127 - info.bias);
  const uint32_t field = code >> info.fraction_bits;
  if (field != 0) return std::bit_cast<float>(sign | ((field + rebias) << 23 | fraction));
  // A subnormal of a narrow exponent range is a normal fp32 number: move its leading bit to the hidden place.
  const int move = std::countl_zero(fraction) - 8;
  return std::bit_cast<float>(sign | (rebias + 1 - static_cast<uint32_t>(move)) << 23 |
                              ((fraction << move) & 0x7FFFFF));
}

uint32_t CanonicalNan(Format format) { return NanCode(Info(format)) << UnusedBits(format); }

uint32_t MaxFinite(Format format) { return MaxFiniteCode(Info(format)) << UnusedBits(format); }

}  // namespace bitflash::data
