#include "sim/special_functions.h"

#include <bit>
#include <cmath>
#include <limits>

#include "data/sfu_tables.h"

namespace bitflash::sim {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr uint32_t kHiddenBit = 1u << 23;

uint32_t Bits(float x) { return std::bit_cast<uint32_t>(x); }
float FromBits(uint32_t bits) { return std::bit_cast<float>(bits); }
float Nan() { return FromBits(0x7FFFFFFF); }

uint32_t SignOf(float x) { return Bits(x) & 0x80000000u; }
uint32_t FractionOf(float x) { return Bits(x) & (kHiddenBit - 1); }
int FieldOf(float x) { return static_cast<int>(Bits(x) >> 23 & 0xFF); }
bool IsZeroOrSubnormal(float x) { return FieldOf(x) == 0; }  // both count as zero: the unit flushes its inputs

// significand * 2^(exponent - 23), where significand has 24 bits or is exactly 2^24.
float Assemble(uint32_t sign, int exponent, int64_t significand) {
  const uint32_t field = static_cast<uint32_t>(exponent + 127) << 23;
  return FromBits(sign | (field + static_cast<uint32_t>(significand - kHiddenBit)));
}

// The unit's square of a 17-bit x, in units of 2^17: partial products below the last column kept are dropped.
int64_t Square(int64_t x) {
  int64_t sum = 0;
  for (int i = 0; i <= 16; ++i) {
    if (x >> i & 1) sum += x >> (18 - i);
  }
  return sum >> 1;
}

// 2^(fraction / 2^23) in units of 2^-23.
int64_t TwoToFraction(uint32_t fraction) {
  const auto& table = data::BuiltInSfuTables().ex2;
  const uint32_t row = fraction >> 17;
  const int64_t x = fraction & 0x1FFFF;
  return ((int64_t{table.c0[row]} << 13) + table.c1[row] * x + table.c2[row] * Square(x) + 0x77E2) >> 15;
}

}  // namespace

float Ex2(float x) {
  if (std::isnan(x)) return Nan();
  const bool negative = std::signbit(x);
  if (std::fabs(x) >= 128) return negative ? 0 : kInfinity;
  const uint32_t fixed = static_cast<uint32_t>(std::fabs(x) * static_cast<float>(kHiddenBit));  // 7.23, truncated
  int exponent = static_cast<int>(fixed >> 23);
  uint32_t fraction = fixed & (kHiddenBit - 1);
  if (negative) {
    // -(n + f) = (-n - 1) + (1 - f); the unit complements f's bits, which is one unit short of 1 - f.
    exponent = fraction == 0 ? -exponent : -exponent - 1;
    fraction = fraction == 0 ? 0 : ~fraction & (kHiddenBit - 1);
  }
  return exponent < -126 ? 0 : Assemble(0, exponent, TwoToFraction(fraction));
}

float Rcp(float x) {
  if (std::isnan(x)) return Nan();
  if (IsZeroOrSubnormal(x)) return FromBits(SignOf(x) | Bits(kInfinity));
  if (std::isinf(x)) return FromBits(SignOf(x));
  const auto& table = data::BuiltInSfuTables().rcp;
  const uint32_t row = FractionOf(x) >> 16;
  const int64_t offset = FractionOf(x) & 0xFFFF;
  int64_t significand =
      ((int64_t{table.c0[row]} << 13) + table.c1[row] * offset + table.c2[row] * Square(offset << 1) + 0x47E7) >> 15;
  int exponent = 253 - FieldOf(x) - 127;
  if (significand == 2 * kHiddenBit) {
    significand = kHiddenBit;
    ++exponent;
  }
  return exponent < -126 ? FromBits(SignOf(x)) : Assemble(SignOf(x), exponent, significand);
}

