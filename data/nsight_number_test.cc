#include "data/nsight_number.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

namespace bitflash::data {
namespace {

constexpr NumberStyle kEnglish{'.', true}, kGerman{',', true};

double Value(const char* text, NumberStyle style) {
  const auto number = ParseNumber(text, style);
  REQUIRE_MESSAGE(number.has_value(), text);
  return number->value;
}

TEST_CASE("numbers as locales group them") {
  for (const char* text : {"1,090,632,832", "1090632832", "1 090 632 832", "1'090'632'832",
                           "1\xC2\xA0"
                           "090\xC2\xA0"
                           "632\xC2\xA0"
                           "832",
                           "1\xE2\x80\xAF"
                           "090\xE2\x80\xAF"
                           "632\xE2\x80\xAF"
                           "832",
                           "1\xE2\x80\x99"
                           "090\xE2\x80\x99"
                           "632\xE2\x80\x99"
                           "832",
                           "1,09,06,32,832", "1,090,632,832.00", " +1090632832.000000 ", "1.090632832e+09"}) {
    CAPTURE(text);
    CHECK(Value(text, kEnglish) == 1090632832.0);
  }
  for (const char* text : {"1.090.632.832", "1.090.632.832,00", "1 090 632 832,0", "1090632832"}) {
    CAPTURE(text);
    CHECK(Value(text, kGerman) == 1090632832.0);
  }
  CHECK(Value("-0,5", kGerman) == -0.5);
  CHECK(Value(".5", kEnglish) == 0.5);
  CHECK(Value("1,234", kEnglish) == 1234);
  CHECK(Value("1,234", kGerman) == 1.234);
  CHECK(Value("9007199254740993", kEnglish) == 9007199254740992.0);  // 2^53 + 1 has no double
}

TEST_CASE("the step of the last printed digit") {
  CHECK(ParseNumber("1.09", kEnglish)->step == doctest::Approx(0.01));
  CHECK(ParseNumber("1.00", kEnglish)->step == doctest::Approx(0.01));  // 1 Gbyte, give or take
  CHECK(ParseNumber("1,090", kEnglish)->step == 0);
  CHECK(ParseNumber("1.1e+09", kEnglish)->step == doctest::Approx(1e8));
}

TEST_CASE("what is no number") {
  for (const char* text : {"",
                           " ",
                           "-",
                           ".",
                           ",",
                           "n/a",
                           "0x10",
                           "1,2,3",
                           "1,23",
                           "12,,345",
                           "1.2.3",
                           "1,234,",
                           ",234",
                           "1,2345",
                           "1e",
                           "1e999",
                           "--1",
                           "1 2",
                           "1\xC2"
                           "000",
                           "(1, 1, 1)",
                           "1.234,5"}) {
    CAPTURE(text);
    CHECK(!ParseNumber(text, kEnglish));
  }
  CHECK(!ParseNumber(std::string(200, '1'), kEnglish));
  CHECK(!ParseNumber("1,234.5", kGerman));
}

TEST_CASE("one telling number decides how a file writes them; a contradiction is noticed") {
  struct Case {
    std::vector<const char*> texts;
    char decimal;
    bool certain;
  };
  for (const Case& c : std::vector<Case>{{{"12", "1,234", "n/a"}, '.', false},
                                         {{"1,234", "1,234,567"}, '.', true},
                                         {{"1.234", "1.234.567"}, ',', true},
                                         {{"1.234", "51.05"}, '.', true},
                                         {{"1,234", "51,05"}, ',', true},
                                         {{"1.234,56"}, ',', true},
                                         {{"0,123"}, ',', true},
                                         {{"0.123"}, '.', true},
                                         {{"1 234,567"}, ',', true},
                                         {{"1234,567"}, ',', true}}) {
    StyleEvidence evidence;
    for (const char* text : c.texts) {
      CAPTURE(text);
      CHECK(evidence.Add(text));
    }
    CHECK(evidence.style().decimal == c.decimal);
    CHECK(evidence.style().certain == c.certain);
  }
  StyleEvidence evidence;
  CHECK(evidence.Add("1,234,567"));
  CHECK(evidence.Add("1,234"));
  CHECK(!evidence.Add("1,5"));
  CHECK(evidence.style().decimal == '.');
}

TEST_CASE("units") {
  CHECK(UnitFactor("byte", "byte") == 1);
  CHECK(UnitFactor("", "byte") == 1);
  CHECK(UnitFactor("Kbyte", "byte") == 1e3);
  CHECK(UnitFactor("Mbyte", "byte") == 1e6);
  CHECK(UnitFactor("Gbyte", "byte") == 1e9);
  CHECK(UnitFactor("Tbyte", "byte") == 1e12);
  CHECK(UnitFactor("Kbyte/block", "byte/block") == 1e3);
  CHECK(UnitFactor("sector", "sector") == 1);
  CHECK(UnitFactor("Minst", "inst") == 1e6);
  CHECK(UnitFactor("%", "%") == 1);
  for (const char* unit : {"us", "usecond", "\xC2\xB5s"}) CHECK(UnitFactor(unit, "second") == 1e-6);
  CHECK(UnitFactor("ns", "second") == 1e-9);
  CHECK(UnitFactor("ms", "second") == 1e-3);
  CHECK(UnitFactor("s", "second") == 1);
  for (const char* unit : {"sector", "Kbyte/second", "bytes", "Xbyte", "K"}) {
    CAPTURE(unit);
    CHECK(!UnitFactor(unit, "byte"));
  }
  CHECK(!UnitFactor("byte", "second"));
}

}  // namespace
}  // namespace bitflash::data
