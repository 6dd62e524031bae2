// Numbers as Nsight Compute prints them: grouped as the machine's locale says, with scaled units.
#ifndef BITFLASH_DATA_NSIGHT_NUMBER_H_
#define BITFLASH_DATA_NSIGHT_NUMBER_H_

#include <optional>
#include <string_view>

namespace bitflash::data {

// How a file writes numbers. A blank, an apostrophe or a no-break space only ever groups digits; a dot or a comma does
// one or the other, and "1,234" alone does not say which.
struct NumberStyle {
  char decimal = '.';    // '.' or ','; the other one groups
  bool certain = false;  // false: nothing in the file decides, 1,234 is read as Nsight writes it in English
};

// Collects evidence about the style of the numbers of one file.
class StyleEvidence {
 public:
  // False when `text` contradicts what was seen before ("1,5" after "1,234,567"). Text that is no number is ignored.
  bool Add(std::string_view text);
  NumberStyle style() const { return style_; }

 private:
  NumberStyle style_;
};

struct ParsedNumber {
  double value = 0;
  double step = 0;  // of the last printed digit: 0.01 for "1.09"; 0 for a whole number
};

// The number that the whole text is, or nothing.
std::optional<ParsedNumber> ParseNumber(std::string_view text, NumberStyle style);

// How many of `dimension` one `unit` is, or nothing: 1e6 for "Mbyte" and "byte"; 1e-6 for "us" or "usecond" and
// "second". An empty unit is the dimension itself. What a unit is divided by is part of both ("byte/block").
std::optional<double> UnitFactor(std::string_view unit, std::string_view dimension);

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_NSIGHT_NUMBER_H_
