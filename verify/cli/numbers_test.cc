#include "verify/cli/numbers.h"

#include <doctest/doctest.h>

#include <limits>

#include "data/error.h"

namespace bitflash::verify {
namespace {

using data::UsageError;
using Values = std::vector<int64_t>;

Values Sweep(std::string_view text) { return ParseSweep("--n", text, 1, 1 << 20); }

TEST_CASE("a sweep is a number, a list, or a geometric or arithmetic range with its end included when hit") {
  CHECK(Sweep("512") == Values{512});
  CHECK(Sweep("512,1024,7") == Values{512, 1024, 7});
  CHECK(Sweep("512:4096:x2") == Values{512, 1024, 2048, 4096});
  CHECK(Sweep("512:4095:x2") == Values{512, 1024, 2048});
  CHECK(Sweep("512:2048:+512") == Values{512, 1024, 1536, 2048});
  CHECK(Sweep("1:10:+4") == Values{1, 5, 9});
  CHECK(Sweep("3:3:x2") == Values{3});
  CHECK(Sweep("1:1048576:x1024") == Values{1, 1024, 1048576});
}

TEST_CASE("wrong sweeps are refused") {
  for (const char* text : {"",
                           ",",
                           "1,",
                           ",1",
                           "1,,2",
                           "a",
                           "1:2",
                           "1:2:",
                           "1:2:3",
                           "1:2:x",
                           "1:2:x1",
                           "1:2:+0",
                           "1:2:-1",
                           "4:2:x2",
                           "0:4:+1",
                           "1:2000000:+1000000",
                           "1:8:x2:9",
                           ":8:x2",
                           "1::x2",
                           "1:8:*2",
                           "-1",
                           "1.5",
                           " 1",
                           "1 ",
                           "99999999999999999999",
                           "1:9:x99999999999999999999",
                           "1:1048576:+1"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(Sweep(text), UsageError);
  }
}

TEST_CASE("a range near the largest number ends without overflow") {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  CHECK(ParseSweep("--n", "9223372036854775806:9223372036854775807:+9", 1, kMost).size() == 1);
  CHECK(ParseSweep("--n", "4611686018427387904:9223372036854775807:x2", 1, kMost).size() == 1);
}

TEST_CASE("counts have digits only and limits") {
  CHECK(ParseCount("--n", "0", 0, 5) == 0);
  CHECK(ParseCount("--n", "5", 0, 5) == 5);
  for (const char* text : {"", "6", "-1", "+1", "1e3", "0x10", "1 ", " 1", "1.0", "nan", "\xff"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(ParseCount("--n", text, 0, 5), UsageError);
  }
}

TEST_CASE("seeds are 64 bits, decimal or hexadecimal") {
  CHECK(ParseSeed("--seed", "18446744073709551615") == 18446744073709551615u);
  CHECK(ParseSeed("--seed", "0xff") == 255);
  for (const char* text : {"", "-1", "0x", "18446744073709551616", "0xg", "1.5"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(ParseSeed("--seed", text), UsageError);
  }
}

TEST_CASE("positive numbers and tiles") {
  CHECK(ParsePositive("--x", "0.125") == 0.125);
  CHECK(ParsePositive("--x", "1e-3") == 0.001);
  for (const char* text : {"", "0", "-1", "nan", "inf", "1x", "1e999", "0x1p3"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(ParsePositive("--x", text), UsageError);
  }
  CHECK(ParseTile("--tile", "128x64") == std::pair<int64_t, int64_t>(128, 64));
  for (const char* text : {"", "128", "x", "128x", "x64", "128X64", "0x64", "-1x64", "128x64x2", "128 x 64", "1e3x4"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(ParseTile("--tile", text), UsageError);
  }
}

}  // namespace
}  // namespace bitflash::verify
