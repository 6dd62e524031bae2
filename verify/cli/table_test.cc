#include "verify/cli/table.h"

#include <doctest/doctest.h>

#include <sstream>

namespace bitflash::verify {
namespace {

TEST_CASE("columns line up and no line ends with a blank") {
  Table table({{"level", Align::kLeft}, {"bytes", Align::kRight}, {"note", Align::kLeft}});
  table.Row({"hbm", "1", "x"});
  table.Rule();
  table.Row({"register", "12345"});
  CHECK(table.ToString() ==
        "level     bytes  note\n"
        "hbm           1  x\n"
        "---------------------\n"
        "register  12345\n");
}

TEST_CASE("wide characters line up by columns") {
  Table table({{"层级", Align::kLeft}, {"字节", Align::kRight}});
  table.Row({"显存", "16"});
  table.Row({"L2", "1,024"});
  CHECK(table.ToString() ==
        "层级   字节\n"
        "显存     16\n"
        "L2    1,024\n");
}

TEST_CASE("colour changes no column") {
  const auto make = [](bool colour) {
    Table table({{"a", Align::kLeft}, {"b", Align::kRight}, {"c", Align::kLeft}});
    table.Row({Paint("one", Colour::kRed, colour), Paint("2", Colour::kGreen, colour), "z"});
    table.Row({"three", "44444", Paint("y", Colour::kDim, colour)});
    return table.ToString(colour, 2);
  };
  std::istringstream plain(make(false)), painted(make(true));
  std::string a, b;
  int lines = 0;
  while (std::getline(plain, a)) {
    REQUIRE(std::getline(painted, b));
    CHECK(DisplayWidth(a) == DisplayWidth(b));
    CHECK(a.substr(0, 2) == "  ");
    CHECK(a.back() != ' ');
    ++lines;
  }
  CHECK(lines == 3);
}

TEST_CASE("a table without titles has no title line; an empty row is an empty line") {
  Table table({{"", Align::kLeft}, {"", Align::kRight}});
  table.Row({"q", "1"});
  table.Row({});
  table.Row({"", "22"});
  CHECK(table.ToString() == "q   1\n\n   22\n");
}

}  // namespace
}  // namespace bitflash::verify
