// Fingerprints of 64 bits: of a text, and of many (input, output) pairs, which does not depend on their order, so that
// threads and GPUs can add up parts of it.
#ifndef BITFLASH_DATA_HASH_H_
#define BITFLASH_DATA_HASH_H_

#include <cstdint>
#include <string_view>

namespace bitflash::data {

// One pair's share: the finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014) over both. The fingerprint of a set
// of pairs is the sum of their shares modulo 2^64.
constexpr uint64_t HashPair(uint32_t input, uint32_t output) {
  uint64_t z = (static_cast<uint64_t>(input) << 32 | output) + 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

// FNV-1a (Fowler, Noll, Vo) of the bytes.
constexpr uint64_t Fnv1a(std::string_view text) {
  uint64_t hash = 0xCBF29CE484222325;
  for (const char letter : text) hash = (hash ^ static_cast<unsigned char>(letter)) * 0x100000001B3;
  return hash;
}

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_HASH_H_
