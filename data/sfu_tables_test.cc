#include "data/sfu_tables.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>

#include "data/error.h"

namespace bitflash::data {
namespace {

TEST_CASE("the built-in tables start where their functions do") {
  const SfuTables& tables = BuiltInSfuTables();
  // 2^0, 1/1 and 1/sqrt(1) are 1, log2(1) is 0; c0 has 25, 26, 25 and 26 fraction bits; neighbours descend or ascend.
  CHECK(std::abs(tables.ex2.c0[0] - (1 << 25)) < 8);
  CHECK(std::abs(tables.rcp.c0[0] - (1 << 26)) < 8);
  CHECK(std::abs(tables.lg2.c0[0]) < 8);
  CHECK(std::is_sorted(tables.ex2.c0.begin(), tables.ex2.c0.end()));
  CHECK(std::is_sorted(tables.lg2.c0.begin(), tables.lg2.c0.end()));
  CHECK(std::is_sorted(tables.rcp.c0.rbegin(), tables.rcp.c0.rend()));
}

TEST_CASE("broken tables are refused by line") {
  const auto refused = [](const char* csv, const char* what) {
    CHECK_THROWS_WITH_AS(ParseSfuTables(csv), doctest::Contains(what), InputError);
  };
  refused("# comment\nex2,0,1,2", "line 2: 'ex2,0,1,2': expected function,row,c0,c1,c2");
  refused("ex2,0,1,2,3,4", "line 1");
  refused("ex2,0,1,x,3", "line 1");
  refused("ex2,0,1,99999999999,3", "line 1");
  refused("ex2,64,1,2,3", "row 64: expected less than 64");
  refused("sin,0,1,2,3", "unknown function 'sin'");
  refused("ex2,0,1,2,3\n", "1 rows: expected 384");
}

}  // namespace
}  // namespace bitflash::data
