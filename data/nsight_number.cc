#include "data/nsight_number.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <string>

namespace bitflash::data {
namespace {

// What groups digits and never anything else, as UTF-8: blank, apostrophe, no-break space, thin space, narrow no-break
// space, right single quotation mark. (Unicode CLDR, number symbols: French, Swiss German, ...)
constexpr std::string_view kGroupings[] = {" ", "'", "\xC2\xA0", "\xE2\x80\x89", "\xE2\x80\xAF", "\xE2\x80\x99"};
constexpr char kGroup = '_';  // stands for all of them

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// Digits, '.', ',' and kGroup; what comes before (a sign) and behind (an exponent) is set apart. Empty: no number.
struct Pieces {
  std::string digits;
  bool negative = false;
  int exponent = 0;
};

std::optional<Pieces> Split(std::string_view text) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  while (text.ends_with(' ')) text.remove_suffix(1);
  Pieces pieces;
  if (text.starts_with('-') || text.starts_with('+')) {
    pieces.negative = text[0] == '-';
    text.remove_prefix(1);
  }
  const size_t e = text.find_first_of("eE");
  if (e != std::string_view::npos) {
    std::string_view exponent = text.substr(e + 1);
    if (exponent.starts_with('+')) exponent.remove_prefix(1);
    const auto [end, error] = std::from_chars(exponent.data(), exponent.data() + exponent.size(), pieces.exponent);
    if (error != std::errc() || end != exponent.data() + exponent.size() || std::abs(pieces.exponent) > 300) return {};
    text = text.substr(0, e);
  }
  constexpr size_t kLongest = 100;
  if (text.empty() || text.size() > kLongest || !std::any_of(text.begin(), text.end(), IsDigit)) return {};
  while (!text.empty()) {
    if (IsDigit(text[0]) || text[0] == '.' || text[0] == ',') {
      pieces.digits += text[0];
      text.remove_prefix(1);
      continue;
    }
    const auto* group = std::find_if(std::begin(kGroupings), std::end(kGroupings),
                                     [&](std::string_view g) { return text.starts_with(g); });
    if (group == std::end(kGroupings)) return {};
    pieces.digits += kGroup;
    text.remove_prefix(group->size());
  }
  return pieces;
}

// What the digits say about the decimal separator; '\0': nothing.
char DecimalOf(const std::string& digits) {
  const auto dots = std::count(digits.begin(), digits.end(), '.');
  const auto commas = std::count(digits.begin(), digits.end(), ',');
  if (dots > 0 && commas > 0) return digits[digits.find_last_of(".,")];
  if (dots > 1) return ',';
  if (commas > 1) return '.';
  if (dots + commas == 0) return '\0';
  const size_t at = digits.find_first_of(".,");
  // One separator groups only as in 1,234: one to three digits before it, the first not 0, and three behind it.
  const bool may_group =
      digits.size() - at == 4 && at >= 1 && at <= 3 && digits[0] != '0' && digits.find(kGroup) == std::string::npos;
  return may_group ? '\0' : digits[at];
}

// The whole part without its separators: groups of three digits, or of two before the last (in India). Nothing when
// it is grouped in no such way.
std::optional<std::string> Ungrouped(std::string_view whole, char grouping) {
  std::string digits;
  size_t group = 0;  // digits since the last separator
  bool grouped = false;
  for (const char c : whole) {
    if (IsDigit(c)) {
      digits += c;
      ++group;
      continue;
    }
    if (c != grouping && c != kGroup) return {};
    if (group < (grouped ? 2 : 1) || group > 3) return {};
    grouped = true;
    group = 0;
  }
  if (grouped && group != 3) return {};
  return digits;
}

}  // namespace

bool StyleEvidence::Add(std::string_view text) {
  const std::optional<Pieces> pieces = Split(text);
  if (!pieces) return true;
  const char decimal = DecimalOf(pieces->digits);
  if (decimal == '\0') return true;
  if (style_.certain && style_.decimal != decimal) return false;
  style_ = {decimal, true};
  return true;
}

std::optional<ParsedNumber> ParseNumber(std::string_view text, NumberStyle style) {
  const std::optional<Pieces> pieces = Split(text);
  if (!pieces) return {};
  const std::string& all = pieces->digits;
  const size_t at = all.find(style.decimal);
  const std::string_view fraction = at == std::string::npos ? std::string_view() : std::string_view(all).substr(at + 1);
  if (!std::all_of(fraction.begin(), fraction.end(), IsDigit)) return {};
  std::optional<std::string> digits =
      Ungrouped(std::string_view(all).substr(0, std::min(at, all.size())), style.decimal == '.' ? ',' : '.');
  if (!digits) return {};
  const size_t significant = fraction.find_last_not_of('0') + 1;  // 1,234.000000 is a whole number
  const int exponent = pieces->exponent - static_cast<int>(significant);
  *digits += fraction.substr(0, significant);
  // from_chars reads the digits with one rounding, so whole numbers up to 2^53 are exact.
  const std::string plain = (pieces->negative ? "-" : "") + *digits + "e" + std::to_string(exponent);
  ParsedNumber number;
  const auto [end, error] = std::from_chars(plain.data(), plain.data() + plain.size(), number.value);
  if (error != std::errc() || end != plain.data() + plain.size()) return {};
  const int printed = pieces->exponent - static_cast<int>(fraction.size());
  if (significant > 0 || pieces->exponent > 0 || printed < 0) number.step = std::pow(10.0, printed);
  return number;
}

std::optional<double> UnitFactor(std::string_view unit, std::string_view dimension) {
  if (unit.empty() || unit == dimension) return 1;
  if (dimension == "second") {
    struct Time {
      std::string_view name, long_name;
      double seconds;
    };
    constexpr Time kTimes[] = {{"s", "sec", 1},
                               {"ms", "msecond", 1e-3},
                               {"us", "usecond", 1e-6},
                               {"ns", "nsecond", 1e-9},
                               {"\xC2\xB5s", "\xCE\xBCs", 1e-6}};  // micro sign, Greek mu
    for (const Time& time : kTimes) {
      if (unit == time.name || unit == time.long_name) return time.seconds;
    }
    return {};
  }
  constexpr std::string_view kPrefixes = "KMGTP";
  const size_t power = kPrefixes.find(unit[0] == 'k' ? 'K' : unit[0]);
  if (power != std::string_view::npos && unit.substr(1) == dimension) {
    return std::pow(1000.0, static_cast<double>(power) + 1);
  }
  return {};
}

}  // namespace bitflash::data
