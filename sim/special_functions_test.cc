#include "sim/special_functions.h"

#include <doctest/doctest.h>

#include <array>
#include <bit>
#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "data/fingerprint_testing.h"
#include "data/simd_targets.h"
#include "sim/gpu_float.h"
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
  for (const int64_t target : data::UsableTargets()) {
    const data::UseTarget use(target);
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
  for (const int64_t target : data::UsableTargets()) {
    const data::UseTarget use(target);
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

// What data/golden/sfu_hashes.json records of a GPU, by the names there: one number at a time, and on vectors.
struct Recorded {
  std::string name;
  float (*one)(float);
  void (*vector)(std::span<const float>, std::span<float>);
};

template <Function kFunction>
Recorded Unit(const char* name) {
  return {name, [](float x) { return Evaluate(kFunction, x); },
          [](std::span<const float> x, std::span<float> y) { Evaluate(kFunction, x, y); }};
}

const Recorded kRecorded[] = {
    Unit<Function::kEx2>("ex2.approx.ftz.f32"),
    Unit<Function::kRcp>("rcp.approx.ftz.f32"),
    Unit<Function::kRsqrt>("rsqrt.approx.ftz.f32"),
    Unit<Function::kLg2>("lg2.approx.ftz.f32"),
    Unit<Function::kExp2f>("exp2f"),
    Unit<Function::kLogf>("logf"),
    {"1.0f/x", Reciprocal, Reciprocal},
};

uint64_t VectorFingerprint(data::Inputs inputs, const Recorded& function) {
  return data::Fingerprint(inputs, [&](std::span<const float> x, std::span<uint32_t> y) {
    std::array<float, data::kChunkInputs> results;
    function.vector(x, results);
    for (size_t i = 0; i < y.size(); ++i) y[i] = Bits(results[i]);
  });
}

uint64_t ScalarFingerprint(data::Inputs inputs, const Recorded& function) {
  return data::Fingerprint(inputs, [&](std::span<const float> x, std::span<uint32_t> y) {
    for (size_t i = 0; i < y.size(); ++i) y[i] = Bits(function.one(x[i]));
  });
}

TEST_CASE("every recorded function is compared") {
  std::set<std::string> recorded, compared;
  for (const auto& [name, fingerprint] : data::RecordedFingerprints()) {
    if (!name.starts_with("cvt.")) recorded.insert(name);  // conversions: data/convert_fingerprint_test.cc
  }
  for (const Recorded& function : kRecorded) compared.insert(function.name);
  CHECK(recorded == compared);
}

TEST_CASE("vectors and the definition have one fingerprint over a sample, and every function its own") {
  std::set<uint64_t> fingerprints;
  for (const Recorded& function : kRecorded) {
    CAPTURE(function.name);
    const uint64_t fingerprint = VectorFingerprint(data::Inputs::kSample, function);
    CHECK(fingerprint == ScalarFingerprint(data::Inputs::kSample, function));
    fingerprints.insert(fingerprint);
  }
  CHECK(fingerprints.size() == std::size(kRecorded));
}

TEST_CASE("all 2^32 inputs give the GPU's bits, on vectors" * doctest::test_suite("slow")) {
  const auto recorded = data::RecordedFingerprints();
  for (const Recorded& function : kRecorded) {
    CAPTURE(function.name);
    CHECK(VectorFingerprint(data::Inputs::kAll, function) == recorded.at(function.name));
  }
}

TEST_CASE("all 2^32 inputs give the GPU's bits, one at a time" * doctest::test_suite("slow")) {
  const auto recorded = data::RecordedFingerprints();
  for (const Recorded& function : kRecorded) {
    CAPTURE(function.name);
    CHECK(ScalarFingerprint(data::Inputs::kAll, function) == recorded.at(function.name));
  }
}

}  // namespace
}  // namespace bitflash::sim
