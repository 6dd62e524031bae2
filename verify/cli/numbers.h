// Numbers that a user typed. Every function throws UsageError that names the flag, the value and what it must be.
#ifndef BITFLASH_VERIFY_CLI_NUMBERS_H_
#define BITFLASH_VERIFY_CLI_NUMBERS_H_

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace bitflash::verify {

// A decimal whole number in [min, max]: digits only.
int64_t ParseCount(std::string_view flag, std::string_view text, int64_t min, int64_t max);

// A whole number in [0, 2^64), decimal or 0x...
uint64_t ParseSeed(std::string_view flag, std::string_view text);

// A finite decimal number greater than zero.
double ParsePositive(std::string_view flag, std::string_view text);

// "128x64" -> {128, 64}; `what` a tile is, for the error.
std::pair<int64_t, int64_t> ParseTile(std::string_view flag, std::string_view text,
                                      std::string_view what = "query rows x keys such as 128x64");

// The values of a sweep, each in [min, max], in the order given:
//   "4096"            one value
//   "512,1024,777"    a list
//   "512:131072:x2"   512, 1024, ..., as long as it is not above 131072
//   "512:4096:+512"   512, 1024, ..., 4096
// At most kMostSweepValues.
inline constexpr int kMostSweepValues = 16384;
std::vector<int64_t> ParseSweep(std::string_view flag, std::string_view text, int64_t min, int64_t max);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_NUMBERS_H_
