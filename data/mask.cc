#include "data/mask.h"

#include <charconv>

#include "data/error.h"

namespace bitflash::data {
namespace {

constexpr std::string_view kAccepted =
    "expected full, causal, causal-top-left or window(LEFT,RIGHT) with LEFT and RIGHT >= 0, or -1 for no limit";

std::string_view Trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

// Parses a whole window side; false unless it is an integer >= -1.
bool ParseSide(std::string_view text, int64_t& side) {
  text = Trimmed(text);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), side);
  return error == std::errc() && end == text.data() + text.size() && side >= Mask::kUnlimited;
}

}  // namespace

std::string ToString(const Mask& mask) {
  switch (mask.kind) {
    case Mask::Kind::kFull:
      return "full";
    case Mask::Kind::kCausal:
      return "causal";
    case Mask::Kind::kCausalTopLeft:
      return "causal-top-left";
    case Mask::Kind::kWindow:
      break;
  }
  return "window(" + std::to_string(mask.left) + "," + std::to_string(mask.right) + ")";
}

Mask ParseMask(std::string_view text) {
  if (text == "full") return Mask::Full();
  if (text == "causal") return Mask::Causal();
  if (text == "causal-top-left") return Mask::CausalTopLeft();
  constexpr std::string_view kOpen = "window(";
  if (text.starts_with(kOpen) && text.ends_with(")")) {
    const std::string_view sides = text.substr(kOpen.size(), text.size() - kOpen.size() - 1);
    const size_t comma = sides.find(',');
    Mask mask = Mask::Window(0, 0);
    if (comma != std::string_view::npos && ParseSide(sides.substr(0, comma), mask.left) &&
        ParseSide(sides.substr(comma + 1), mask.right)) {
      return mask;
    }
  }
  throw UsageError("invalid mask '" + std::string(text) + "': " + std::string(kAccepted));
}

}  // namespace bitflash::data
