#include "verify/cli/numbers.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>

#include "data/error.h"
#include "verify/cli/text.h"

namespace bitflash::verify {
namespace {

using data::UsageError;

constexpr std::string_view kSweepForms = "a number, a list \"512,1024\", \"512:4096:x2\" or \"512:4096:+512\"";

// The whole text as a number of that base, or false.
template <class T>
bool Whole(std::string_view text, T& value, int base = 10) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return error == std::errc() && end == text.data() + text.size() && !text.empty() && text[0] != '-';
}

}  // namespace

int64_t ParseCount(std::string_view flag, std::string_view text, int64_t min, int64_t max) {
  int64_t value = 0;
  if (!Whole(text, value) || value < min || value > max) {
    throw UsageError(fmt::format("{}: '{}' is not a whole number from {} to {}", flag, Printable(text), min, max));
  }
  return value;
}

uint64_t ParseSeed(std::string_view flag, std::string_view text) {
  uint64_t value = 0;
  const bool hex = text.substr(0, 2) == "0x";
  if (!Whole(hex ? text.substr(2) : text, value, hex ? 16 : 10)) {
    throw UsageError(fmt::format("{}: '{}' is not a whole number from 0 to 2^64 - 1 (decimal, or hexadecimal after 0x)",
                                 flag, Printable(text)));
  }
  return value;
}

double ParsePositive(std::string_view flag, std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value) || value <= 0) {
    throw UsageError(fmt::format("{}: '{}' is not a finite number greater than 0", flag, Printable(text)));
  }
  return value;
}

std::pair<int64_t, int64_t> ParseTile(std::string_view flag, std::string_view text, std::string_view what) {
  constexpr int64_t kMost = 1 << 16;
  const size_t by = text.find('x');
  int64_t rows = 0, cols = 0;
  if (by == std::string_view::npos || !Whole(text.substr(0, by), rows) || !Whole(text.substr(by + 1), cols) ||
      rows < 1 || cols < 1 || rows > kMost || cols > kMost) {
    throw UsageError(
        fmt::format("{}: '{}' is not a tile of {}, each from 1 to {}", flag, Printable(text), what, kMost));
  }
  return {rows, cols};
}

std::vector<int64_t> ParseSweep(std::string_view flag, std::string_view text, int64_t min, int64_t max) {
  std::vector<int64_t> values;
  const auto fail = [&](std::string_view why) {
    throw UsageError(fmt::format("{}: '{}' {}", flag, Printable(text), why));
  };
  const auto too_many = [&] { fail(fmt::format("has more than {} values", kMostSweepValues)); };
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos) {
    for (std::string_view rest = text;;) {
      const size_t comma = rest.find(',');
      const std::string_view item = rest.substr(0, comma);
      int64_t value = 0;
      if (!Whole(item, value)) fail(fmt::format("is not a sweep (accepted: {})", kSweepForms));
      values.push_back(ParseCount(flag, item, min, max));
      if (values.size() > kMostSweepValues) too_many();
      if (comma == std::string_view::npos) return values;
      rest.remove_prefix(comma + 1);
    }
  }
  const size_t second = text.find(':', colon + 1);
  int64_t step = 0;
  if (second == std::string_view::npos || second + 2 >= text.size() || !Whole(text.substr(second + 2), step)) {
    fail(fmt::format("is not a sweep (accepted: {})", kSweepForms));
  }
  const char kind = text[second + 1];
  if ((kind != 'x' && kind != '+') || step < (kind == 'x' ? 2 : 1)) {
    fail("needs a step of x2 or more, or of +1 or more");
  }
  const int64_t first = ParseCount(flag, text.substr(0, colon), min, max);
  const int64_t last = ParseCount(flag, text.substr(colon + 1, second - colon - 1), min, max);
  if (first > last) fail("starts above its end");
  if (kind == 'x' && first == 0) fail("multiplies zero");
  for (int64_t value = first;;) {
    values.push_back(value);
    if (values.size() > kMostSweepValues) too_many();
    if (kind == 'x' ? value > last / step : value > last - step) return values;
    value = kind == 'x' ? value * step : value + step;
  }
}

}  // namespace bitflash::verify
