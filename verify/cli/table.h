// Tables for a terminal: columns line up by display width, no boxes, no trailing blanks.
#ifndef BITFLASH_VERIFY_CLI_TABLE_H_
#define BITFLASH_VERIFY_CLI_TABLE_H_

#include <string>
#include <vector>

#include "verify/cli/text.h"

namespace bitflash::verify {

class Table {
 public:
  struct Column {
    std::string title;  // all empty: no title line
    Align align = Align::kLeft;
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // Cells may hold colour sequences (Paint) and wide characters. Fewer cells than columns leave the rest empty; more
  // are a defect of the caller.
  void Row(std::vector<std::string> cells);
  // A line of dashes as wide as the table.
  void Rule();

  // Every line ends with '\n' and starts with `indent` blanks; titles are bold when `colour`.
  std::string ToString(bool colour = false, int indent = 0) const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;  // an empty row is a rule
};

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_TABLE_H_
