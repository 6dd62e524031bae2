#include "data/text.h"

#include <cstddef>

namespace bitflash::data {
namespace {

// Length of the well-formed UTF-8 sequence at the start of `bytes`; 0 when there is none. Unicode 15, table 3-7.
size_t SequenceLength(std::string_view bytes) {
  const auto at = [&](size_t i) { return i < bytes.size() ? static_cast<unsigned char>(bytes[i]) : 0u; };
  const auto tail = [&](size_t i) { return at(i) >= 0x80 && at(i) <= 0xBF; };
  const unsigned first = at(0), second = at(1);
  if (first < 0x80) return bytes.empty() ? 0 : 1;
  if (first >= 0xC2 && first <= 0xDF) return tail(1) ? 2 : 0;
  if (first >= 0xE0 && first <= 0xEF) {
    const unsigned least = first == 0xE0 ? 0xA0 : 0x80;  // below: overlong
    const unsigned most = first == 0xED ? 0x9F : 0xBF;   // above: surrogates
    return second >= least && second <= most && tail(2) ? 3 : 0;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    const unsigned least = first == 0xF0 ? 0x90 : 0x80;  // below: overlong
    const unsigned most = first == 0xF4 ? 0x8F : 0xBF;   // above: beyond U+10FFFF
    return second >= least && second <= most && tail(2) && tail(3) ? 4 : 0;
  }
  return 0;
}

std::string Escaped(std::string_view text) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string escaped;
  while (!text.empty()) {
    const auto byte = static_cast<unsigned char>(text[0]);
    size_t length = SequenceLength(text);
    // C1 control characters, U+0080 to U+009F, are C2 80 to C2 9F; terminals obey some of them.
    const bool control =
        byte < 0x20 || byte == 0x7F || (byte == 0xC2 && length == 2 && static_cast<unsigned char>(text[1]) < 0xA0);
    if (length == 0 || control) {
      length = 1;
      escaped += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    } else {
      escaped += text.substr(0, length);
    }
    text.remove_prefix(length);
  }
  return escaped;
}

}  // namespace

bool IsUtf8(std::string_view bytes) {
  while (!bytes.empty()) {
    const size_t length = SequenceLength(bytes);
    if (length == 0) return false;
    bytes.remove_prefix(length);
  }
  return true;
}

std::string Quoted(std::string_view text) {
  constexpr size_t kMost = 120, kEnd = 40;
  if (text.size() <= kMost) return "'" + Escaped(text) + "'";
  return "'" + Escaped(text.substr(0, kMost - kEnd)) + "..." + Escaped(text.substr(text.size() - kEnd)) + "'";
}

std::string Counted(int64_t n, std::string_view what) {
  return std::to_string(n) + " " + std::string(what) + (n == 1 ? "" : "s");
}

}  // namespace bitflash::data
