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

inline bool EndsToken(char c) { return IsBlank(c) || c == '\n'; }

// The value of four digits in a row; false when one of them is none.
inline bool FourDigits(const char* digits, uint32_t& value) {
  const auto digit = [&](int i) -> uint32_t { return kHexDigitValue[static_cast<uint8_t>(digits[i])]; };
  const uint32_t d0 = digit(0), d1 = digit(1), d2 = digit(2), d3 = digit(3);
  value = d0 << 12 | d1 << 8 | d2 << 4 | d3;
  return (d0 | d1 | d2 | d3) < 16;
}

// Reads the next token of a line that ends with '\n': one to eight digits, with or without 0x. `at` moves behind it; on
// kBad it stays at its first character. kHexSlack bytes behind the line may be read.
inline constexpr int kHexSlack = 8;
inline HexToken NextHex(const char*& at, uint32_t& value) {
  while (IsBlank(*at)) ++at;
  if (*at == '\n') return HexToken::kEndOfLine;
  // Four and eight digits, as 16-bit and fp32 patterns have, without a branch for each.
  uint32_t high = 0, low = 0;
  if (FourDigits(at, high)) {
    if (EndsToken(at[4])) {
      at += 4;
      value = high;
      return HexToken::kValue;
    }
    if (FourDigits(at + 4, low) && EndsToken(at[8])) {
      at += 8;
      value = high << 16 | low;
      return HexToken::kValue;
    }
  }
  const char* digit = at;
  if (digit[0] == '0' && (digit[1] == 'x' || digit[1] == 'X')) digit += 2;
  const char* const first = digit;
  uint32_t bits = 0;
  for (uint8_t d; (d = kHexDigitValue[static_cast<uint8_t>(*digit)]) < 16; ++digit) bits = bits << 4 | d;
  if (digit == first || digit - first > 8 || !EndsToken(*digit)) return HexToken::kBad;
  at = digit;
  value = bits;
  return HexToken::kValue;
}

// The characters of the token at `at`, for a message.
inline std::string_view TokenAt(const char* at) {
  const char* end = at;
  while (!EndsToken(*end)) ++end;
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
