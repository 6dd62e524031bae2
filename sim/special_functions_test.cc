#include "sim/special_functions.h"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "data/hash.h"
#include "sim/gpu_float.h"
#include "sim/simd_targets.h"
#include "sim/tensor_core_cases.h"

namespace bitflash::sim {
namespace {

uint32_t Bits(float x) { return std::bit_cast<uint32_t>(x); }
float FromBits(uint32_t bits) { return std::bit_cast<float>(bits); }

// Every sign and exponent with fractions at the ends, around every table row, of single bits, and random.
std::vector<float> StratifiedInputs() {
  Random random(1);
  std::vector<uint32_t> fractions = {0, 1, 2, 0x7FFFFF, 0x7FFFFE, 0x555555, 0x2AAAAA};
  for (int bit = 0; bit < 23; ++bit) fractions.push_back(1u << bit);
  for (uint32_t row = 0; row < 128; ++row) {
    fractions.push_back(row << 16);
    fractions.push_back(((row << 16) - 1) & 0x7FFFFF);
    fractions.push_back(row << 16 | (static_cast<uint32_t>(random.Next()) & 0xFFFF));
  }
  std::vector<float> inputs;
  for (uint32_t upper = 0; upper < 512; ++upper) {
    for (const uint32_t fraction : fractions) inputs.push_back(FromBits(upper << 23 | fraction));
    for (int i = 0; i < 64; ++i) {
      inputs.push_back(FromBits(upper << 23 | (static_cast<uint32_t>(random.Next()) & 0x7FFFFF)));
    }
  }
  return inputs;
}

// Compares `computed` with the definition; names the first input that differs.
void CheckOutputs(Function function, const std::vector<float>& x, const std::vector<float>& computed) {
  int64_t differ = 0, first = -1;
  for (size_t i = 0; i < x.size(); ++i) {
    if (Bits(computed[i]) == Bits(Evaluate(function, x[i]))) continue;
    ++differ;
    if (first < 0) first = static_cast<int64_t>(i);
  }
  CAPTURE(std::string(Name(function)));
  CHECK(differ == 0);
  if (differ != 0) {
    CAPTURE(Bits(x[first]));
    CHECK(Bits(computed[first]) == Bits(Evaluate(function, x[first])));
  }
}

TEST_CASE("specials of the unit") {
  const float inf = INFINITY;
  const auto check = [](float computed, uint32_t expected) { CHECK(Bits(computed) == expected); };
  for (const Function function : AllFunctions()) {
    check(Evaluate(function, NAN), 0x7FFFFFFF);
    check(Evaluate(function, FromBits(0xFF800001)), 0x7FFFFFFF);
  }
  check(Ex2(inf), 0x7F800000), check(Ex2(-inf), 0), check(Ex2(128), 0x7F800000), check(Ex2(-126), 0x00800000);
  check(Ex2(-126.5f), 0), check(Ex2(0x1p-149f), 0x3F800000), check(Ex2(-0.0f), 0x3F800000), check(Ex2(5), 0x42000000);
  check(Rcp(0x1p-149f), 0x7F800000), check(Rcp(-0.0f), 0xFF800000), check(Rcp(-inf), 0x80000000);
  check(Rcp(0x1.8p126f), 0), check(Rcp(0x1p126f), 0x00800000), check(Rcp(-1), 0xBF800000);
  check(Rsqrt(-0x1p-149f), 0xFF800000), check(Rsqrt(0), 0x7F800000), check(Rsqrt(-1), 0x7FFFFFFF);
  check(Rsqrt(inf), 0), check(Rsqrt(4), 0x3F000000), check(Rsqrt(-inf), 0x7FFFFFFF);
  check(Lg2(0x1p-149f), 0xFF800000), check(Lg2(-0.0f), 0xFF800000), check(Lg2(-1), 0x7FFFFFFF);
  check(Lg2(inf), 0x7F800000), check(Lg2(1), 0), check(Lg2(8), 0x40400000);
  check(Exp2f(-128), 0x00200000), check(Exp2f(-149), 1), check(Exp2f(-300), 0);  // subnormals survive here
  check(Logf(0), 0xFF800000), check(Logf(-0.0f), 0xFF800000), check(Logf(-1), 0x7FFFFFFF), check(Logf(inf), 0x7F800000);
  check(Logf(1), 0), check(Logf(-inf), 0x7FFFFFFF);
}

// Distance of `computed` from `exact` in units in the last place of fp32 at `exact`.
double UlpsOff(float computed, double exact) {
  return (computed - exact) / std::ldexp(1.0, std::max(std::ilogb(exact), -126) - 23);
}

TEST_CASE("errors lie where the unit's do, against the C library in double") {
  // ex2 and rcp: the extremes over all inputs, to three digits (docs of the tables). The others: bounds that hold.
  double lowest_ex2 = 0, highest_ex2 = 0, lowest_rcp = 0, highest_rcp = 0, rsqrt = 0, logf = 0;
  for (uint32_t fraction = 0; fraction < 1u << 23; fraction += 7) {
    const float x = FromBits(0x3F800000 | fraction);  // [1, 2)
    const double ex2 = UlpsOff(Ex2(x), std::exp2(double{x})), rcp = UlpsOff(Rcp(x), 1.0 / x);
    lowest_ex2 = std::min(lowest_ex2, ex2), highest_ex2 = std::max(highest_ex2, ex2);
    lowest_rcp = std::min(lowest_rcp, rcp), highest_rcp = std::max(highest_rcp, rcp);
    for (const float y : {x, 2 * x}) {
      rsqrt = std::max(rsqrt, std::fabs(UlpsOff(Rsqrt(y), 1 / std::sqrt(double{y}))));
      logf = std::max(logf, std::fabs(UlpsOff(Logf(y), std::log(double{y}))));
      CHECK(std::fabs(Lg2(y) - std::log2(double{y})) < 0x1p-22);
    }
  }
  CHECK(lowest_ex2 > -0.7421);
  CHECK(lowest_ex2 < -0.6);
  CHECK(highest_ex2 < 1.3901);
  CHECK(highest_ex2 > 1.1);
  CHECK(lowest_rcp > -0.9751);
  CHECK(lowest_rcp < -0.8);
  CHECK(highest_rcp < 0.9731);
  CHECK(highest_rcp > 0.8);
  CHECK(rsqrt < 2);
  CHECK(rsqrt > 0.5);
  CHECK(logf < 1);
  CHECK(logf > 0.5);
}

TEST_CASE("vectors give the bits of the definition on every target") {
  const std::vector<float> inputs = StratifiedInputs();
  for (const int64_t target : UsableTargets()) {
    const UseTarget use(target);
    CAPTURE(std::string(hwy::TargetName(target)));
    for (const Function function : AllFunctions()) {
      std::vector<float> outputs(inputs.size());
      Evaluate(function, inputs, outputs);
      CheckOutputs(function, inputs, outputs);
    }
  }
}

TEST_CASE("spans of every length, in place") {
  for (size_t count = 0; count < 40; ++count) {
    for (const Function function : AllFunctions()) {
      std::vector<float> x(count + 1, 0.75f), y = x;
      Evaluate(function, std::span(y).first(count), std::span(y).first(count));
      CHECK(y[count] == 0.75f);
      for (size_t i = 0; i < count; ++i) CHECK(y[i] == Evaluate(function, 0.75f));
    }
  }
}

TEST_CASE("division, reciprocal and fused multiply-add round once and make the GPU's NaN") {
  CHECK(Bits(Divide(0, 0)) == 0x7FFFFFFF);
  CHECK(Bits(Fma(INFINITY, 0, 1)) == 0x7FFFFFFF);
  CHECK(Bits(Reciprocal(-0.0f)) == 0xFF800000);
  CHECK(Fma(1 + 0x1p-23f, 1 - 0x1p-23f, -1) == -0x1p-46f);  // unfused: 0
  CHECK(Bits(Maximum(-0.0f, 0.0f)) == 0);
  CHECK(Bits(Minimum(0.0f, -0.0f)) == 0x80000000);
  CHECK(Maximum(NAN, -1) == -1);
  CHECK(Bits(Maximum(NAN, NAN)) == 0x7FFFFFFF);
  const std::vector<float> a = StratifiedInputs();
  std::vector<float> b(a.rbegin(), a.rend()), c(a.begin() + 1, a.end()), result(a.size());
  c.push_back(1);
  Random random(3);
  for (size_t i = 0; i < b.size(); i += 2) b[i] = FromBits(static_cast<uint32_t>(random.Next()));
  for (const int64_t target : UsableTargets()) {
    const UseTarget use(target);
    CAPTURE(std::string(hwy::TargetName(target)));
    int64_t differ = 0;
    Divide(a, b, result);
    for (size_t i = 0; i < a.size(); ++i) differ += Bits(result[i]) != Bits(Divide(a[i], b[i]));
    Reciprocal(a, result);
    for (size_t i = 0; i < a.size(); ++i) differ += Bits(result[i]) != Bits(Reciprocal(a[i]));
    Fma(a, b, c, result);
    for (size_t i = 0; i < a.size(); ++i) differ += Bits(result[i]) != Bits(Fma(a[i], b[i], c[i]));
    CHECK(differ == 0);
  }
}

// Checks all 2^32 inputs and the fingerprint of the outputs, the sum of data::HashPair(bits(x), bits(function(x))): a
// GPU can compute the same number.
void CheckEveryInput(Function function, uint64_t expected) {
  constexpr int64_t kChunk = 1 << 16;
  uint64_t hash = 0;
  int64_t differ = 0;
#pragma omp parallel for schedule(dynamic, 16) reduction(+ : hash, differ)
  for (int64_t chunk = 0; chunk < (int64_t{1} << 32) / kChunk; ++chunk) {
    std::vector<float> x(kChunk), y(kChunk);
    for (int64_t i = 0; i < kChunk; ++i) x[i] = FromBits(static_cast<uint32_t>(chunk * kChunk + i));
    Evaluate(function, x, y);
    for (int64_t i = 0; i < kChunk; ++i) {
      hash += data::HashPair(Bits(x[i]), Bits(y[i]));
      differ += Bits(y[i]) != Bits(Evaluate(function, x[i]));
    }
  }
  const std::string name(Name(function));
  std::printf("%s over all 2^32 inputs: 0x%016llX, %lld differ\n", name.c_str(), static_cast<unsigned long long>(hash),
              static_cast<long long>(differ));
  CHECK(differ == 0);
  CHECK(hash == expected);
}

TEST_SUITE_BEGIN("slow");
TEST_CASE("all inputs of ex2") { CheckEveryInput(Function::kEx2, 0x2A57FF826F110821); }
TEST_CASE("all inputs of rcp") { CheckEveryInput(Function::kRcp, 0x1C78472E399B4D10); }
TEST_CASE("all inputs of rsqrt") { CheckEveryInput(Function::kRsqrt, 0xD74C5D2CDF04A5CD); }
TEST_CASE("all inputs of lg2") { CheckEveryInput(Function::kLg2, 0xCD13251B9CB415DB); }
TEST_CASE("all inputs of exp2f") { CheckEveryInput(Function::kExp2f, 0x4C45B03F3D023748); }
TEST_CASE("all inputs of logf") { CheckEveryInput(Function::kLogf, 0x626A25FEE43566D1); }
TEST_SUITE_END();

}  // namespace
}  // namespace bitflash::sim
