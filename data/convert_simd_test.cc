#include "data/convert_simd.h"

#include <doctest/doctest.h>
#include <hwy/targets.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "data/convert_test_util.h"

namespace bitflash::data {
namespace {

// Runs `body` once per SIMD target that this build contains and this processor has.
template <class Body>
void ForEachTarget(const Body& body) {
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    CAPTURE(std::string(hwy::TargetName(target)));
    body();
  }
  hwy::SetSupportedTargetsForTest(0);
}

uint32_t ElementBits(Format format, const std::vector<uint8_t>& bytes, size_t i) {
  uint32_t bits = 0;
  const size_t width = static_cast<size_t>(StorageBytes(format));
  std::memcpy(&bits, bytes.data() + i * width, width);  // little-endian, as every file format of data/
  return bits;
}

// Both neighbours of every middle between adjacent values, the middles and the values, of both signs; specials; and
// random patterns.
std::vector<float> Inputs(Format format) {
  std::vector<float> inputs;
  const uint32_t unit = format == Format::kTf32 ? 1u << 13 : 1;
  // tf32 has half a million boundaries: every 67th reaches all binades.
  const uint32_t step = format == Format::kTf32 ? 67 * unit : unit;
  for (uint32_t low = 0; low <= MaxFinite(format); low += step) {
    const float value = Decode(format, low);
    const double next =
        low == MaxFinite(format) ? 2.0 * value - Decode(format, low - unit) : Decode(format, low + unit);
    const float middle = static_cast<float>((value + next) / 2);
    for (const float x : {value, std::nextafter(value, HUGE_VALF), std::nextafter(middle, 0.0f), middle,
                          std::nextafter(middle, HUGE_VALF)}) {
      inputs.push_back(x);
      inputs.push_back(-x);
    }
  }
  for (const uint32_t bits : {0x7F800000u, 0x7F7FFFFFu, 0x7FC00000u, 0x7F800001u, 0x7F802000u, 0x7FFFFFFFu, 0x00000001u,
                              0x007FFFFFu, 0x00800000u}) {
    inputs.push_back(std::bit_cast<float>(bits));
    inputs.push_back(std::bit_cast<float>(bits | 0x80000000u));
  }
  std::mt19937 random(7);
  for (int i = 0; i < 100'003; ++i) inputs.push_back(std::bit_cast<float>(static_cast<uint32_t>(random())));
  return inputs;
}

TEST_CASE("encoding arrays gives the bits of the scalar definition on every SIMD target") {
  for (const Format format : NarrowFormats()) {
    CAPTURE(Name(format));
    const std::vector<float> inputs = Inputs(format);
    std::vector<uint8_t> out(inputs.size() * static_cast<size_t>(StorageBytes(format)));
    for (const Rounding rounding : kRoundings) {
      for (const Overflow overflow : kOverflows) {
        std::vector<uint32_t> expected(inputs.size());
        for (size_t i = 0; i < inputs.size(); ++i) expected[i] = Encode(format, inputs[i], rounding, overflow);
        ForEachTarget([&] {
          FromFloat(format, inputs.data(), out.data(), static_cast<int64_t>(inputs.size()), rounding, overflow);
          Mismatches wrong;
          for (size_t i = 0; i < inputs.size(); ++i) {
            wrong.Count(ElementBits(format, out, i) == expected[i], std::bit_cast<uint32_t>(inputs[i]));
          }
          CHECK_MESSAGE(wrong.none(), wrong.text());
        });
      }
    }
  }
}

TEST_CASE("decoding arrays of every pattern gives the bits of the scalar definition on every SIMD target") {
  for (const Format format : NarrowFormats()) {
    CAPTURE(Name(format));
    const std::vector<uint32_t> patterns = AllPatterns(format);
    const size_t width = static_cast<size_t>(StorageBytes(format));
    std::vector<uint8_t> in(patterns.size() * width);
    for (size_t i = 0; i < patterns.size(); ++i) std::memcpy(in.data() + i * width, &patterns[i], width);
    std::vector<float> out(patterns.size());
    ForEachTarget([&] {
      ToFloat(format, in.data(), out.data(), static_cast<int64_t>(out.size()));
      Mismatches wrong;
      for (size_t i = 0; i < out.size(); ++i) {
        wrong.Count(std::bit_cast<uint32_t>(out[i]) == std::bit_cast<uint32_t>(Decode(format, patterns[i])),
                    patterns[i]);
      }
      CHECK_MESSAGE(wrong.none(), wrong.text());
    });
  }
}

TEST_CASE("any length at any offset converts that many elements and touches nothing else") {
  std::vector<float> values(80);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) / 4 - 3;
  for (const Format format : AllFormats()) {
    CAPTURE(Name(format));
    const size_t width = static_cast<size_t>(StorageBytes(format));
    ForEachTarget([&] {
      for (size_t first = 0; first < 3; ++first) {
        for (size_t count = 0; count <= 70; ++count) {
          std::vector<uint8_t> encoded(80 * width, 0xA5);
          FromFloat(format, values.data() + first, encoded.data() + first * width, static_cast<int64_t>(count));
          std::vector<float> decoded(80, -77.0f);
          ToFloat(format, encoded.data() + first * width, decoded.data() + first, static_cast<int64_t>(count));
          bool right = true;
          for (size_t i = 0; i < 80; ++i) {
            const bool inside = i >= first && i < first + count;
            // fp8 keeps 3 or 4 significant bits of these values, the others keep all.
            const bool rounded = format == Format::kE4m3 || format == Format::kE5m2;
            const float expected = rounded ? Decode(format, Encode(format, values[i])) : values[i];
            right &= decoded[i] == (inside ? expected : -77.0f);
            if (!inside) right &= encoded[i * width] == 0xA5 && encoded[i * width + width - 1] == 0xA5;
          }
          REQUIRE_MESSAGE(right, "first ", first, ", count ", count);
        }
      }
    });
  }
}

TEST_CASE("fp32 and fp64 arrays") {
  const double doubles[] = {1.0, -0.0, 1e300, 1.0 + std::ldexp(1.0, -24), 1.0 + std::ldexp(3.0, -24)};
  float floats[5];
  ToFloat(Format::kFp64, doubles, floats, 5);
  const float expected[] = {1.0f, -0.0f, HUGE_VALF, 1.0f, 1.0f + std::ldexp(1.0f, -22)};
  CHECK(std::memcmp(floats, expected, sizeof floats) == 0);
  float saturated[5];
  FromFloat(Format::kFp32, floats, saturated, 5, Rounding::kNearestEven, Overflow::kSatFinite);
  CHECK(saturated[2] == std::numeric_limits<float>::max());
}

}  // namespace
}  // namespace bitflash::data
