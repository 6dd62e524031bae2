#include "verify/cli/text.h"

#include <doctest/doctest.h>

namespace bitflash::verify {
namespace {

TEST_CASE("display width counts columns, not bytes or characters") {
  CHECK(DisplayWidth("") == 0);
  CHECK(DisplayWidth("HBM") == 3);
  CHECK(DisplayWidth("显存") == 4);
  CHECK(DisplayWidth("HBM 读取") == 8);
  CHECK(DisplayWidth("，。（）") == 8);     // full-width punctuation
  CHECK(DisplayWidth("ｆｌａｓｈ") == 10);  // full-width letters
  CHECK(DisplayWidth("ｶ") == 1);            // half-width katakana
  CHECK(DisplayWidth("한국어") == 6);
  CHECK(DisplayWidth("\U0001F600") == 2);  // an emoji
  CHECK(DisplayWidth("\U00020000") == 2);  // CJK extension B
  CHECK(DisplayWidth("e\u0301") == 1);     // e and a combining acute accent
  CHECK(DisplayWidth("×²µ") == 3);         // ambiguous and Latin-1 characters are narrow
  CHECK(DisplayWidth("\x1b[1;31mred\x1b[0m") == 3);
}

TEST_CASE("display width of bytes that are not UTF-8 is one column each") {
  CHECK(DisplayWidth("\xff\xfe") == 2);
  CHECK(DisplayWidth("a\xe6\x98") == 3);  // a truncated character
  CHECK(DisplayWidth("\xc0\x80") == 2);   // an overlong form
  CHECK(DisplayWidth("\x1b[") == 0);      // an unfinished colour sequence
}

TEST_CASE("the borders of the wide ranges") {
  CHECK(DisplayWidth("\u10ff") == 1);
  CHECK(DisplayWidth("\u1100") == 2);
  CHECK(DisplayWidth("\u115f") == 2);
  CHECK(DisplayWidth("\u1160") == 1);
  CHECK(DisplayWidth("\u303e") == 2);
  CHECK(DisplayWidth("\u303f") == 1);
  CHECK(DisplayWidth("\u4dc0") == 1);  // hexagram symbols stand between two wide blocks
  CHECK(DisplayWidth("\u9fff") == 2);
  CHECK(DisplayWidth("\uff60") == 2);
  CHECK(DisplayWidth("\uff61") == 1);
}

TEST_CASE("padding works on columns") {
  CHECK(Pad("显存", 6, Align::kLeft) == "显存  ");
  CHECK(Pad("显存", 6, Align::kRight) == "  显存");
  CHECK(Pad("too long", 3, Align::kRight) == "too long");
}

TEST_CASE("wrapping breaks at spaces and between wide characters, never before closing punctuation") {
  CHECK(Wrap("the scores never reach HBM", 12) == "the scores\nnever reach\nHBM\n");
  CHECK(Wrap("a  b", 10) == "a b\n");
  CHECK(Wrap("one\ntwo", 10, "  ") == "  one\n  two\n");
  CHECK(Wrap("unbreakable word", 4) == "unbreakable\nword\n");
  CHECK(Wrap("中间结果不写回显存", 8) == "中间结果\n不写回显\n存\n");
  CHECK(Wrap("中间结果，不写", 8) == "中间结\n果，不写\n");
  CHECK(Wrap("只读一次（每个头）", 10) == "只读一次\n（每个头）\n");
  CHECK(Wrap("只读一次“每个头”", 10).find("“\n") == std::string::npos);
  CHECK(Wrap("使用HBM带宽", 6) == "使用\nHBM带\n宽\n");
  CHECK(Wrap("", 8) == "\n");
}

TEST_CASE("paint writes nothing but the text when colours are off") {
  CHECK(Paint("x", Colour::kRed, false) == "x");
  CHECK(Paint("x", Colour::kRed, true) == "\x1b[31mx\x1b[0m");
  CHECK(Paint("", Colour::kRed, true).empty());
}

TEST_CASE("printable text has no control characters and is one line") {
  CHECK(Printable("a\nb\tc\x1b[31m\x7f") == "a\\nb\\tc\\x1b[31m\\x7f");
  CHECK(Printable("显存") == "显存");
  CHECK(Printable("\xff\xc3(\xe0\x80\x80") == "\\xff\\xc3(\\xe0\\x80\\x80");  // no UTF-8, nor its overlong forms
  CHECK(Printable("\xed\xa0\x80\xf4\x90\x80\x80") == "\\xed\\xa0\\x80\\xf4\\x90\\x80\\x80");  // a surrogate, U+110000
  CHECK(Printable("\u009b31m\u202eabc\u2028") == "\\u009b31m\\u202eabc\\u2028");
}

TEST_CASE("a word for a shell is quoted where it must be") {
  CHECK(ShellWord("--tile=128x64") == "--tile=128x64");
  CHECK(ShellWord("") == "''");
  CHECK(ShellWord("window(255,0)") == "'window(255,0)'");
  CHECK(ShellWord("it's $HOME") == "'it'\\''s $HOME'");
}

TEST_CASE("a long message keeps its start and its end, and no character is cut") {
  CHECK(Shorten("short") == "short");
  const std::string start = "--flag: '", end = "' is not one of: a, b";
  std::string middle;
  for (int i = 0; i < 5000; ++i) middle += "显";
  const std::string message = Shorten(start + middle + end);
  CHECK(message.size() < 2200);
  CHECK(message.rfind(start, 0) == 0);
  CHECK(message.substr(message.size() - end.size()) == end);
  CHECK(message.find(" bytes ...]") != std::string::npos);
  CHECK(Printable(message) == message);  // valid UTF-8
}

}  // namespace
}  // namespace bitflash::verify
