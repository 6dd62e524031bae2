#include "verify/cli/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace bitflash::verify {
namespace {

struct CodeRange {
  uint32_t first, last;
};

// EastAsianWidth.txt (Unicode 15), classes W and F, with neighbouring blocks merged where the gaps are unassigned.
constexpr CodeRange kWide[] = {
    {0x1100, 0x115F},   {0x231A, 0x231B},   {0x2329, 0x232A},   {0x23E9, 0x23EC},   {0x23F0, 0x23F0},
    {0x23F3, 0x23F3},   {0x25FD, 0x25FE},   {0x2614, 0x2615},   {0x2648, 0x2653},   {0x267F, 0x267F},
    {0x2693, 0x2693},   {0x26A1, 0x26A1},   {0x26AA, 0x26AB},   {0x26BD, 0x26BE},   {0x26C4, 0x26C5},
    {0x26CE, 0x26CE},   {0x26D4, 0x26D4},   {0x26EA, 0x26EA},   {0x26F2, 0x26F3},   {0x26F5, 0x26F5},
    {0x26FA, 0x26FA},   {0x26FD, 0x26FD},   {0x2705, 0x2705},   {0x270A, 0x270B},   {0x2728, 0x2728},
    {0x274C, 0x274C},   {0x274E, 0x274E},   {0x2753, 0x2755},   {0x2757, 0x2757},   {0x2795, 0x2797},
    {0x27B0, 0x27B0},   {0x27BF, 0x27BF},   {0x2B1B, 0x2B1C},   {0x2B50, 0x2B50},   {0x2B55, 0x2B55},
    {0x2E80, 0x303E},   {0x3041, 0x3247},   {0x3250, 0x4DBF},   {0x4E00, 0xA4C6},   {0xA960, 0xA97C},
    {0xAC00, 0xD7A3},   {0xF900, 0xFAFF},   {0xFE10, 0xFE19},   {0xFE30, 0xFE6B},   {0xFF01, 0xFF60},
    {0xFFE0, 0xFFE6},   {0x16FE0, 0x16FF1}, {0x17000, 0x18CD5}, {0x1AFF0, 0x1B2FB}, {0x1F004, 0x1F004},
    {0x1F0CF, 0x1F0CF}, {0x1F18E, 0x1F18E}, {0x1F191, 0x1F19A}, {0x1F200, 0x1F320}, {0x1F32D, 0x1F335},
    {0x1F337, 0x1F37C}, {0x1F37E, 0x1F393}, {0x1F3A0, 0x1F3CA}, {0x1F3CF, 0x1F3D3}, {0x1F3E0, 0x1F3F0},
    {0x1F3F4, 0x1F3F4}, {0x1F3F8, 0x1F43E}, {0x1F440, 0x1F440}, {0x1F442, 0x1F4FC}, {0x1F4FF, 0x1F53D},
    {0x1F54B, 0x1F567}, {0x1F57A, 0x1F57A}, {0x1F595, 0x1F596}, {0x1F5A4, 0x1F5A4}, {0x1F5FB, 0x1F64F},
    {0x1F680, 0x1F6C5}, {0x1F6CC, 0x1F6CC}, {0x1F6D0, 0x1F6DF}, {0x1F6EB, 0x1F6EC}, {0x1F6F4, 0x1F7F0},
    {0x1F90C, 0x1F9FF}, {0x1FA70, 0x1FAF8}, {0x20000, 0x3FFFD}};

// Combining marks and invisible characters that occur in Latin and CJK text; other scripts are not written here.
constexpr CodeRange kZeroWidth[] = {{0x0300, 0x036F}, {0x200B, 0x200F}, {0x202A, 0x202E}, {0x2060, 0x2064},
                                    {0x20D0, 0x20F0}, {0x302A, 0x302D}, {0x3099, 0x309A}, {0xFE00, 0xFE0F},
                                    {0xFE20, 0xFE2F}, {0xFEFF, 0xFEFF}};

template <size_t n>
bool In(const CodeRange (&ranges)[n], uint32_t code) {
  const CodeRange* range =
      std::lower_bound(ranges, ranges + n, code, [](const CodeRange& r, uint32_t c) { return r.last < c; });
  return range != ranges + n && range->first <= code;
}

// One unit of text that must not be taken apart: a character, or a colour sequence.
struct Glyph {
  std::string_view bytes;
  uint32_t code = 0;  // 0 for a colour sequence
  int width = 0;
};

Glyph NextGlyph(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  if (text.size() >= 2 && text[0] == '\x1b' && text[1] == '[') {
    size_t end = 2;
    while (end < text.size() && byte(end) < 0x40) ++end;
    return {text.substr(0, std::min(end + 1, text.size())), 0, 0};
  }
  const int length = byte(0) < 0x80 ? 1 : byte(0) >= 0xF0 ? 4 : byte(0) >= 0xE0 ? 3 : byte(0) >= 0xC2 ? 2 : 0;
  bool valid = length > 0 && byte(0) < 0xF5 && static_cast<size_t>(length) <= text.size();
  uint32_t code = length <= 1 ? byte(0) : byte(0) & (0x7Fu >> length);
  for (int i = 1; valid && i < length; ++i) {
    valid = (byte(i) & 0xC0) == 0x80;
    code = code << 6 | (byte(i) & 0x3F);
  }
  // RFC 3629, section 3: no longer form than needed, no surrogates, nothing above U+10FFFF.
  constexpr uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  valid = valid && code >= kLeast[length] && code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF);
  if (!valid) return {text.substr(0, 1), 0xFFFD, 1};
  return {text.substr(0, length), code, In(kZeroWidth, code) ? 0 : In(kWide, code) ? 2 : 1};
}

