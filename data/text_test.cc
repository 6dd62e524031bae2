#include "data/text.h"

#include <doctest/doctest.h>

namespace bitflash::data {
namespace {

TEST_CASE("well-formed UTF-8 is told from everything else") {
  for (const char* text :
       {"", "a", "\xC3\xA4", "\xE2\x82\xAC", "\xF0\x9F\x98\x80", "\xED\x9F\xBF", "\xF4\x8F\xBF\xBF"}) {
    CAPTURE(text);
    CHECK(IsUtf8(text));
  }
  // A lone tail, overlong forms, a surrogate, beyond U+10FFFF, cut off, a wrong tail.
  for (const char* text :
       {"\x80", "\xC0\xAF", "\xC1\xBF", "\xE0\x80\xAF", "\xF0\x80\x80\xAF", "\xED\xA0\x80", "\xF4\x90\x80\x80",
        "\xF5\x80\x80\x80", "\xFF", "\xC3", "\xE2\x82", "\xF0\x9F\x98", "\xE2(\xA1", "a\xC3z"}) {
    CAPTURE(text);
    CHECK_FALSE(IsUtf8(text));
  }
}

TEST_CASE("quoting keeps text and disarms the rest") {
  CHECK(Quoted("q/\xC3\xA4") == "'q/\xC3\xA4'");
  CHECK(Quoted("\x1B[31m\n\xFF\x7F") == "'\\x1b[31m\\x0a\\xff\\x7f'");
  CHECK(Quoted("\xC2\x9B") == "'\\xc2\\x9b'");  // U+009B is a terminal's escape sequence introducer
  CHECK(Quoted(std::string_view("\0", 1)) == "'\\x00'");
  const std::string quoted = Quoted(std::string(1000, 'a') + "end");
  CHECK(quoted.size() < 130);
  CHECK(quoted.find("...") != std::string::npos);
  CHECK(quoted.ends_with("end'"));
}

TEST_CASE("counted things have their plural") {
  CHECK(Counted(0, "element") == "0 elements");
  CHECK(Counted(1, "element") == "1 element");
  CHECK(Counted(-1, "element") == "-1 elements");
}

}  // namespace
}  // namespace bitflash::data
