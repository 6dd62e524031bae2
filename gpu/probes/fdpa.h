// What a tensor core is said to compute, as plain integer code for host and device: the probe's own definition, written
// from the published rule (arXiv 2511.10909, 2512.07004, 2603.20421) and sharing nothing with the simulator's, so that
// the same mistake must be made twice to go unseen. verify/probe_definition_test.cc holds the two against each other.
//
// One step of FDPA(L, F, result) fuses L products and the accumulator c. Every term is cut toward zero to a multiple of
// 2^(emax - F), emax being the largest exponent of the terms that are not zero; the sum of what is left is exact and
// rounded once. The exponent of a product is the sum of its operands' (the product is not normalised). Everything that
// another machine might do instead is a field of Rule.
#ifndef BITFLASH_GPU_PROBES_FDPA_H_
#define BITFLASH_GPU_PROBES_FDPA_H_

#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define PROBE_BOTH __host__ __device__
#else
#define PROBE_BOTH
#endif

namespace bitflash::gpu::probe {

enum class Input : uint8_t { kFp16, kBf16, kTf32, kE4m3, kE5m2 };

struct Layout {
  int bits;           // of the pattern as it lies in memory
  int exponent_bits;  //
  int fraction_bits;  //
  int unused_bits;    // low ones, which the instruction is said to ignore
  bool infinities;    // false: only the all-ones pattern is not a number
};

PROBE_BOTH constexpr Layout LayoutOf(Input input) {
  switch (input) {
    case Input::kFp16:
      return {16, 5, 10, 0, true};
    case Input::kBf16:
      return {16, 8, 7, 0, true};
    case Input::kTf32:
      return {32, 8, 10, 13, true};
    case Input::kE4m3:
      return {8, 4, 3, 0, false};
    default:
      return {8, 5, 2, 0, true};
  }
}

enum class Result : uint8_t {
  kFp32Truncated,    // toward zero, subnormals kept
  kFp32Truncated13,  // toward zero to 13 fraction bits
  kFp32Nearest,      //
  kFp16Nearest,      // ties to even
  kFp16Twice,        // toward zero to fp32 first, then to nearest
  kFp16Truncated,    //
};

PROBE_BOTH constexpr bool IsFp16(Result result) { return result >= Result::kFp16Nearest; }

enum class AddC : uint8_t {
  kInEveryStep,    // a term like any other; the result is c of the next step
  kLastNearest,    // the steps chain from zero; c is added to their result
  kLastTruncated,  //
};

constexpr int kMostK = 32;       // of one instruction
constexpr int kNoFloor = -9999;  // below every exponent

struct Rule {
  int L = 16;
  int F = 25;
  Result result = Result::kFp32Truncated;
  AddC add_c = AddC::kInEveryStep;
  int F_c = 25;                   // alignment of c, where it differs from that of the products
  bool zeros_in_emax = false;     // a term that is zero takes part in emax
  bool signed_underflow = false;  // a negative sum that rounds to zero is -0
  int emax_floor = kNoFloor;      // emax is at least this
  // order[i]: which k is the i-th term; terms 0 to L - 1 are the first step.
  uint8_t order[kMostK] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
                           16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31};
};

// (-1)^negative * significand * 2^(exponent - fraction_bits).
struct Number {
  bool negative, infinite, nan;
  int exponent;
  uint64_t significand;
};

PROBE_BOTH inline Number TakeApart(uint32_t pattern, int exponent_bits, int fraction_bits, bool infinities) {
  const uint32_t top = (1u << exponent_bits) - 1, all_ones = (1u << fraction_bits) - 1;
  const uint32_t fraction = pattern & all_ones, field = (pattern >> fraction_bits) & top;
  Number x;
  x.negative = (pattern >> (fraction_bits + exponent_bits)) & 1;
  x.infinite = infinities && field == top && fraction == 0;
  x.nan = field == top && (infinities ? fraction != 0 : fraction == all_ones);
  x.exponent = (field == 0 ? 1 : static_cast<int>(field)) - static_cast<int>(top >> 1);
  x.significand = field == 0 ? fraction : fraction + (1u << fraction_bits);
  return x;
}

