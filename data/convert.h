// Conversion between bit patterns and values, one element at a time: the definition that convert_simd.h must equal.
//
// Rounding works on the integers of the format, so it depends neither on the host's rounding mode nor on its
// flush-to-zero flags. Subnormals and the sign of zero are kept everywhere.
//
// What GPUs do, and how to say it here (PTX ISA 8.x, "cvt"):
//   cvt.rn.f16.f32, cvt.rn.bf16.f32                  Encode(kFp16 or kBf16, x)
//   cvt.rz.*                                          ... Rounding::kTowardZero
//   cvt.rn.satfinite.e4m3x2.f32, ...e5m2x2.f32        Encode(kE4m3 or kE5m2, x)
//   cvt.rna.tf32.f32, cvt.rn.tf32.f32                 Encode(kTf32, x, kNearestAway or kNearestEven)
//   a fp32 register read by a tf32 tensor core        Encode(kTf32, x, kTowardZero): the core ignores the low 13 bits
#ifndef BITFLASH_DATA_CONVERT_H_
#define BITFLASH_DATA_CONVERT_H_

#include <cstdint>

#include "data/format.h"

namespace bitflash::data {

enum class Rounding : uint8_t {
  kNearestEven,  // PTX .rn: the nearest value, ties to the even fraction
  kNearestAway,  // PTX .rna: the nearest value, ties away from zero
  kTowardZero,   // PTX .rz: truncation
};

// What becomes of values beyond the largest finite one after rounding.
enum class Overflow : uint8_t {
  kIeee,       // nearest: a signed infinity, or in e4m3, which has none, a NaN that keeps the sign (S.1111.111);
               // toward zero: the largest finite value. An infinity becomes an infinity, in e4m3 the signed NaN.
  kSatFinite,  // PTX .satfinite: the largest finite value with the sign, for infinities too
};

// What GPU kernels get: PTX converts to e4m3 and e5m2 only with .satfinite, to the other formats without it.
constexpr Overflow UsualOverflow(Format format) {
  return format == Format::kE4m3 || format == Format::kE5m2 ? Overflow::kSatFinite : Overflow::kIeee;
}

// The bits of the value, in the low bits; the rest is zero. Any format but fp64. tf32 has the layout of fp32 with the
// low 13 bits zero. The overload for double rounds once: going through fp32 would round twice and miss some ties.
//
// A NaN becomes CanonicalNan(format), except, both with kIeee and from fp32: to fp32 the bits are copied, and to tf32
// with kNearestAway they are copied without the low 13. cvt.rna.tf32.f32 does that on an H200 (the fingerprint in
// data/golden/sfu_hashes.json tells), so a NaN whose fraction lies in those bits becomes an infinity.
uint32_t Encode(Format format, float value, Rounding rounding, Overflow overflow);
uint32_t Encode(Format format, double value, Rounding rounding, Overflow overflow);

template <class T>
uint32_t Encode(Format format, T value, Rounding rounding = Rounding::kNearestEven) {
  return Encode(format, value, rounding, UsualOverflow(format));
}

// The value of the bits; exact. Any format but fp64; bits above the format's width must be zero, except that the low
// 13 bits of a tf32 operand are ignored, as tensor cores do. A NaN keeps its sign and its fraction (top-aligned).
float Decode(Format format, uint32_t bits);

// The NaN that conversion instructions return: all ones below a zero sign. fp16 and bf16 0x7FFF and e4m3, e5m2 0x7F
// by PTX ISA, "cvt", confirmed on an H200; fp32 0x7FFFFFFF as the arithmetic units return. PTX says nothing
// about tf32: 0x7FFFE000, the same without the 13 bits that tf32 lacks, is what cvt.rn.tf32.f32 gives on an H200.
uint32_t CanonicalNan(Format format);

// The bits of the largest finite value; the largest pattern that is a number. Any format but fp64.
uint32_t MaxFinite(Format format);

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_CONVERT_H_
