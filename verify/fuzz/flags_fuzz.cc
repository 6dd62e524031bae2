// libFuzzer target of what a user types behind flags: lists of lengths (verify/cli/length_flags.h) and numbers
// (verify/cli/numbers.h). Each is refused with a UsageError of one line that names the flag, or keeps to its limits and
// reads back equal. The first byte chooses the reader; 0xFF separates the texts of the two lists.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/error.h"
#include "data/fuzz/refusal.h"
#include "verify/cli/length_flags.h"
#include "verify/cli/numbers.h"

namespace bitflash::verify {
namespace {

using data::Require;

template <class Parse>
auto Parsed(Parse parse) {
  return data::Parsed<data::UsageError>("--", parse);
}

std::string Joined(const std::vector<int64_t>& values) {
  std::string text;
  for (const int64_t value : values) text += (text.empty() ? "" : ",") + std::to_string(value);
  return text;
}

void RequireList(const std::vector<int64_t>& lengths, const std::string& batch, const std::string& longest) {
  Require(std::to_string(lengths.size()) == batch, "the batch is not the number of lengths");
  int64_t most = 0;
  for (const int64_t length : lengths) {
    Require(length >= 0, "a length is negative");
    most = std::max(most, length);
  }
  Require(std::to_string(most) == longest, "the longest is another");
}

void FuzzLengths(const LengthFlags& flags) {
  WorkloadFlags workload;
  const std::optional<Lengths> lengths = Parsed([&] { return ParseLengths(flags, workload); });
  if (!lengths) return;
  Require(lengths->queries.empty() != flags.q.has_value(), "query rows without a list, or none with one");
  Require(lengths->keys.empty() != flags.k.has_value(), "keys without a list, or none with one");
  LengthFlags again;
  if (flags.q) {
    RequireList(lengths->queries, *workload.batch, *workload.seqlen_q);
    again.q = Joined(lengths->queries);
  }
  if (flags.k) {
    RequireList(lengths->keys, *workload.batch, *workload.seqlen_k);
    again.k = Joined(lengths->keys);
  }
  WorkloadFlags same;
  const Lengths read = ParseLengths(again, same);
  Require(read.queries == lengths->queries && read.keys == lengths->keys, "lengths do not read back equal");
}

void FuzzSweep(std::string_view text) {
  constexpr int64_t kMost = int64_t{1} << 40;
  const auto values = Parsed([&] { return ParseSweep("--flag", text, 0, kMost); });
  if (!values) return;
  Require(!values->empty() && values->size() <= kMostSweepValues, "a sweep without values, or with too many");
  for (const int64_t value : *values) Require(value >= 0 && value <= kMost, "a value of a sweep is out of range");
  Require(ParseSweep("--flag", Joined(*values), 0, kMost) == *values, "a sweep does not read back equal");
}

void FuzzNumbers(std::string_view text) {
  if (const auto seed = Parsed([&] { return ParseSeed("--flag", text); })) {
    Require(ParseSeed("--flag", std::to_string(*seed)) == *seed, "a seed does not read back equal");
  }
  if (const auto tile = Parsed([&] { return ParseTile("--flag", text); })) {
    Require(tile->first > 0 && tile->second > 0, "a tile without rows");
  }
  if (const auto value = Parsed([&] { return ParsePositive("--flag", text); })) Require(*value > 0, "not positive");
}

}  // namespace
}  // namespace bitflash::verify

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace bitflash::verify;
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto list = [](std::string_view part) { return std::optional<std::string>(part); };
  const size_t end = text.find('\xFF');
  switch (data[0] % 5) {
    case 0:
      FuzzLengths({list(text), {}});
      break;
    case 1:
      FuzzLengths({{}, list(text)});
      break;
    case 2:
      FuzzLengths({list(text.substr(0, end)), list(end == text.npos ? text : text.substr(end + 1))});
      break;
    case 3:
      FuzzSweep(text);
      break;
    case 4:
      FuzzNumbers(text);
      break;
  }
  return 0;
}
