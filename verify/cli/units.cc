#include "verify/cli/units.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace bitflash::verify {
namespace {

// Three significant digits of a value in [1, 1000).
std::string ThreeDigits(double value) {
  // The limits are where the shorter form would round up to the next digit.
  const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return fmt::format("{:.{}f}", value, decimals);
}

std::string WithSeparators(const std::string& digits) {
  const size_t start = digits[0] == '-' ? 1 : 0;
  const size_t end = std::min(digits.find('.'), digits.size());
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > start && i < end && (end - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

}  // namespace

std::string Bytes(int64_t bytes) {
  constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (std::llabs(bytes) < 1024) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes) / 1024;
  int unit = 0;
  // 1023.95 KiB would print as 1024.0 KiB.
  while (std::fabs(value) >= 1023.95 && unit < 5) {
    value /= 1024;
    ++unit;
  }
  return fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string Mebibytes(int64_t bytes, int decimals) {
  return WithSeparators(fmt::format("{:.{}f}", static_cast<double>(bytes) / (1 << 20), decimals)) + " MiB";
}

std::string Grouped(int64_t count) { return WithSeparators(fmt::format("{}", count)); }

std::string Prefixed(double value) {
  if (!std::isfinite(value)) return fmt::format("{}", value);
  if (value < 0) return fmt::format("-{}", Prefixed(-value));
  if (value == std::floor(value) && value < 1000) return fmt::format("{:.0f}", value);
  if (value < 1) return fmt::format("{:.3g}", value);
  constexpr const char* kPrefixes[] = {"", " k", " M", " G", " T", " P", " E"};
  int prefix = 0;
  while (value >= 999.5 && prefix < 6) {
    value /= 1000;
    ++prefix;
  }
  return ThreeDigits(value) + kPrefixes[prefix];
}

namespace {

// "998 FLOP" but "2.20 TFLOP": the prefix belongs to the unit.
std::string WithUnit(double value, const char* unit) {
  std::string text = Prefixed(value);
  const bool has_prefix = text.find(' ') != std::string::npos;
  return text + (has_prefix ? "" : " ") + unit;
}

}  // namespace

std::string Flop(double flop) { return WithUnit(flop, "FLOP"); }
std::string FlopPerSecond(double rate) { return WithUnit(rate, "FLOP/s"); }
std::string BytesPerSecond(double rate) { return WithUnit(rate, "B/s"); }

std::string Seconds(double seconds) {
  if (seconds == 0) return "0 s";
  if (seconds < 0) return fmt::format("-{}", Seconds(-seconds));
  if (!std::isfinite(seconds)) return fmt::format("{} s", seconds);
  constexpr const char* kUnits[] = {"ns", "us", "ms"};
  double value = seconds * 1e9;
  if (value < 0.9995) return fmt::format("{:.3g} ns", value);
  for (const char* unit : kUnits) {
    if (value < 999.5) return ThreeDigits(value) + " " + unit;
    value /= 1000;
  }
  return (value < 999.5 ? ThreeDigits(value) : WithSeparators(fmt::format("{:.0f}", value))) + " s";
}

std::string Percent(double share) {
  const double percent = share * 100;
  if (percent > 0 && percent < 0.05) return "<0.1 %";
  return fmt::format("{:.1f} %", percent);
}

std::string Factor(double factor) {
  if (!std::isfinite(factor)) return fmt::format("{} x", factor);
  if (factor < 1) return fmt::format("{:.2f} x", factor);
  return (factor < 999.5 ? ThreeDigits(factor) : WithSeparators(fmt::format("{:.0f}", factor))) + " x";
}

}  // namespace bitflash::verify
