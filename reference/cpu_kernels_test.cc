// The exponential and tanh of the SIMD attention against the C library's in fp64, on every SIMD target; the logarithm.
#include "reference/cpu_kernels.h"

#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "data/simd_targets.h"
#include "doctest/doctest.h"
#include "reference/fast_log.h"

namespace bitflash::reference {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Calls visit(x, f(x)) for every step-th float from `from` to `to`, both positive, times `sign`.
template <class Function, class Visit>
void Sweep(const Function& f, float from, float to, float sign, uint32_t step, const Visit& visit) {
  std::vector<float> x, y;
  const uint32_t end = std::bit_cast<uint32_t>(to);
  for (uint64_t bits = std::bit_cast<uint32_t>(from); bits <= end; bits += step) {
    x.push_back(sign * std::bit_cast<float>(static_cast<uint32_t>(bits)));
    if (x.size() < 65536 && bits + step <= end) continue;
    y.resize(x.size());
    f(x, y);
    for (size_t i = 0; i < x.size(); ++i) visit(x[i], y[i]);
    x.clear();
  }
}

double UlpOf(double value) { return std::ldexp(1.0, std::ilogb(value) - 23); }

// The largest error of 2^x, in units in the last place of the exact value, over -125 <= x <= -from.
double WorstExp2(float from, uint32_t step) {
  double worst = 0;
  Sweep(Exp2Span, from, 125.0f, -1.0f, step, [&](float x, float y) {
    const double exact = std::exp2(static_cast<double>(x));
    worst = std::max(worst, std::abs(y - exact) / UlpOf(exact));
  });
  return worst;
}

TEST_CASE("2^x is within 1.2 ulp, 1.4 without fused multiply-add, exactly 1 at 0, 0 below -125, NaN at NaN") {
  for (const int64_t target : data::UsableTargets()) {
    const data::UseTarget use(target);
    CAPTURE(std::string(hwy::TargetName(target)));
    const double worst = WorstExp2(0x1p-30f, 97);
    MESSAGE(std::string(hwy::TargetName(target)) << ": largest error of 2^x " << worst << " ulp");
    const bool fused = (target & (HWY_AVX2 | HWY_AVX3 | HWY_AVX3_DL)) != 0;
    CHECK(worst < (fused ? 1.2 : 1.4));
    CHECK(worst > 0.4);  // a smaller error than rounding's would be a mistake of this test
    const float nan = std::bit_cast<float>(0x7FFFFFFFu);  // what GPUs return: all bits set
    const std::vector<float> special = {
        0.0f,   -0.0f,      -0x1p-149f, -125.0f, std::nextafter(-125.0f, -126.0f), -126.3f, -300.0f,
        -1e30f, -kInfinity, nan,        -nan,    std::bit_cast<float>(0x7F800001u)};
    constexpr size_t kTimes = 6;  // so many are computed four vectors at a time, and some one by one
    std::vector<float> x, y(kTimes * special.size());
    for (size_t n = 0; n < kTimes; ++n) x.insert(x.end(), special.begin(), special.end());
    Exp2Span(x, y);
    for (size_t first = 0; first < y.size(); first += special.size()) {
      for (size_t i = 0; i < 3; ++i) CHECK(y[first + i] == 1.0f);
      CHECK(y[first + 3] == 0x1p-125f);
      for (size_t i = 4; i < 9; ++i) CHECK(std::bit_cast<uint32_t>(y[first + i]) == 0);
      for (size_t i = 9; i < 12; ++i) CHECK(std::isnan(y[first + i]));
    }
  }
}

TEST_CASE(
    "2^(x - M) with an integer M is within 1.2 ulp, 1.4 without fused multiply-add, masked or not; masked, it is 0 at "
    "-inf") {
  for (const int64_t target : data::UsableTargets()) {
    const data::UseTarget use(target);
    CAPTURE(std::string(hwy::TargetName(target)));
    const bool fused = (target & (HWY_AVX2 | HWY_AVX3 | HWY_AVX3_DL)) != 0;
    for (const float M : {0.0f, 7.0f, -20.0f}) {
      for (const bool masked : {false, true}) {
        const auto f = [&](std::span<const float> x, std::span<float> y) { BoundedExp2Span(x, M, masked, y); };
        double worst = 0;
        for (const float sign : {1.0f, -1.0f}) {
          Sweep(f, 0x1p-30f, 100.0f, sign, 4999, [&](float x, float y) {
            const double exact = std::exp2(static_cast<double>(x) - M);
            worst = std::max(worst, std::abs(y - exact) / UlpOf(exact));
          });
        }
        CHECK(worst < (fused ? 1.2 : 1.4));
        CHECK(worst > 0.4);
      }
    }
    std::vector<float> x(100, -kInfinity), y(100, 1.0f);
    BoundedExp2Span(x, 3, true, y);
    for (const float zero : y) CHECK(std::bit_cast<uint32_t>(zero) == 0);
  }
}

TEST_CASE("tanh is within 2^-22, odd, exact at infinity") {
  for (const int64_t target : data::UsableTargets()) {
    const data::UseTarget use(target);
    CAPTURE(std::string(hwy::TargetName(target)));
    double worst = 0;
    Sweep(TanhSpan, 0x1p-40f, 50.0f, 1.0f, 997, [&](float x, float y) {
      const double exact = std::tanh(static_cast<double>(x));
      worst = std::max(worst, std::abs(y - exact) / exact);
    });
    MESSAGE(std::string(hwy::TargetName(target)) << ": largest relative error of tanh 2^" << std::log2(worst));
    CHECK(worst < 0x1p-22);
    const std::vector<float> x = {0.0f, 0x1p-149f, 0.3f, 2.0f, kInfinity, std::nanf("")};
    std::vector<float> minus_x, y(x.size()), minus_y(x.size());
    for (const float value : x) minus_x.push_back(-value);
    TanhSpan(x, y);
    TanhSpan(minus_x, minus_y);
    for (size_t i = 0; i + 1 < x.size(); ++i)
      CHECK(std::bit_cast<uint32_t>(minus_y[i]) == std::bit_cast<uint32_t>(-y[i]));
    CHECK(y[0] == 0);
    CHECK(y[1] == 0x1p-149f);
    CHECK(y[4] == 1);
    CHECK(std::isnan(y[5]));
  }
}

TEST_CASE("the logarithm of a sum is within 2^-38, 0 at 1, the library's where there is none") {
  double worst = 0;
  const auto log = [](const std::vector<float>& x, std::vector<float>& y) { y = x; };
  Sweep(log, 0x1p-149f, std::numeric_limits<float>::max(), 1.0f, 1009, [&](float x, float) {
    const double exact = std::log(static_cast<double>(x));
    if (exact != 0) worst = std::max(worst, std::abs(FastLog(x) - exact) / std::abs(exact));
  });
  for (const float near_1 : {std::nextafter(1.0f, 0.0f), std::nextafter(1.0f, 2.0f)}) {
    worst = std::max(worst, std::abs(FastLog(near_1) / std::log(static_cast<double>(near_1)) - 1));
  }
  MESSAGE("largest relative error of the logarithm 2^" << std::log2(worst));
  CHECK(worst < 0x1p-38);
  CHECK(worst > 0x1p-50);  // a smaller one would be a mistake of this test
  CHECK(FastLog(1.0f) == 0);
  CHECK(FastLog(0.0f) == -kInfinity);
  CHECK(FastLog(kInfinity) == kInfinity);
  CHECK(std::isnan(FastLog(-1.0f)));
  CHECK(std::isnan(FastLog(std::nanf(""))));
}

TEST_CASE("the loops that only read, a benchmark's limit, read everything once") {
  std::vector<float> x(1024);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i + 1);
  for (int way = 0; way < kReadWays; ++way) CHECK(SumOf(x.data(), 1024, way) == 1024 * 1025 / 2);
}

}  // namespace

TEST_SUITE("slow") {
  TEST_CASE("2^x is within 1.2 ulp for every float from -125 to -2^-30, on the best target") {
    const double worst = WorstExp2(0x1p-30f, 1);
    MESSAGE("largest error " << worst << " ulp");
    CHECK(worst < 1.2);
  }
}

}  // namespace bitflash::reference
