// Operands for tensor_core_probe: patterns made from the structure of the formats, each from a hash of its place, so
// that a setting is the same on every GPU and in every run.
#ifndef BITFLASH_GPU_PROBES_OPERANDS_CUH_
#define BITFLASH_GPU_PROBES_OPERANDS_CUH_

#include <cstdint>
#include <vector>

#include "gpu/probes/fdpa.h"

namespace bitflash::gpu::probe {

enum class Fraction : uint8_t {
  kAny,
  kZero,
  kInteger,
  kPowerOfTwo,  // of subnormals too: one random bit
};

// How the operands and the accumulators of one row of the report are drawn.
struct Setting {
  const char* name;
  const char* why;
  // Exponents of A and B, drawn evenly, and moved into what the format has. kInteger ignores them.
  int low = 0, high = 0;
  Fraction fraction = Fraction::kAny;
  int zeros_of_64 = 0;     // operands that are +0 or -0
  int specials_of_64 = 0;  // operands that are NaN or infinite
  int opposite_of_64 = 0;  // pairs of terms that are the same but for the sign
  bool any_bits = false;   // every pattern, evenly, for A, B and C
  int c_low = 0, c_high = 0;
  int c_zeros_of_64 = 0;
  int c_specials_of_64 = 0;
};

__host__ __device__ inline uint64_t Mix(uint64_t x) {  // SplitMix64's
  x += 0x9E3779B97F4A7C15ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

// A small integer of the format, at most 4 in magnitude: its sums are exact under every rule there is.
__host__ __device__ inline uint32_t SmallInteger(int value, int exponent_bits, int fraction_bits, int unused_bits) {
  if (value == 0) return 0;
  const int magnitude = value < 0 ? -value : value, lead = magnitude >= 4 ? 2 : magnitude >= 2 ? 1 : 0;
  const uint32_t field = static_cast<uint32_t>(lead + (1 << (exponent_bits - 1)) - 1);
  const uint32_t fraction = static_cast<uint32_t>(magnitude - (1 << lead)) << (fraction_bits - lead);
  const uint32_t sign = value < 0 ? 1u << (exponent_bits + fraction_bits) : 0;
  return (sign | field << fraction_bits | fraction) << unused_bits;
}

// One pattern from 64 random bits.
__host__ __device__ inline uint32_t Draw(uint64_t random, Layout layout, int low, int high, Fraction fraction,
                                         int zeros_of_64, int specials_of_64, bool any_bits) {
  const int width = layout.exponent_bits + layout.fraction_bits + 1;
  const uint32_t below = static_cast<uint32_t>(random) & ((1u << layout.unused_bits) - 1);  // ignored bits are noise
  const uint32_t bits = static_cast<uint32_t>(random >> 13);
  if (any_bits) return (bits & (width == 32 ? ~0u : (1u << width) - 1)) << layout.unused_bits | below;
  const int choice = static_cast<int>(random >> 58);
  const uint32_t sign = (random >> 57 & 1) != 0 ? 1u << (width - 1) : 0;
  const uint32_t top = (1u << layout.exponent_bits) - 1, all_ones = (1u << layout.fraction_bits) - 1;
  if (choice < zeros_of_64) return sign << layout.unused_bits | below;
  if (choice >= 64 - specials_of_64) {
    const uint32_t payload = !layout.infinities || (random & 1) == 0 ? all_ones : 0;
    return (sign | top << layout.fraction_bits | payload) << layout.unused_bits;
  }
  if (fraction == Fraction::kInteger) {
    return SmallInteger(static_cast<int>(bits % 9) - 4, layout.exponent_bits, layout.fraction_bits, layout.unused_bits);
  }
  const int bias = static_cast<int>(top >> 1), last = static_cast<int>(top) - (layout.infinities ? 1 : 0);
  int field = bias + low + static_cast<int>((random >> 45 & 0xFFF) % static_cast<uint64_t>(high - low + 1));
  field = field < 0 ? 0 : field > last ? last : field;
  uint32_t digits = fraction == Fraction::kAny ? bits & all_ones : 0;
  if (fraction == Fraction::kPowerOfTwo && field == 0) {
    digits = 1u << (bits % static_cast<uint32_t>(layout.fraction_bits));
  }
  if (!layout.infinities && field == static_cast<int>(top) && digits == all_ones) --digits;
  return (sign | static_cast<uint32_t>(field) << layout.fraction_bits | digits) << layout.unused_bits | below;
}

// The pattern of A (side 0, line = m) or B (side 1, line = n) at k. Of a pair of opposite terms, k and k + distance,
// the second repeats the first with B's sign changed; which k are such pairs is the same in the whole tile.
__host__ __device__ inline uint32_t DrawOperand(const Setting& s, Input input, uint64_t tile, int side, int line, int k,
                                                int K) {
  const Layout layout = LayoutOf(input);
  uint32_t flip = 0;
  if (s.opposite_of_64 > 0) {
    const uint64_t random = Mix(tile * 2 + 1);
    int distance = 1;
    for (int i = static_cast<int>(random % 5); i > 0 && distance < K / 2; --i) distance *= 2;
    const int first = k & ~distance;
    if (static_cast<int>(Mix(random + first) >> 58) < s.opposite_of_64) {
      if (side == 1 && k != first) flip = 1u << (layout.bits - 1);
      k = first;
    }
  }
  const uint64_t place = ((tile * 2 + side) * 64 + line) * 64 + k;
  return Draw(Mix(place), layout, s.low, s.high, s.fraction, s.zeros_of_64, s.specials_of_64, s.any_bits) ^ flip;
}

__host__ __device__ inline uint32_t DrawAccumulator(const Setting& s, bool fp16, uint64_t output) {
  const Layout layout = fp16 ? Layout{16, 5, 10, 0, true} : Layout{32, 8, 23, 0, true};
  return Draw(Mix(~output), layout, s.c_low, s.c_high, s.fraction, s.c_zeros_of_64, s.c_specials_of_64, s.any_bits);
}

// The settings for one instruction.
inline std::vector<Setting> Settings(Input input, bool fp16_accumulator) {
  const Layout layout = LayoutOf(input);
  const int bias = (1 << (layout.exponent_bits - 1)) - 1;
  const bool wide_exponent = layout.exponent_bits == 8;
  const int spread = wide_exponent ? 7 : bias < 15 ? 5 : 7;
  const int huge = fp16_accumulator ? 7 : wide_exponent ? 62 : bias;  // products just below overflow
  const int small = -bias + 1;                                        // the least normal exponent
  std::vector<Setting> settings = {
      {.name = "small integers",
       .why = "exact under every rule: shows that the probe puts operands where it means to",
       .fraction = Fraction::kInteger,
       .zeros_of_64 = 8,
       .c_zeros_of_64 = 8},
      {.name = "any bits", .why = "NaN, infinities, subnormals as often as they come", .any_bits = true},
      {.name = "all exponents",
       .why = "finite, the whole range",
       .low = -bias,
       .high = bias + 1,
       .c_low = fp16_accumulator ? -15 : -127,
       .c_high = fp16_accumulator ? 15 : 127},
      {.name = "one binade", .why = "all terms survive the alignment", .low = -1, .high = 1, .c_low = -3, .c_high = 3},
      {.name = "one binade, 25 % zeros",
       .why = "do zeros take part in emax",
       .low = -1,
       .high = 1,
       .zeros_of_64 = 16,
       .c_low = -3,
       .c_high = 3,
       .c_zeros_of_64 = 16},
      {.name = "around F",
       .why = "terms on both sides of the alignment limit",
       .low = -spread,
       .high = spread,
       .c_low = -20,
       .c_high = 20},
      {.name = "around F, 25 % zeros",
       .why = "the same with zeros",
       .low = -spread,
       .high = spread,
       .zeros_of_64 = 16,
       .c_low = -20,
       .c_high = 20,
       .c_zeros_of_64 = 16},
      {.name = "around F, c = 0", .why = "without an accumulator", .low = -spread, .high = spread, .c_zeros_of_64 = 64},
      {.name = "c small",
       .why = "c below the products: how far down does it count",
       .low = -2,
       .high = 2,
       .c_low = -30,
       .c_high = -6},
      {.name = "c large", .why = "c above the products", .low = -3, .high = 1, .c_low = 2, .c_high = 14},
      {.name = "powers of two",
       .why = "ties and exact limits",
       .low = -spread,
       .high = spread,
       .fraction = Fraction::kZero,
       .zeros_of_64 = 16,
       .c_low = -14,
       .c_high = 14,
       .c_zeros_of_64 = 8},
      {.name = "opposite pairs",
       .why = "cancellation down to the lost bits",
       .low = -4,
       .high = 4,
       .opposite_of_64 = 56,
       .c_low = -30,
       .c_high = 0,
       .c_zeros_of_64 = 16},
      {.name = "opposite pairs, far",
       .why = "the same over a wide range",
       .low = -spread,
       .high = spread,
       .zeros_of_64 = 4,
       .opposite_of_64 = 48,
       .c_low = -24,
       .c_high = 10,
       .c_zeros_of_64 = 8},
      {.name = "90 % zeros",
       .why = "signs of zeros, single products",
       .low = -3,
       .high = 3,
       .zeros_of_64 = 58,
       .c_low = -3,
       .c_high = 3,
       .c_zeros_of_64 = 40},
      {.name = "all exponents, 70 % zeros",
       .why = "zeros beside large operands, and little else",
       .low = -bias,
       .high = bias + 1,
       .zeros_of_64 = 45,
       .c_low = fp16_accumulator ? -15 : -30,
       .c_high = fp16_accumulator ? 0 : 10,
       .c_zeros_of_64 = 24},
      {.name = "some NaN, infinities",
       .why = "which special value wins",
       .low = -3,
       .high = 3,
       .zeros_of_64 = 8,
       .specials_of_64 = 1,
       .c_low = -3,
       .c_high = 3,
       .c_specials_of_64 = 2},
      {.name = "least exponents",
       .why = "subnormal operands",
       .low = small - 1,
       .high = small + 1,
       .zeros_of_64 = 4,
       .c_low = 2 * small - 20,
       .c_high = 2 * small + 4,
       .c_zeros_of_64 = 16},
      {.name = "near overflow",
       .why = "infinite results",
       .low = huge - 3,
       .high = huge + 2,
       .c_low = 2 * huge - 2,
       .c_high = 2 * huge + 2},
  };
  if (fp16_accumulator) {
    settings.push_back({.name = "few powers of two",
                        .why = "ties of fp16, and what lies far below them",
                        .low = -12,
                        .high = 12,
                        .fraction = Fraction::kZero,
                        .zeros_of_64 = 36,
                        .c_low = -14,
                        .c_high = 14,
                        .c_zeros_of_64 = 40});
  }
  if (fp16_accumulator && layout.fraction_bits == 10) {
    settings.push_back({.name = "near 2^-25",
                        .why = "does emax have a floor: ties of the least fp16 with little beside them",
                        .low = -17,
                        .high = -12,
                        .fraction = Fraction::kPowerOfTwo,
                        .zeros_of_64 = 36,
                        .c_zeros_of_64 = 64});
  }
  if (wide_exponent) {
    settings.push_back({.name = "near 2^-149",
                        .why = "does emax have a floor; signs of what rounds to zero",
                        .low = -78,
                        .high = -70,
                        .zeros_of_64 = 8,
                        .opposite_of_64 = 16,
                        .c_low = -150,
                        .c_high = -126,
                        .c_zeros_of_64 = 48});
  }
  return settings;
}

}  // namespace bitflash::gpu::probe

#endif  // BITFLASH_GPU_PROBES_OPERANDS_CUH_
