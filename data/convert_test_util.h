// What the tests of convert.h and convert_simd.h share: the axes they sweep, and counting instead of a check each.
#ifndef BITFLASH_DATA_CONVERT_TEST_UTIL_H_
#define BITFLASH_DATA_CONVERT_TEST_UTIL_H_

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "data/convert.h"

namespace bitflash::data {

inline constexpr Rounding kRoundings[] = {Rounding::kNearestEven, Rounding::kNearestAway, Rounding::kTowardZero};
inline constexpr Overflow kOverflows[] = {Overflow::kIeee, Overflow::kSatFinite};

inline std::vector<Format> NarrowFormats() {
  return {Format::kTf32, Format::kFp16, Format::kBf16, Format::kE4m3, Format::kE5m2};
}

// Every pattern of a narrow format: 2^19 of tf32, 2^16 or 2^8 of the others.
inline std::vector<uint32_t> AllPatterns(Format format) {
  const int unused = format == Format::kTf32 ? 13 : 0;
  std::vector<uint32_t> patterns(size_t{1} << (8 * StorageBytes(format) - unused));
  for (size_t i = 0; i < patterns.size(); ++i) patterns[i] = static_cast<uint32_t>(i) << unused;
  return patterns;
}

// Counts failures of millions of comparisons and remembers the first.
class Mismatches {
 public:
  void Count(bool equal, uint32_t bits) {
    ++compared_;
    if (equal) return;
    if (count_++ == 0) first_ = bits;
  }
  bool none() const { return count_ == 0 && compared_ > 0; }
  std::string text() const {
    char text[96];
    std::snprintf(text, sizeof text, "%lld of %lld differ, first at 0x%08X", static_cast<long long>(count_),
                  static_cast<long long>(compared_), first_);
    return text;
  }

 private:
  int64_t compared_ = 0, count_ = 0;
  uint32_t first_ = 0;
};

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_CONVERT_TEST_UTIL_H_
