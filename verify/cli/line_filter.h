// Filters of lines, as mma and sfu are: one line of text in, one out, on all threads and with bounded memory.
#ifndef BITFLASH_VERIFY_CLI_LINE_FILTER_H_
#define BITFLASH_VERIFY_CLI_LINE_FILTER_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace bitflash::verify {

// What became of some lines.
struct FilteredLines {
  std::string text;  // one line for each
  uint64_t hash =
      0;  // the sum of HashPair(line, bits of the result) of data/hash.h modulo 2^64; lines count from 0 modulo 2^32
};

// A line that is wrong; counts from 1 in the whole input.
struct BadLine {
  int64_t line;
  std::string what;
};

// Appends the results of `lines`, each of which ends with '\n' (kHexSlack bytes behind the last may be read); `first`
// is the number of the first, from 0. Several threads call at once, with different lines. Throws BadLine, having
// appended the results of the lines before it.
using LineFilter = std::function<void(std::string_view lines, int64_t first, FilteredLines& results)>;

struct FilteredInput {
  int64_t lines = 0;
  uint64_t hash = 0;
};

// Passes the lines of a file, or of standard input for "-", through the filter and hands the results to `write` in
// their order. What has arrived on a pipe is answered before more is waited for. A missing '\n' at the end is added;
// a line has at most kLongestLine characters. Throws InputError, for a bad line after the results of those before it.
inline constexpr int64_t kLongestLine = 1 << 20;
FilteredInput FilterLines(const std::string& path, const LineFilter& filter,
                          const std::function<void(std::string_view)>& write);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_LINE_FILTER_H_
