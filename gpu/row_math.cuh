// How a row of scores becomes probabilities and how it ends, in the roundings that the simulated twins share (the
// choices are written down in sim/recipe.h under the name "bitflash"). Every operation is rounded to nearest even where
// it is written: __fmul_rn and __fadd_rn are never fused, __fmaf_rn always is.
#ifndef BITFLASH_GPU_ROW_MATH_CUH_
#define BITFLASH_GPU_ROW_MATH_CUH_

#include <cmath>
#include <cstdint>

#include "data/attention.h"

namespace bitflash::gpu {

// Host: the factors of a problem. Exponentials are taken to base 2.
struct Scale {
  float natural = 0;  // softmax_scale
  float log2 = 0;     // softmax_scale * log2 e
};
inline Scale ScaleOf(const data::Attention& attention) {
  const float scale = static_cast<float>(attention.scale());
  return {scale, static_cast<float>(static_cast<double>(scale) * 0x1.71547652b82fep0)};
}

// A row that has seen no key has the maximum -inf; -inf - -inf would be NaN.
__device__ __forceinline__ float FiniteOrZero(float m) { return m == -INFINITY ? 0.0f : m; }

// 1 / l, correctly rounded; 0 for a row without keys.
__device__ __forceinline__ float InverseSum(float l) { return l == 0.0f ? 0.0f : __frcp_rn(l); }

// The natural logarithm as CUDA 13.0's logf computes it without fast-math, written out so that no toolkit changes it:
// x = 2^k z with z near 1, a polynomial of degree 10 in z - 1, all steps rounded to nearest even.
__device__ __forceinline__ float LogF(float x) {
  const bool subnormal = x < 0x1p-126f;
  if (subnormal) x = __fmul_rn(x, 0x1p23f);
  const int32_t bits = __float_as_int(x);
  const int32_t k = static_cast<int32_t>((static_cast<uint32_t>(bits) - 0x3F2AAAABu) & 0xFF800000u);
  const float z = __fsub_rn(__int_as_float(bits - k), 1.0f);
  const float e = __fmaf_rn(static_cast<float>(k), 0x1p-23f, subnormal ? -23.0f : 0.0f);
  float h = __int_as_float(0xBE055027);
  const auto step = [&](uint32_t c) { h = __fmaf_rn(h, z, __uint_as_float(c)); };
  step(0x3E1039F6), step(0xBDF8CDCC), step(0x3E0F2955), step(0xBE2AD8B9);
  step(0x3E4CED0B), step(0xBE7FFF22), step(0x3EAAAA78), step(0xBF000000);
  const float log = __fmaf_rn(e, __uint_as_float(0x3F317218), __fmaf_rn(__fmul_rn(z, h), z, z));
  if (static_cast<uint32_t>(bits) >= 0x7F800000u) return __fmaf_rn(x, INFINITY, INFINITY);
  return x == 0.0f ? -INFINITY : log;
}

// The log-sum-exp of a row with maximum m (of the raw scores) and sum l.
__device__ __forceinline__ float LogSumExp(float m, float l, float scale) {
  return l == 0.0f ? -INFINITY : __fmaf_rn(m, scale, LogF(l));
}

}  // namespace bitflash::gpu

#endif  // BITFLASH_GPU_ROW_MATH_CUH_