float Rsqrt(float x) {
  if (IsZeroOrSubnormal(x)) return FromBits(SignOf(x) | Bits(kInfinity));
  if (std::isnan(x) || std::signbit(x)) return Nan();
  if (std::isinf(x)) return 0;
  const auto& table = data::BuiltInSfuTables().rsqrt;
  const int power = FieldOf(x) - 127;
  const uint32_t g = FractionOf(x) | (static_cast<uint32_t>(power) & 1) << 23;
  const int half = power >> 1;  // rounds down
  if (g == 0) return Assemble(0, -half, kHiddenBit);
  const uint32_t row = g >> 17;
  const int64_t offset = g & 0x1FFFF;
  const int64_t significand =
      ((int64_t{table.c0[row]} << 14) + table.c1[row] * offset + ((table.c2[row] * Square(offset)) * 4) + 0x7FFF) >> 16;
  return Assemble(0, -half - 1, significand);
}

float Lg2(float x) {
  if (IsZeroOrSubnormal(x)) return -kInfinity;
  if (std::isnan(x) || std::signbit(x)) return Nan();
  if (std::isinf(x)) return kInfinity;
  if (x == 1) return 0;
  const auto& table = data::BuiltInSfuTables().lg2;
  const uint32_t row = FractionOf(x) >> 17;
  const int64_t offset = FractionOf(x) & 0x1FFFF;
  const int64_t fraction =
      ((int64_t{table.c0[row]} << 12) + table.c1[row] * offset + table.c2[row] * Square(offset) * 2 + 0x3345) >> 2;
  const int64_t sum = fraction + (int64_t{FieldOf(x) - 127} * (int64_t{1} << 36));  // 36 fraction bits
  const uint64_t magnitude = static_cast<uint64_t>(sum < 0 ? ~sum : sum);
  const int leading = std::bit_width(magnitude) - 1;
  const int64_t significand =
      static_cast<int64_t>(leading > 23 ? magnitude >> (leading - 23) : magnitude << (23 - leading));
  return Assemble(sum < 0 ? 0x80000000u : 0, leading - 36, significand);
}

float Exp2f(float x) {
  if (!(x < -126)) return Ex2(x);
  const float root = Ex2(x * 0.5f);
  return root * root;
}

// libdevice's sequence, every operation to nearest (read from machine code of nvcc 13.0 for sm_90a).
float Logf(float x) {
  if (x == 0) return -kInfinity;
  const bool tiny = x < 0x1p-126f;  // true of negative numbers too, which become NaN
  const float scaled = tiny ? x * 0x1p23f : x;
  if (Bits(scaled) >= 0x7F800000u) {
    const float special = std::fma(scaled, kInfinity, kInfinity);
    return std::isnan(special) ? Nan() : special;
  }
  // scaled = 2^(k / 2^23) * (1 + z), 1 + z in [2/3, 4/3).
  const uint32_t k = (Bits(scaled) - 0x3F2AAAABu) & 0xFF800000u;
  const float z = FromBits(Bits(scaled) - k) - 1;
  const float exponent = std::fma(static_cast<float>(static_cast<int32_t>(k)), 0x1p-23f, tiny ? -23.0f : 0.0f);
  float h = FromBits(0xBE055027);
  for (const uint32_t coefficient :
       {0x3E1039F6u, 0xBDF8CDCCu, 0x3E0F2955u, 0xBE2AD8B9u, 0x3E4CED0Bu, 0xBE7FFF22u, 0x3EAAAA78u, 0xBF000000u}) {
    h = std::fma(h, z, FromBits(coefficient));
  }
  return std::fma(exponent, FromBits(0x3F317218), std::fma(z * h, z, z));
}

const std::vector<Function>& AllFunctions() {
  static const std::vector<Function> functions = {Function::kEx2, Function::kRcp,   Function::kRsqrt,
                                                  Function::kLg2, Function::kExp2f, Function::kLogf};
  return functions;
}

std::string_view Name(Function function) {
  constexpr std::string_view kNames[] = {"ex2", "rcp", "rsqrt", "lg2", "exp2f", "logf"};
  return kNames[static_cast<int>(function)];
}

float Evaluate(Function function, float x) {
  constexpr float (*kFunctions[])(float) = {Ex2, Rcp, Rsqrt, Lg2, Exp2f, Logf};
  return kFunctions[static_cast<int>(function)](x);
}

}  // namespace bitflash::sim
