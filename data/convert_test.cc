#include "data/convert.h"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "data/convert_test_util.h"

namespace bitflash::data {
namespace {

// What a pattern means, straight from the formula of the standards: (-1)^s * 2^e * fraction.
double ValueOf(Format format, uint32_t bits) {
  const FormatInfo& info = Info(format);
  const uint32_t pattern = format == Format::kTf32 ? bits >> 13 : bits;
  const uint32_t fraction = pattern % (1u << info.fraction_bits);
  const int field = static_cast<int>(pattern >> info.fraction_bits) % (1 << info.exponent_bits);
  const double sign = pattern >> (info.exponent_bits + info.fraction_bits) ? -1 : 1;
  if (field == (1 << info.exponent_bits) - 1) {
    const bool last = fraction == (1u << info.fraction_bits) - 1;
    if (info.has_infinity) return fraction == 0 ? sign * HUGE_VAL : std::nan("");
    if (last) return std::nan("");
  }
  const double scaled = field == 0 ? fraction : fraction + std::ldexp(1.0, info.fraction_bits);
  return sign * std::ldexp(scaled, (field == 0 ? 1 : field) - info.bias - info.fraction_bits);
}

bool SameNumber(double a, double b) { return a == b && std::signbit(a) == std::signbit(b); }

TEST_CASE("decoding every pattern gives the value of the standard's formula, and encoding gives the pattern back") {
  for (const Format format : NarrowFormats()) {
    CAPTURE(Name(format));
    Mismatches decode, encode;
    int64_t nans = 0;
    for (const uint32_t bits : AllPatterns(format)) {
      const double expected = ValueOf(format, bits);
      const float value = Decode(format, bits);
      const bool is_nan = std::isnan(expected);
      nans += is_nan;
      decode.Count(is_nan ? std::isnan(value) : SameNumber(value, expected), bits);
      for (const Rounding rounding : kRoundings) {
        // e4m3's signed NaN of an overflow is a NaN like any other when read.
        const uint32_t expected_bits = is_nan ? CanonicalNan(format) : bits;
        const bool copies_nans = format == Format::kTf32 && rounding == Rounding::kNearestAway;
        const uint32_t back = Encode(format, value, rounding, Overflow::kIeee);
        encode.Count(back == (copies_nans ? bits : expected_bits), bits);
        encode.Count(Encode(format, double{value}, rounding, Overflow::kIeee) == expected_bits, bits);
      }
    }
    CHECK_MESSAGE(decode.none(), decode.text());
    CHECK_MESSAGE(encode.none(), encode.text());
    const FormatInfo& info = Info(format);
    CHECK(nans == (info.has_infinity ? 2 * ((int64_t{1} << info.fraction_bits) - 1) : 2));
  }
}

TEST_CASE("known constants of the formats") {
  CHECK(Decode(Format::kE4m3, 0x7E) == 448.0f);  // OCP OFP8 1.0, table 2
  CHECK(Decode(Format::kE4m3, 0x01) == std::ldexp(1.0f, -9));
  CHECK(Decode(Format::kE5m2, 0x7B) == 57344.0f);
  CHECK(Decode(Format::kE5m2, 0x01) == std::ldexp(1.0f, -16));
  CHECK(Decode(Format::kFp16, 0x7BFF) == 65504.0f);
  CHECK(Decode(Format::kFp16, 0x0001) == std::ldexp(1.0f, -24));
  CHECK(Decode(Format::kBf16, 0x0001) == std::ldexp(1.0f, -133));
  CHECK(Decode(Format::kBf16, 0x3F80) == 1.0f);
  CHECK(Decode(Format::kTf32, 0x3F803FFF) == 1.0f + std::ldexp(1.0f, -10));  // the low 13 bits are ignored
  CHECK(MaxFinite(Format::kFp16) == 0x7BFF);
  CHECK(MaxFinite(Format::kTf32) == 0x7F7FE000);
}

// The three results that the neighbourhood of the middle between two adjacent values can have.
struct Expected {
  uint32_t below, tie, above;
};

Expected ExpectedAt(Rounding rounding, uint32_t low, uint32_t high, bool low_is_even) {
  switch (rounding) {
    case Rounding::kTowardZero:
      return {low, low, low};
    case Rounding::kNearestAway:
      return {low, high, high};
    case Rounding::kNearestEven:
      break;
  }
  return {low, low_is_even ? low : high, high};
}

TEST_CASE("every boundary between adjacent values is where it belongs, from fp32 and from fp64") {
  for (const Format format : NarrowFormats()) {
    CAPTURE(Name(format));
    const uint32_t unit = format == Format::kTf32 ? 1u << 13 : 1;
    const uint32_t sign_bit = 1u << (8 * StorageBytes(format) - 1);
    Mismatches wrong;
    int64_t double_rounding_witnesses = 0;
    for (uint32_t low = 0; low <= MaxFinite(format); low += unit) {
      const bool last = low == MaxFinite(format);  // then `high` is the value that the format would have next
      const double low_value = ValueOf(format, low);
      const double high_value = last ? 2 * low_value - ValueOf(format, low - unit) : ValueOf(format, low + unit);
      const double middle = (low_value + high_value) / 2;
      REQUIRE(static_cast<float>(middle) == middle);
      const float tie = static_cast<float>(middle);
      for (const Overflow overflow : kOverflows) {
        const bool saturates = overflow == Overflow::kSatFinite;
        const uint32_t beyond = saturates ? low : format == Format::kE4m3 ? 0x7F : MaxFinite(format) + unit;
        for (const Rounding rounding : kRoundings) {
          const Expected expected = ExpectedAt(rounding, low, last ? beyond : low + unit, low / unit % 2 == 0);
          for (const uint32_t sign : {0u, sign_bit}) {
            const float s = sign == 0 ? 1.0f : -1.0f;
            const auto check = [&](auto value, uint32_t bits) {
              wrong.Count(Encode(format, value, rounding, overflow) == (bits | sign), low | sign);
            };
            check(s * tie, expected.tie);
            check(s * std::nextafter(tie, 0.0f), expected.below);
            check(s * std::nextafter(tie, HUGE_VALF), expected.above);
            check(s * middle, expected.tie);
            check(s * std::nextafter(middle, 0.0), expected.below);
            check(s * std::nextafter(middle, HUGE_VAL), expected.above);
            check(s * low_value, low);
            check(s * std::nextafter(low_value, HUGE_VAL), low);
            if (!last) check(s * std::nextafter(high_value, 0.0), ExpectedAt(rounding, low, low + unit, true).above);
          }
        }
      }
      // Just above a tie that goes down: rounding to fp32 first lands on the tie and then goes the wrong way.
      const double above = std::nextafter(middle, HUGE_VAL);
      if (Encode(format, above) != Encode(format, static_cast<float>(above))) ++double_rounding_witnesses;
    }
    CHECK_MESSAGE(wrong.none(), wrong.text());
    // Every second boundary is such a tie; at the last one e4m3 saturates either way.
    CHECK(double_rounding_witnesses == (MaxFinite(format) / unit + 1) / 2);
  }
}

TEST_CASE("infinities, NaNs and huge values") {
  const float inf = std::numeric_limits<float>::infinity();
  const double huge = std::numeric_limits<double>::max();
  const struct {
    Format format;
    uint32_t infinity, max, nan, sign;
  } rows[] = {{Format::kFp16, 0x7C00, 0x7BFF, 0x7FFF, 0x8000},
              {Format::kBf16, 0x7F80, 0x7F7F, 0x7FFF, 0x8000},
              {Format::kE4m3, 0x7F, 0x7E, 0x7F, 0x80},
              {Format::kE5m2, 0x7C, 0x7B, 0x7F, 0x80},
              {Format::kTf32, 0x7F800000, 0x7F7FE000, 0x7FFFE000, 0x80000000},
              {Format::kFp32, 0x7F800000, 0x7F7FFFFF, 0x7FFFFFFF, 0x80000000}};
  for (const auto& row : rows) {
    CAPTURE(Name(row.format));
    for (const Rounding rounding : kRoundings) {
      const bool nearest = rounding != Rounding::kTowardZero;
      CHECK(Encode(row.format, inf, rounding, Overflow::kIeee) == row.infinity);
      CHECK(Encode(row.format, -inf, rounding, Overflow::kIeee) == (row.infinity | row.sign));
      CHECK(Encode(row.format, -inf, rounding, Overflow::kSatFinite) == (row.max | row.sign));
      CHECK(Encode(row.format, -huge, rounding, Overflow::kIeee) == ((nearest ? row.infinity : row.max) | row.sign));
      CHECK(Encode(row.format, huge, rounding, Overflow::kSatFinite) == row.max);
      for (const double nan : {std::nan(""), -std::nan("")}) {
        CHECK(Encode(row.format, nan, rounding, Overflow::kIeee) == row.nan);
        CHECK(Encode(row.format, nan, rounding, Overflow::kSatFinite) == row.nan);
      }
      CHECK(Encode(row.format, -0.0f, rounding) == row.sign);
      CHECK(Encode(row.format, std::numeric_limits<double>::denorm_min(), rounding) == 0);
    }
  }
  CHECK(Encode(Format::kE4m3, 1e9f) == 0x7E);  // as PTX, which knows fp8 only with .satfinite
  CHECK(Encode(Format::kE5m2, 1e9f) == 0x7B);
  CHECK(Encode(Format::kFp16, 1e9f) == 0x7C00);
  // fp32 to fp32 copies, NaN payloads included.
  CHECK(Encode(Format::kFp32, std::bit_cast<float>(0xFFC12345u)) == 0xFFC12345u);
  CHECK(std::bit_cast<uint32_t>(Decode(Format::kFp32, 0xFFC12345u)) == 0xFFC12345u);
}

TEST_CASE("rounding to tf32 with ties away cuts the bits of a NaN, and other roundings replace it") {
  const struct {
    uint32_t nan, cut;
  } rows[] = {{0x7FC00000, 0x7FC00000}, {0xFFC00000, 0xFFC00000}, {0x7F800001, 0x7F800000}, {0xFF801FFF, 0xFF800000},
              {0xFF802000, 0xFF802000}, {0x7FFFFFFF, 0x7FFFE000}, {0xFFFFFFFF, 0xFFFFE000}, {0x7FA55555, 0x7FA54000}};
  for (const auto& row : rows) {
    CAPTURE(row.nan);
    const float nan = std::bit_cast<float>(row.nan);
    CHECK(Encode(Format::kTf32, nan, Rounding::kNearestAway) == row.cut);
    CHECK(Encode(Format::kTf32, nan, Rounding::kNearestAway, Overflow::kSatFinite) == 0x7FFFE000);
    CHECK(Encode(Format::kTf32, nan, Rounding::kNearestEven) == 0x7FFFE000);
    CHECK(Encode(Format::kTf32, nan, Rounding::kTowardZero) == 0x7FFFE000);
    CHECK(Encode(Format::kBf16, nan, Rounding::kNearestAway) == 0x7FFF);
  }
}

TEST_CASE("fp64 to fp32 equals the processor's conversion") {
  std::mt19937_64 random(1);
  Mismatches wrong;
  for (int i = 0; i < 2'000'000; ++i) {
    // Exponents around and far beyond the range of fp32, subnormals included.
    const double fraction = std::ldexp(static_cast<double>(random() >> 11), -53) + 1;
    const double value = std::ldexp(random() % 2 ? fraction : -fraction, static_cast<int>(random() % 340) - 180);
    const uint32_t processor = std::bit_cast<uint32_t>(static_cast<float>(value));
    wrong.Count(Encode(Format::kFp32, value) == processor, processor);
  }
  CHECK_MESSAGE(wrong.none(), wrong.text());
}

}  // namespace
}  // namespace bitflash::data
