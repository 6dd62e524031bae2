// fp32 operations as the GPU does them: IEEE, correctly rounded, and every NaN result is 0x7FFFFFFF.
// add.f32, mul.f32, fma.rn.f32, div.rn.f32, rcp.rn.f32, max.f32, min.f32 of the PTX ISA, without .ftz.
#ifndef BITFLASH_SIM_GPU_FLOAT_H_
#define BITFLASH_SIM_GPU_FLOAT_H_

#include <bit>
#include <cmath>
#include <cstdint>
#include <span>

namespace bitflash::sim {

inline float CanonicalNan() { return std::bit_cast<float>(uint32_t{0x7FFFFFFF}); }

inline float Canonical(float x) { return std::isnan(x) ? CanonicalNan() : x; }

inline float Add(float a, float b) { return Canonical(a + b); }
inline float Subtract(float a, float b) { return Canonical(a - b); }
inline float Multiply(float a, float b) { return Canonical(a * b); }
inline float Fma(float a, float b, float c) { return Canonical(std::fma(a, b, c)); }
inline float Divide(float a, float b) { return Canonical(a / b); }
inline float Reciprocal(float x) { return Canonical(1.0f / x); }

// The operand that is not NaN; canonical NaN if both are. +0 is greater than -0.
inline float Maximum(float a, float b) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) ? Canonical(b) : a;
  if (a == b) return std::signbit(a) ? b : a;
  return a > b ? a : b;
}
inline float Minimum(float a, float b) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) ? Canonical(b) : a;
  if (a == b) return std::signbit(a) ? a : b;
  return a < b ? a : b;
}

// The same on vectors, element by element. Sizes are equal; the result may be one of the operands.
void Fma(std::span<const float> a, std::span<const float> b, std::span<const float> c, std::span<float> result);
void Divide(std::span<const float> a, std::span<const float> b, std::span<float> result);
void Reciprocal(std::span<const float> x, std::span<float> result);

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_GPU_FLOAT_H_
