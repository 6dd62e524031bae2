// A 64-bit fingerprint of many (input, output) pairs that does not depend on their order, so that threads and GPUs can
// add up parts of it.
#ifndef BITFLASH_DATA_HASH_H_
#define BITFLASH_DATA_HASH_H_

#include <cstdint>

namespace bitflash::data {

// One pair's share: the finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014) over both. The fingerprint of a set
// of pairs is the sum of their shares modulo 2^64.
constexpr uint64_t HashPair(uint32_t input, uint32_t output) {
  uint64_t z = (static_cast<uint64_t>(input) << 32 | output) + 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_HASH_H_
