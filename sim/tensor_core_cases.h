// Inputs for the tests of the tensor core, from the structure of the formats (as in Berkeley TestFloat), then random.
#ifndef BITFLASH_SIM_TENSOR_CORE_CASES_H_
#define BITFLASH_SIM_TENSOR_CORE_CASES_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "data/format.h"

namespace bitflash::sim {

// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): a small generator with the same sequence everywhere.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t Next() {
    uint64_t z = (state_ += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  // Uniform in [low, high].
  int Between(int low, int high) { return low + static_cast<int>(Next() % static_cast<uint64_t>(high - low + 1)); }

 private:
  uint64_t state_;
};

// Bits of a pattern that mean something: a tf32 pattern lies in the upper 19 of 32 bits.
inline int UnusedLowBits(data::Format format) { return format == data::Format::kTf32 ? 13 : 0; }

inline uint32_t Pattern(data::Format format, bool negative, int exponent_field, uint32_t fraction) {
  const data::FormatInfo& info = data::Info(format);
  const uint32_t magnitude = static_cast<uint32_t>(exponent_field) << info.fraction_bits | fraction;
  const uint32_t sign = negative ? 1u << (info.exponent_bits + info.fraction_bits) : 0;
  return (sign | magnitude) << UnusedLowBits(format);
}

// Both signs of every interesting exponent (the ends, and around 1.0) with every interesting fraction (zero, one, all
// ones, the top bit, alternating): zeros, subnormals, infinities and NaN included.
inline std::vector<uint32_t> InterestingPatterns(data::Format format) {
  const data::FormatInfo& info = data::Info(format);
  const int top = (1 << info.exponent_bits) - 1;
  const uint32_t ones = (1u << info.fraction_bits) - 1;
  std::vector<uint32_t> patterns;
  for (const int field : {0, 1, 2, info.bias / 2, info.bias - 1, info.bias, info.bias + 1, top - 1, top}) {
    for (const uint32_t fraction : {0u, 1u, ones, (ones >> 1) + 1, 0x55555555u & ones}) {
      for (const bool negative : {false, true}) patterns.push_back(Pattern(format, negative, field, fraction));
    }
  }
  return patterns;
}

// How random operands are spread.
struct Spread {
  int exponents;  // exponent fields are uniform over this many, ending `below_top` below the format's top
  int below_top;  // 0: NaN and infinities take part
  int zeros_percent = 0;
  bool random_bits = false;  // every pattern alike; the other fields are ignored
};

inline uint32_t RandomPattern(Random& random, data::Format format, const Spread& spread) {
  const data::FormatInfo& info = data::Info(format);
  const int width = 1 + info.exponent_bits + info.fraction_bits;
  if (spread.random_bits) return static_cast<uint32_t>(random.Next() >> (64 - width)) << UnusedLowBits(format);
  if (random.Between(0, 99) < spread.zeros_percent) return Pattern(format, random.Between(0, 1), 0, 0);
  const int highest = std::max((1 << info.exponent_bits) - 1 - spread.below_top, 1);
  const int lowest = std::max(highest - spread.exponents + 1, 0);
  const uint32_t fraction = static_cast<uint32_t>(random.Next()) & ((1u << info.fraction_bits) - 1);
  return Pattern(format, random.Between(0, 1), random.Between(lowest, highest), fraction);
}

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_TENSOR_CORE_CASES_H_
