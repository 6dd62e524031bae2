// The GPU's elementary functions, bit for bit: the special function unit (MUFU) and what CUDA's compiler builds on it.
//
// ex2, rcp, rsqrt and lg2 are piecewise quadratics over the tables of data/sfu_tables.csv (Oberman and Siu, ARITH-17,
// 2005, describe the unit). The definition below, checked on an H200 (driver 580.159, CUDA 13.0), has 0 mismatches over
// all 2^32 inputs of each of the four. A NaN result is always 0x7FFFFFFF.
#ifndef BITFLASH_SIM_SPECIAL_FUNCTIONS_H_
#define BITFLASH_SIM_SPECIAL_FUNCTIONS_H_

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace bitflash::sim {

enum class Function : uint8_t {
  kEx2,    // ex2.approx.ftz.f32 (MUFU.EX2)
  kRcp,    // rcp.approx.ftz.f32 (MUFU.RCP)
  kRsqrt,  // rsqrt.approx.ftz.f32 (MUFU.RSQ)
  kLg2,    // lg2.approx.ftz.f32 (MUFU.LG2)
  kExp2f,  // exp2f(x) without fast-math: MUFU.EX2(x), but below -126 the square of MUFU.EX2(x / 2): subnormals survive
  kLogf,   // logf(x) without fast-math: libdevice's polynomial in fused multiply-adds
};

const std::vector<Function>& AllFunctions();
std::string_view Name(Function function);  // "ex2", "rcp", "rsqrt", "lg2", "exp2f", "logf"

// The definitions, one number at a time.
float Ex2(float x);
float Rcp(float x);
float Rsqrt(float x);
float Lg2(float x);
float Exp2f(float x);
float Logf(float x);
float Evaluate(Function function, float x);

// The same bits on vectors: y[i] = function(x[i]). Sizes are equal; x and y are the same memory or do not overlap.
void Evaluate(Function function, std::span<const float> x, std::span<float> y);

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_SPECIAL_FUNCTIONS_H_