// Characters that are no text: the C1 controls, which some terminals obey as they do ESC [, line and paragraph
// separators, and the controls of writing direction, which can make a line read as another (Unicode Technical Report
// 36, 3.2).
constexpr CodeRange kUnprintable[] = {{0x80, 0x9F}, {0x200E, 0x200F}, {0x2028, 0x202E}, {0x2066, 0x2069}};

bool ClosesAPhrase(uint32_t code) {
  constexpr uint32_t kClosing[] = {0x3001, 0x3002, 0x3009, 0x300B, 0x300D, 0x300F, 0x3011, 0xFF01,
                                   0xFF09, 0xFF0C, 0xFF1A, 0xFF1B, 0xFF1F, 0x201D, 0x2019};
  return std::find(std::begin(kClosing), std::end(kClosing), code) != std::end(kClosing);
}

bool OpensAPhrase(uint32_t code) {
  constexpr uint32_t kOpening[] = {0x3008, 0x300A, 0x300C, 0x300E, 0x3010, 0xFF08, 0x201C, 0x2018};
  return std::find(std::begin(kOpening), std::end(kOpening), code) != std::end(kOpening);
}

// Pieces of a paragraph between which a line may end. A piece that follows a blank says so.
struct Piece {
  std::string text;
  int width = 0;
  bool after_blank = false;
};

std::vector<Piece> Pieces(std::string_view paragraph) {
  std::vector<Piece> pieces;
  bool blank = false, join = false, opened = false;
  while (!paragraph.empty()) {
    const Glyph glyph = NextGlyph(paragraph);
    paragraph.remove_prefix(glyph.bytes.size());
    if (glyph.code == ' ') {
      blank = true;
      join = false;
      continue;
    }
    const bool wide = glyph.width == 2;
    const bool sticks = glyph.width == 0 || ClosesAPhrase(glyph.code) || opened;
    if (!pieces.empty() && !blank && ((join && !wide) || sticks)) {
      pieces.back().text += glyph.bytes;
      pieces.back().width += glyph.width;
    } else {
      pieces.push_back({std::string(glyph.bytes), glyph.width, blank});
    }
    join = !wide;  // a narrow character continues a word; a wide one may be followed by a line break
    opened = OpensAPhrase(glyph.code);
    blank = false;
  }
  return pieces;
}

}  // namespace

int DisplayWidth(std::string_view text) {
  int width = 0;
  while (!text.empty()) {
    const Glyph glyph = NextGlyph(text);
    width += glyph.width;
    text.remove_prefix(glyph.bytes.size());
  }
  return width;
}

std::string Pad(std::string_view text, int width, Align align) {
  const std::string blanks(std::max(0, width - DisplayWidth(text)), ' ');
  return align == Align::kLeft ? std::string(text) + blanks : blanks + std::string(text);
}

std::string Wrap(std::string_view text, int width, std::string_view indent) {
  std::string wrapped;
  const int indent_width = DisplayWidth(indent);
  while (true) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string line;
    int line_width = indent_width;
    for (const Piece& piece : Pieces(text.substr(0, end))) {
      const int blank = !line.empty() && piece.after_blank;
      if (!line.empty() && line_width + blank + piece.width > width) {
        wrapped += std::string(indent) + line + "\n";
        line.clear();
        line_width = indent_width;
      } else if (blank) {
        line += ' ';
        line_width += 1;
      }
      line += piece.text;
      line_width += piece.width;
    }
    wrapped += (line.empty() ? "" : std::string(indent) + line) + "\n";
    if (end == text.size()) return wrapped;
    text.remove_prefix(end + 1);
  }
}

std::string Paint(std::string_view text, Colour colour, bool enabled) {
  if (!enabled || text.empty()) return std::string(text);
  constexpr int kSgr[] = {1, 2, 31, 32, 33, 36};  // ECMA-48, 8.3.117, in the order of Colour
  return fmt::format("\x1b[{}m{}\x1b[0m", kSgr[static_cast<int>(colour)], text);
}

std::string Printable(std::string_view text) {
  std::string safe;
  while (!text.empty()) {
    const auto byte = static_cast<unsigned char>(text[0]);
    if (byte < 0x20 || byte == 0x7F) {
      safe += byte == '\n' ? "\\n" : byte == '\t' ? "\\t" : fmt::format("\\x{:02x}", byte);
      text.remove_prefix(1);
      continue;
    }
    const Glyph glyph = NextGlyph(text);
    if (glyph.code == 0xFFFD && glyph.bytes.size() == 1) {  // not UTF-8
      safe += fmt::format("\\x{:02x}", byte);
    } else if (In(kUnprintable, glyph.code)) {
      safe += fmt::format("\\u{:04x}", glyph.code);
    } else {
      safe += glyph.bytes;
    }
    text.remove_prefix(glyph.bytes.size());
  }
  return safe;
}

std::string ShellWord(std::string_view word) {
  constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:,=+@%";
  if (!word.empty() && word.find_first_not_of(kPlain) == word.npos) return std::string(word);
  std::string quoted = "'";
  for (const char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

std::string Shorten(std::string_view text) {
  constexpr size_t kHead = 400, kTail = 1600;  // bytes; the accepted values stand at the end of a message
  if (text.size() <= kHead + kTail + 100) return std::string(text);
  const auto continues = [&](size_t at) { return (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80; };
  size_t head = kHead, tail = text.size() - kTail;
  while (head > 0 && continues(head)) --head;
  while (tail < text.size() && continues(tail)) ++tail;
  return fmt::format("{}[... {} bytes ...]{}", text.substr(0, head), tail - head, text.substr(tail));
}

}  // namespace bitflash::verify