PROBE_BOTH inline Number Operand(Input input, uint32_t pattern) {
  const Layout layout = LayoutOf(input);
  return TakeApart(pattern >> layout.unused_bits, layout.exponent_bits, layout.fraction_bits, layout.infinities);
}

PROBE_BOTH inline uint32_t BitsOf(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof(bits));
  return bits;
}
PROBE_BOTH inline float FloatOf(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof(x));
  return x;
}

// `value` in units of 2^-from, cut toward zero to units of 2^-to.
PROBE_BOTH inline uint64_t Requantize(uint64_t value, int from, int to) {
  if (value == 0) return 0;
  if (from <= to) return value << (to - from);
  return from - to > 63 ? 0 : value >> (from - to);
}

PROBE_BOTH inline int LeadingBit(uint64_t value) {  // of a value that is not zero
#ifdef __CUDA_ARCH__
  return 63 - __clzll(static_cast<long long>(value));
#else
  int bit = 0;
  while (value >>= 1) ++bit;
  return bit;
#endif
}

// The pattern, without its sign, of magnitude * 2^unit, in a format whose least normal number is 2^least: `kept` of
// `fraction_bits` are rounded to, the rest is zero. Overflow gives infinity.
PROBE_BOTH inline uint32_t Round(uint64_t magnitude, int unit, int exponent_bits, int fraction_bits, int kept,
                                 bool nearest) {
  if (magnitude == 0) return 0;
  const int least = 2 - (1 << (exponent_bits - 1));
  const int lead = unit + LeadingBit(magnitude);
  const int exponent = lead > least ? lead : least;  // of the hidden bit, or where it would be
  const int cut = exponent - kept - unit;            // low bits to drop; negative: the value is exact
  uint64_t rounded = Requantize(magnitude, cut, 0);
  if (nearest && cut > 0 && cut < 64) {
    const uint64_t rest = magnitude - (rounded << cut), half = uint64_t{1} << (cut - 1);
    if (rest > half || (rest == half && (rounded & 1))) ++rounded;
  }
  const uint64_t infinity = ((uint64_t{1} << exponent_bits) - 1) << fraction_bits;
  if (exponent - least >= 1 << exponent_bits) return static_cast<uint32_t>(infinity);
  // The hidden bit of `rounded` makes the exponent field of a normal number one larger, a carry another one.
  const uint64_t pattern =
      (static_cast<uint64_t>(exponent - least) << fraction_bits) + (rounded << (fraction_bits - kept));
  return static_cast<uint32_t>(pattern < infinity ? pattern : infinity);
}

PROBE_BOTH inline uint32_t RoundSum(const Rule& rule, int64_t sum, int unit) {
  const uint64_t magnitude = static_cast<uint64_t>(sum < 0 ? -sum : sum);
  uint32_t pattern;
  switch (rule.result) {
    case Result::kFp32Truncated:
      pattern = Round(magnitude, unit, 8, 23, 23, false);
      break;
    case Result::kFp32Truncated13:
      pattern = Round(magnitude, unit, 8, 23, 13, false);
      break;
    case Result::kFp32Nearest:
      pattern = Round(magnitude, unit, 8, 23, 23, true);
      break;
    case Result::kFp16Nearest:
      pattern = Round(magnitude, unit, 5, 10, 10, true);
      break;
    case Result::kFp16Truncated:
      pattern = Round(magnitude, unit, 5, 10, 10, false);
      break;
    default: {
      const Number once = TakeApart(Round(magnitude, unit, 8, 23, 23, false), 8, 23, true);
      pattern = once.infinite ? 0x7C00 : Round(once.significand, once.exponent - 23, 5, 10, 10, true);
    }
  }
  const bool negative = sum < 0 && (pattern != 0 || rule.signed_underflow);
  return negative ? pattern | (IsFp16(rule.result) ? 0x8000u : 0x80000000u) : pattern;
}

