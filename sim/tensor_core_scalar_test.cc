#include "sim/tensor_core_scalar.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <sstream>
#include <vector>

#include "sim/tensor_core_cases.h"

namespace bitflash::sim {
namespace {

using data::Format;

// ---- The witness: the same operation in real numbers. Every intermediate value is exact in a double (a product has at
// most 24 bits, the aligned sum at most 33), so nothing here knows about bit fields or shifts of integers.

struct Real {
  double value;
  int exponent;  // of a finite value other than zero: as the hardware sees it, subnormals at the format's least
};

Real ToReal(Format format, uint32_t bits) {
  const data::FormatInfo& info = data::Info(format);
  bits >>= UnusedLowBits(format);
  const int scale = 1 << info.fraction_bits, fields = 1 << info.exponent_bits;
  const int fraction = static_cast<int>(bits % scale), field = static_cast<int>(bits / scale % fields);
  const double sign = bits / scale / fields ? -1 : 1;
  const int least = 1 - info.bias;
  if (info.has_infinity && field == fields - 1) return {fraction ? NAN : sign * INFINITY, 0};
  if (!info.has_infinity && field == fields - 1 && fraction == scale - 1) return {NAN, 0};
  const double significand = (field ? 1.0 : 0.0) + double(fraction) / scale;
  const double value = sign * significand * std::pow(2.0, field ? field - info.bias : least);
  return {value, value == 0 ? 0 : std::max(std::ilogb(value), least)};
}

double TowardZero(double x, int fraction_bits) {  // of fp32's range
  if (x == 0) return 0;
  const double unit = std::pow(2.0, std::max(std::ilogb(x), -126) - fraction_bits);
  const double kept = std::trunc(x / unit) * unit;
  return std::fabs(kept) >= std::pow(2.0, 128) ? std::copysign(INFINITY, x) : kept + 0.0;
}

uint32_t NearestFp16(double x) {
  if (std::isinf(x)) return x < 0 ? 0xFC00 : 0x7C00;
  if (x == 0) return 0;
  const double unit = std::pow(2.0, std::max(std::ilogb(x), -14) - 10);
  const double rounded = std::nearbyint(std::fabs(x) / unit) * unit;
  const uint32_t sign = x < 0 && rounded != 0 ? 0x8000 : 0;
  if (rounded >= 65536) return sign | 0x7C00;
  static const std::vector<double> values = [] {  // ascending, as the patterns are
    std::vector<double> all;
    for (uint32_t bits = 0; bits < 0x7C00; ++bits) all.push_back(ToReal(Format::kFp16, bits).value);
    return all;
  }();
  return sign | static_cast<uint32_t>(std::ranges::lower_bound(values, rounded) - values.begin());
}

uint32_t Witness(const TensorCore& core, const std::vector<uint32_t>& a, const std::vector<uint32_t>& b, uint32_t c) {
  std::vector<Real> terms = {ToReal(core.accumulator, c)};
  double ieee = terms[0].value;  // carries the special values: IEEE's rules are the hardware's
  for (size_t i = 0; i < a.size(); ++i) {
    const Real x = ToReal(core.input, a[i]), y = ToReal(core.input, b[i]);
    terms.push_back({x.value * y.value, x.exponent + y.exponent});
    ieee += x.value * y.value;
  }
  const bool fp16 = core.accumulator == Format::kFp16;
  if (std::isnan(ieee)) return fp16 ? 0x7FFF : 0x7FFFFFFF;
  if (std::isinf(ieee)) return fp16 ? NearestFp16(ieee) : std::bit_cast<uint32_t>(static_cast<float>(ieee));
  int emax = -100000;
  for (const Real& term : terms) {
    if (term.value != 0) emax = std::max(emax, term.exponent);
  }
  if (emax == -100000) return 0;
  emax = std::max(emax, core.emax_floor);
  const double unit = std::pow(2.0, emax - core.alignment_bits);
  double sum = 0;
  for (const Real& term : terms) sum += std::trunc(term.value / unit);
  sum *= unit;
  if (fp16) return NearestFp16(sum);
  const double result = TowardZero(sum, core.rounding == ResultRounding::kTruncateFp32To13 ? 13 : 23);
  return std::bit_cast<uint32_t>(static_cast<float>(result == 0 ? 0.0 : result));
}

uint32_t Step(const TensorCore& core, const std::vector<uint32_t>& a, const std::vector<uint32_t>& b, uint32_t c) {
  std::vector<Decoded> da, db;
  for (const uint32_t bits : a) da.push_back(Decode(core.input, bits));
  for (const uint32_t bits : b) db.push_back(Decode(core.input, bits));
  return FusedStep(core, da, db, c);
}

void CheckStep(const TensorCore& core, const std::vector<uint32_t>& a, const std::vector<uint32_t>& b, uint32_t c) {
  const uint32_t computed = Step(core, a, b, c), expected = Witness(core, a, b, c);
  if (computed == expected) return;  // spares doctest's bookkeeping: there are millions
  CAPTURE(ToString(core));
  std::ostringstream products;
  for (size_t i = 0; i < a.size(); ++i) products << " " << std::hex << a[i] << "*" << b[i];
  CAPTURE(products.str());
  CAPTURE(c);
  CHECK(computed == expected);
}

// ---- Tests.

TEST_CASE("known vectors of the H200") {
  const TensorCore& bf16 = FindTensorCore("sm90", Format::kBf16);
  const TensorCore& fp16 = FindTensorCore("sm90", Format::kFp16);
  const uint32_t tiny = (127 - 76) << 7;  // 2^-76
  CHECK(Step(bf16, std::vector<uint32_t>(16, tiny), std::vector<uint32_t>(16, tiny), 0) == 0x00000002);
  CHECK(Step(fp16, std::vector<uint32_t>(16, 0x8000), std::vector<uint32_t>(16, 0x3C00), 0x80000000) == 0);
  CHECK(Step(fp16, {0x7E00}, {0x3C00}, 0) == 0x7FFFFFFF);
  CHECK(Step(fp16, {0x7C00}, {0x8000}, 0) == 0x7FFFFFFF);  // infinity times zero
  CHECK(Step(fp16, {0x7C00, 0xFC00}, {0x3C00, 0x3C00}, 0) == 0x7FFFFFFF);
  CHECK(Step(fp16, {0xFC00}, {0x3C00}, 0x7F7FFFFF) == 0xFF800000);
}

TEST_CASE("a product is not normalised, so its exponent may be one less than its value's") {
  // 1.5 * 1.5 = 2.25 enters with exponent 0: an addend of 2^-25 survives the alignment at F = 25. Normalised, it would
  // not.
  const TensorCore& core = FindTensorCore("sm90", Format::kFp16);
  const uint32_t minus_nine_quarters = 0xC0100000;
  const uint32_t c = std::bit_cast<uint32_t>(std::ldexp(1.0f, -25));
  CHECK(Step(core, {0x3E00, 0xBE00}, {0x3E00, 0x3E00}, c) == c);
  CHECK(Step(core, {0x3E00, 0xBE00}, {0x3E00, 0x3E00}, c - 1) == 0);  // 2^-25 less a little: truncated
  CHECK(Step(core, {0x3E00}, {0x3E00}, minus_nine_quarters) == 0);
}

TEST_CASE("a zero operand takes no part in the alignment") {
  const TensorCore& core = FindTensorCore("sm90", Format::kBf16);
  const uint32_t huge = 0x7F00, small = std::bit_cast<uint32_t>(1e-20f);
  CHECK(Step(core, {huge, 0x3F80}, {0, 0}, small) == small);
}

TEST_CASE("c outweighs the sum of the products where they would overflow int32") {
  const TensorCore& core = FindTensorCore("sm90", Format::kFp16);
  const std::vector<uint32_t> ones(16, 0x3FFF);  // the largest significand: 16 products just below 4
  const uint32_t c = std::bit_cast<uint32_t>(std::nextafterf(2.0f, 0.0f));
  CheckStep(core, ones, ones, c);
  CheckStep(core, ones, std::vector<uint32_t>(16, 0xBFFF), c | 0x80000000);
}

TEST_CASE("a short last step is one padded with zeros") {
  const TensorCore& core = FindTensorCore("sm80", Format::kBf16);
  Random random(1);
  std::vector<uint32_t> a, b;
  for (int i = 0; i < 19; ++i) {
    a.push_back(RandomPattern(random, Format::kBf16, {8, 120}));
    b.push_back(RandomPattern(random, Format::kBf16, {8, 120}));
  }
  const uint32_t d = DotProductAdd(core, a, b, 0x3F800000);
  a.resize(24), b.resize(24);
  CHECK(DotProductAdd(core, a, b, 0x3F800000) == d);
  uint32_t by_steps = 0x3F800000;
  for (int k = 0; k < 24; k += 8) by_steps = Step(core, {&a[k], &a[k] + 8}, {&b[k], &b[k] + 8}, by_steps);
  CHECK(by_steps == d);
}

TEST_CASE("fp8 through mma.sync on Hopper adds c after the instruction, to nearest") {
  const TensorCore& core = FindTensorCore("sm90", Format::kE4m3, Format::kFp32, "mma.sync");
  const std::vector<uint32_t> one(32, 0x38);
  const uint32_t third = std::bit_cast<uint32_t>(1.0f / 3);
  CHECK(DotProductAdd(core, one, one, third) == std::bit_cast<uint32_t>(32 + 1.0f / 3));
}

TEST_CASE("fp8 through mma.sync on Hopper takes the even pairs of k before the odd ones") {
  const TensorCore& core = FindTensorCore("sm90", Format::kE4m3, Format::kFp32, "mma.sync");
  Random random(5);
  for (const size_t k : {1, 2, 3, 7, 19, 32, 33, 64, 70}) {
    std::vector<uint32_t> a, b;
    for (size_t i = 0; i < k; ++i) {
      a.push_back(RandomPattern(random, core.input, {14, 1})), b.push_back(RandomPattern(random, core.input, {14, 1}));
    }
    uint32_t expected = 0x40490FDB;
    for (size_t begin = 0; begin < k; begin += 32) {
      uint32_t d = 0;
      for (const size_t half : {0, 1}) {
        std::vector<uint32_t> x, y;
        for (size_t i = begin; i < std::min(begin + 32, k); ++i) {
          if (i / 2 % 2 == half) x.push_back(a[i]), y.push_back(b[i]);
        }
        d = Witness(core, x, y, d);
      }
      expected = std::bit_cast<uint32_t>(std::bit_cast<float>(d) + std::bit_cast<float>(expected));
    }
    CHECK(DotProductAdd(core, a, b, 0x40490FDB) == expected);
  }
}

// Sums whose emax lies around its floor: products of every exponent there, alone, opposed by a smaller term at every
// distance, and with a c that is zero or as small as it can be.
TEST_CASE("exponents around the floor of emax agree with the witness") {
  for (const TensorCore& core : AllTensorCores()) {
    const data::FormatInfo& info = data::Info(core.input);
    const int bias = info.bias, least = 2 * (1 - bias);
    if (core.arch == "sm86" || core.emax_floor < least - 8) continue;  // the same as sm80; no floor, or out of reach
    const uint32_t ones = (1u << info.fraction_bits) - 1;
    const std::vector<uint32_t> cs = core.accumulator == Format::kFp16
                                         ? std::vector<uint32_t>{0, 0x8000, 1, 0x8001}
                                         : std::vector<uint32_t>{0, 0x80000000, 1, 0x80000001};
    // The pattern of (-1)^negative 1.fraction 2^exponent, or a subnormal below the least normal one.
    const auto operand = [&](bool negative, int exponent, uint32_t fraction) {
      const int field = exponent + bias;
      if (field > 0) return Pattern(core.input, negative, field, fraction);
      return Pattern(core.input, negative, 0,
                     field <= -info.fraction_bits ? 1 : ((ones + 1) | fraction) >> (1 - field));
    };
    const auto product = [&](std::vector<uint32_t>& a, std::vector<uint32_t>& b, int exponent, uint32_t fraction,
                             bool negative) {
      a.push_back(operand(negative, exponent - exponent / 2, fraction)),
          b.push_back(operand(false, exponent / 2, ones));
    };
    for (int exponent = core.emax_floor - 30; exponent <= core.emax_floor + 8; ++exponent) {
      for (const uint32_t fraction : {0u, 1u, ones, ones & 0x2Au}) {
        for (const uint32_t c : cs) {
          for (int gap = 0; gap <= core.alignment_bits + 8; ++gap) {
            for (const bool negative : {false, true}) {
              std::vector<uint32_t> a, b;
              product(a, b, exponent, fraction, negative);
              if (gap == 0) CheckStep(core, a, b, c);
              product(a, b, exponent - gap, fraction ^ 1, !negative);
              CheckStep(core, a, b, c);
            }
          }
        }
      }
    }
  }
}

TEST_CASE("every pair of interesting operands, with every interesting c, agrees with the witness") {
  for (const TensorCore& core : AllTensorCores()) {
    if (core.arch == "sm86" || core.arch == "sm75") continue;  // the same arithmetic as sm80
    const auto operands = InterestingPatterns(core.input), addends = InterestingPatterns(core.accumulator);
    Random random(2);
    for (const uint32_t a : operands) {
      for (const uint32_t b : operands) {
        const uint32_t c = addends[random.Next() % addends.size()];
        CheckStep(core, {a}, {b}, c);
        CheckStep(core, {a, operands[random.Next() % operands.size()]}, {b, b}, c);
      }
    }
  }
}

TEST_CASE("exponent gaps around F, carries and cancellation agree with the witness") {
  for (const TensorCore& core : AllTensorCores()) {
    if (data::Info(core.input).exponent_bits != 8 || core.accumulator != Format::kFp32) continue;
    const data::FormatInfo& info = data::Info(core.input);
    const uint32_t ones = (1u << info.fraction_bits) - 1;
    for (int gap = 0; gap <= core.alignment_bits + 26; ++gap) {
      for (const uint32_t fraction : {0u, 1u, ones, ones & 0x2Au}) {
        for (int signs = 0; signs < 8; ++signs) {
          const uint32_t one = Pattern(core.input, false, 127, 0);
          const uint32_t large = Pattern(core.input, signs & 1, 127, ones);
          const uint32_t small = Pattern(core.input, signs & 2, 127 - gap, fraction);
          const uint32_t c = Pattern(Format::kFp32, signs & 4, 127 - gap, fraction << 9 | 0x155);
          CheckStep(core, {large, small}, {one, one}, 0);
          CheckStep(core, {large, small}, {large, one}, c);
          CheckStep(core, {large, large, small},
                    {one, one ^ (1u << 31 >> (32 - 8 * data::StorageBytes(core.input))), large}, c);
          CheckStep(core, {small}, {one}, Pattern(Format::kFp32, signs & 4, 127, 0x7FFFFF));
        }
      }
    }
  }
}

void CheckRandomSteps(int steps) {
  for (const TensorCore& core : AllTensorCores()) {
    for (const Spread& spread : {Spread{.random_bits = true}, Spread{3, 4}, Spread{30, 1}, Spread{30, 100},
                                 Spread{40, 220, 25}, Spread{12, 120, 25}}) {
      Random random(3);
      for (int step = 0; step < steps; ++step) {
        std::vector<uint32_t> a, b;
        for (int i = 0; i < core.products; ++i) {
          a.push_back(RandomPattern(random, core.input, spread));
          b.push_back(RandomPattern(random, core.input, spread));
        }
        CheckStep(core, a, b, RandomPattern(random, core.accumulator, spread));
      }
    }
  }
}

// All products near the floor of emax, c zero or subnormal.
void CheckRandomStepsNearTheFloor(int steps) {
  for (const TensorCore& core : AllTensorCores()) {
    if (core.emax_floor == kNoEmaxFloor) continue;
    const data::FormatInfo& info = data::Info(core.input);
    const int top = (1 << info.exponent_bits) - 1;
    const int middle = std::max(core.emax_floor / 2 + info.bias, 0);  // exponent field of a factor at the floor
    for (const Spread& spread :
         {Spread{12, top - middle - 4}, Spread{12, top - middle - 4, 25}, Spread{4, top - middle}}) {
      Random random(4);
      for (int step = 0; step < steps; ++step) {
        std::vector<uint32_t> a, b;
        for (int i = 0; i < core.products; ++i) {
          a.push_back(RandomPattern(random, core.input, spread));
          b.push_back(RandomPattern(random, core.input, spread));
        }
        const uint32_t sign = core.accumulator == Format::kFp16 ? 0x8000 : 0x80000000;
        CheckStep(core, a, b, (step & 1 ? sign : 0) | (step % 4 == 3 ? static_cast<uint32_t>(random.Next() % 512) : 0));
      }
    }
  }
}

TEST_CASE("random steps agree with the witness") {
  CheckRandomSteps(200);
  CheckRandomStepsNearTheFloor(500);
}

TEST_CASE("many random steps agree with the witness" * doctest::test_suite("slow")) {
  CheckRandomSteps(20000);
  CheckRandomStepsNearTheFloor(50000);
}

}  // namespace
}  // namespace bitflash::sim
