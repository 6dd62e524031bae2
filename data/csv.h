// Comma-separated values (RFC 4180) record by record, with the place of every field for error messages.
//
// Why not a library: Debian 12 has two for C and C++. libcsv (LGPL) knows no positions and has no find_package;
// fast-cpp-csv-parser wants the columns at compile time and no line breaks in quotes. What is read here has columns
// that nobody knows before, begins in the middle of other output, and must be refused with a line and a column.
#ifndef BITFLASH_DATA_CSV_H_
#define BITFLASH_DATA_CSV_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/error.h"

namespace bitflash::data {

struct CsvField {
  std::string text;    // without its quotes
  int64_t column = 1;  // of its first byte in its line, from 1
};

struct CsvRecord {
  int64_t line = 1;  // where it begins, from 1
  std::vector<CsvField> fields;
};

// The exception "ORIGIN:LINE:COLUMN: WHAT".
InputError CsvError(std::string_view origin, int64_t line, int64_t column, std::string_view what);

// Goes through a text line by line or record by record; both may be mixed.
class CsvReader {
 public:
  // Errors begin with `origin` ("FILE"). The text must outlive the reader. A byte-order mark is skipped.
  CsvReader(std::string_view text, std::string_view origin, char separator = ',');

  bool at_end() const { return at_ == text_.size(); }
  int64_t line() const { return line_; }
  std::string_view origin() const { return origin_; }
  void set_separator(char separator) { separator_ = separator; }

  // The rest of the current line, without its end (\n or \r\n); nothing is consumed.
  std::string_view PeekLine() const;
  void SkipLine();

  // The record that begins here: one line, or more when quoted fields hold line breaks. Throws InputError when a quote
  // is not closed or is followed by more text. Must not be at the end.
  CsvRecord Read();

 private:
  void ReadQuoted(CsvField& field);
  int64_t ColumnOf(size_t at) const { return static_cast<int64_t>(at - line_begin_) + 1; }
  void NewLine() { ++line_, line_begin_ = at_; }

  std::string_view text_;
  std::string origin_;
  char separator_;
  size_t at_ = 0, line_begin_ = 0;
  int64_t line_ = 1;
};

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_CSV_H_