PROBE_BOTH inline uint32_t CanonicalNan(Result result) { return IsFp16(result) ? 0x7FFFu : 0x7FFFFFFFu; }

PROBE_BOTH inline uint32_t Infinity(Result result, bool negative) {
  return IsFp16(result) ? (negative ? 0xFC00u : 0x7C00u) : (negative ? 0xFF800000u : 0x7F800000u);
}

// One step: the terms rule.order[begin] to rule.order[end - 1] and the accumulator's pattern c.
PROBE_BOTH inline uint32_t Step(const Rule& rule, Input input, const uint32_t* a, const uint32_t* b, int begin, int end,
                                uint32_t c) {
  const int product_bits = 2 * LayoutOf(input).fraction_bits, c_bits = IsFp16(rule.result) ? 10 : 23;
  const Number addend = TakeApart(c, IsFp16(rule.result) ? 5 : 8, c_bits, true);
  bool nan = addend.nan, plus = addend.infinite && !addend.negative, minus = addend.infinite && addend.negative;
  int emax = kNoFloor;
  if (addend.significand != 0 || rule.zeros_in_emax) emax = addend.exponent;
  for (int i = begin; i < end; ++i) {
    const Number x = Operand(input, a[rule.order[i]]), y = Operand(input, b[rule.order[i]]);
    const bool zero = x.significand == 0 || y.significand == 0;
    nan |= x.nan || y.nan || (zero && (x.infinite || y.infinite));
    if (x.infinite || y.infinite) (x.negative != y.negative ? minus : plus) = true;
    const int exponent = x.exponent + y.exponent;
    if ((!zero || rule.zeros_in_emax) && exponent > emax) emax = exponent;
  }
  if (nan || (plus && minus)) return CanonicalNan(rule.result);
  if (plus || minus) return Infinity(rule.result, minus);
  if (emax == kNoFloor) return 0;
  if (emax < rule.emax_floor) emax = rule.emax_floor;

  const int finest = rule.F > rule.F_c ? rule.F : rule.F_c;
  const uint64_t cut_c = Requantize(addend.significand, emax - addend.exponent + c_bits, rule.F_c)
                         << (finest - rule.F_c);
  int64_t sum = addend.negative ? -static_cast<int64_t>(cut_c) : static_cast<int64_t>(cut_c);
  for (int i = begin; i < end; ++i) {
    const Number x = Operand(input, a[rule.order[i]]), y = Operand(input, b[rule.order[i]]);
    const uint64_t cut =
        Requantize(x.significand * y.significand, emax - (x.exponent + y.exponent) + product_bits, rule.F)
        << (finest - rule.F);
    sum += x.negative != y.negative ? -static_cast<int64_t>(cut) : static_cast<int64_t>(cut);
  }
  return RoundSum(rule, sum, emax - finest);
}

// A whole instruction over k products: the pattern of D.
PROBE_BOTH inline uint32_t Evaluate(const Rule& rule, Input input, const uint32_t* a, const uint32_t* b, int k,
                                    uint32_t c) {
  uint32_t d = rule.add_c == AddC::kInEveryStep ? c : 0;
  for (int begin = 0; begin < k; begin += rule.L) {
    const int end = begin + rule.L < k ? begin + rule.L : k;
    d = Step(rule, input, a, b, begin, end, d);
  }
  if (rule.add_c == AddC::kInEveryStep) return d;
#ifdef __CUDA_ARCH__
  const float sum =
      rule.add_c == AddC::kLastNearest ? __fadd_rn(FloatOf(d), FloatOf(c)) : __fadd_rz(FloatOf(d), FloatOf(c));
#else
  const float sum = FloatOf(d) + FloatOf(c);  // kLastTruncated is for the device alone
#endif
  return sum != sum ? 0x7FFFFFFFu : BitsOf(sum);
}

}  // namespace bitflash::gpu::probe

#endif  // BITFLASH_GPU_PROBES_FDPA_H_
