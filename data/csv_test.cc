#include "data/csv.h"

#include <doctest/doctest.h>

namespace bitflash::data {
namespace {

std::vector<std::string> Texts(const CsvRecord& record) {
  std::vector<std::string> texts;
  for (const CsvField& field : record.fields) texts.push_back(field.text);
  return texts;
}

using Row = std::vector<std::string>;

TEST_CASE("CSV: fields, quotes, line ends, and where a field is") {
  CsvReader reader(
      "\xEF\xBB\xBF"
      "a,\"b,\"\"c\"\"\",\r\n\"two\nlines\",d\nlast",
      "FILE");
  CsvRecord record = reader.Read();
  CHECK(Texts(record) == Row{"a", "b,\"c\"", ""});
  CHECK(record.line == 1);
  CHECK(record.fields[1].column == 3);
  record = reader.Read();
  CHECK(Texts(record) == Row{"two\nlines", "d"});
  CHECK(record.line == 2);
  CHECK(record.fields[1].column == 8);  // on the second of the two lines
  CHECK(reader.PeekLine() == "last");
  CHECK(reader.line() == 4);
  CHECK(Texts(reader.Read()) == Row{"last"});
  CHECK(reader.at_end());
}

TEST_CASE("CSV: other separators; lines that are no records are skipped") {
  CsvReader reader("not \"a record\nx;\"y;z\";\n", "FILE", ';');
  CHECK(reader.PeekLine() == "not \"a record");
  reader.SkipLine();
  CHECK(Texts(reader.Read()) == Row{"x", "y;z", ""});
  CHECK(reader.at_end());
}

TEST_CASE("CSV: broken quotes are refused with line and column") {
  const auto refuse = [](const char* text, const char* message) {
    CsvReader reader(text, "FILE");
    reader.SkipLine();
    CHECK_THROWS_WITH_AS(reader.Read(), message, InputError);
  };
  refuse("a\nb,\"c\n\nd", "FILE:2:3: a quote (\") is opened and never closed: expected a second one");
  refuse("a\n\"b\"x,c", "FILE:2:4: 'x' follows a closing quote: expected ',' or the end of the line");
  refuse("a\n\"b\n\"\x1b", "FILE:3:2: '\\x1b' follows a closing quote: expected ',' or the end of the line");
}

}  // namespace
}  // namespace bitflash::data
