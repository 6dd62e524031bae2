// Text on a terminal: how many columns it takes, padding, wrapping, colour.
#ifndef BITFLASH_VERIFY_CLI_TEXT_H_
#define BITFLASH_VERIFY_CLI_TEXT_H_

#include <string>
#include <string_view>

namespace bitflash::verify {

// Columns that UTF-8 text takes on a terminal: 2 for wide and full-width characters (Unicode Standard Annex #11,
// classes W and F), 0 for combining marks and for colour sequences (ECMA-48 CSI ... m), 1 otherwise. Ambiguous
// characters are narrow. A byte that is not UTF-8 takes 1.
int DisplayWidth(std::string_view text);

enum class Align { kLeft, kRight };

// The text with spaces on its right (kLeft) or its left (kRight) up to `width` columns; longer text is unchanged.
std::string Pad(std::string_view text, int width, Align align);

// Paragraphs broken at spaces and between wide characters so that no line is wider than `width` columns (a single
// longer word is kept whole); each line starts with `indent`, no line ends with a blank, and closing punctuation never
// starts a line (GB/T 15834, section 5.1: a line does not begin with a full stop, comma or closing bracket).
std::string Wrap(std::string_view text, int width, std::string_view indent = "");

enum class Colour { kBold, kDim, kRed, kGreen, kYellow, kCyan };

// The text between its colour sequences when `enabled`, else unchanged.
std::string Paint(std::string_view text, Colour colour, bool enabled);

// User's bytes made safe to print on one line: control characters as \n, \t or \x1b, bytes that are not UTF-8 as \xff,
// C1 controls, line separators and controls of writing direction as \u202e.
std::string Printable(std::string_view text);

// The word as a shell takes it: in single quotes where it has characters that mean something to one.
std::string ShellWord(std::string_view word);

// A message that quotes a value of any length: beyond about 2000 bytes its middle is left out, and it says so.
std::string Shorten(std::string_view text);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_TEXT_H_
