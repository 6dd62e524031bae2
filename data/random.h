// Reproducible numbers by index: any part of a tensor can be computed alone, in any order, in any language.
#ifndef BITFLASH_DATA_RANDOM_H_
#define BITFLASH_DATA_RANDOM_H_

#include <cstdint>
#include <span>

namespace bitflash::data {

// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014): the state after one
// step, mixed. All arithmetic modulo 2^64.
constexpr uint64_t SplitMix64(uint64_t state) {
  uint64_t z = state + 0x9E3779B97F4A7C15;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

// The 64 random bits of element `index` of the tensor of that seed. The two tensors of seeds s and s + 1 are the same
// stream 0x1000003 (about 16.8 million) elements apart.
constexpr uint64_t HashBits(uint64_t seed, uint64_t index) { return SplitMix64(seed * 0x1000003 + index); }

// Nearly normal: the sum of the four 16-bit fields of HashBits, centred and scaled. Mean 0, variance
// 4 (2^32 - 1) / (12 * 2^30) = 4/3, standard deviation 1.1547, |value| < 4. A multiple of 2^-15, so exact in fp32.
constexpr float HashNormal(uint64_t seed, uint64_t index) {
  const uint64_t z = HashBits(seed, index);
  const int64_t sum = static_cast<int64_t>((z & 0xFFFF) + (z >> 16 & 0xFFFF) + (z >> 32 & 0xFFFF) + (z >> 48));
  return static_cast<float>(sum - 131070) / 32768.0f;
}

// out[k] = HashNormal(seed, first + k). Elements count through the contiguous tensor [batch, heads, seqlen, head_dim].
void FillHashNormal(uint64_t seed, uint64_t first, std::span<float> out);

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_RANDOM_H_
