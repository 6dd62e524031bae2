// Hexadecimal bit patterns in lines of text, read and written fast enough for streams.
#ifndef BITFLASH_VERIFY_CLI_HEX_H_
#define BITFLASH_VERIFY_CLI_HEX_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace bitflash::verify {

// The value of a digit by its character; 0xFF for every other character.
inline constexpr std::array<uint8_t, 256> kHexDigitValue = [] {
  std::array<uint8_t, 256> values{};
  values.fill(0xFF);
  for (int i = 0; i < 10; ++i) values['0' + i] = static_cast<uint8_t>(i);
  for (int i = 0; i < 6; ++i) values['a' + i] = values['A' + i] = static_cast<uint8_t>(10 + i);
  return values;
}();

inline bool IsBlank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

enum class HexToken : uint8_t { kValue, kEndOfLine, kBad };

// Reads the next token of a line that ends with '\n': one to eight digits, with or without 0x. `at` moves behind it; on
// kBad it stays at its first character.
inline HexToken NextHex(const char*& at, uint32_t& value) {
  while (IsBlank(*at)) ++at;
  if (*at == '\n') return HexToken::kEndOfLine;
  const char* digit = at;
  if (digit[0] == '0' && (digit[1] == 'x' || digit[1] == 'X')) digit += 2;
  const char* const first = digit;
  uint32_t bits = 0;
  for (uint8_t d; (d = kHexDigitValue[static_cast<uint8_t>(*digit)]) < 16; ++digit) bits = bits << 4 | d;
  if (digit == first || digit - first > 8 || !(IsBlank(*digit) || *digit == '\n')) return HexToken::kBad;
  at = digit;
  value = bits;
  return HexToken::kValue;
}

// The characters of the token at `at`, for a message.
inline std::string_view TokenAt(const char* at) {
  const char* end = at;
  while (!IsBlank(*end) && *end != '\n') ++end;
  return {at, static_cast<size_t>(end - at)};
}

// Appends a line of `digits` lower-case digits.
inline void AppendHexLine(std::string& text, uint32_t bits, int digits) {
  char line[9];
  for (int i = digits; i-- > 0; bits >>= 4) line[i] = "0123456789abcdef"[bits & 15];
  line[digits] = '\n';
  text.append(line, static_cast<size_t>(digits) + 1);
}

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_HEX_H_
