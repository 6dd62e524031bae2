#include "sim/shared_layout.h"

#include <doctest/doctest.h>

#include <set>

#include "data/error.h"

namespace bitflash::sim {
namespace {

using data::Format;

TEST_CASE("shared layouts by name") {
  for (const char* name : {"row-major", "padded-16", "padded-2", "swizzle-32", "swizzle-64", "swizzle-128"}) {
    CHECK(ToString(ParseSharedLayout(name)) == name);
  }
  for (const char* name :
       {"", "padded-", "padded-0", "padded-x", "padded-4096", "padded-16x", "swizzle-16", "swizzle"}) {
    CAPTURE(name);
    CHECK_THROWS_WITH_AS(ParseSharedLayout(name), doctest::Contains("expected row-major, padded-N"), data::UsageError);
  }
}

TEST_CASE("every layout has a place of its own for every element, inside its bytes") {
  for (const char* name : {"row-major", "padded-16", "padded-4", "swizzle-32", "swizzle-64", "swizzle-128"}) {
    for (const int64_t rows : {1, 8, 12, 64}) {
      CAPTURE(name);
      CAPTURE(rows);
      const SharedTile tile(ParseSharedLayout(name), rows, 128, Format::kBf16);
      std::set<int64_t> places;
      for (int64_t row = 0; row < rows; ++row) {
        for (int64_t at = 0; at < tile.row_bytes(); at += 2) places.insert(tile.Offset(row, at));
      }
      CHECK(static_cast<int64_t>(places.size()) == rows * 128);
      CHECK(*places.begin() >= 0);
      if (rows % 8 == 0) CHECK(*places.rbegin() < tile.bytes());
    }
  }
}

// The image of a tile that gpu/ writes with TMA and reads with wgmma and ldmatrix: element (r, c) of a chunk of 64
// columns is at r * 128 + (((c / 8) ^ (r mod 8)) * 16) + (c mod 8) * 2.
TEST_CASE("swizzle-128 is TMA's image") {
  const SharedTile tile(ParseSharedLayout("swizzle-128"), 64, 128, Format::kFp16);
  for (int64_t r = 0; r < 64; ++r) {
    for (int64_t c = 0; c < 128; ++c) {
      const int64_t expected = c / 64 * (64 * 128) + r * 128 + (((c % 64 / 8) ^ (r & 7)) << 4) + c % 8 * 2;
      CHECK(tile.Offset(r, c * 2) == expected);
    }
  }
}

TEST_CASE("tiles that a layout cannot hold") {
  const auto refuse = [](const char* layout, int64_t rows, int64_t columns, Format format, const char* what) {
    CHECK_THROWS_WITH_AS(SharedTile(ParseSharedLayout(layout), rows, columns, format), doctest::Contains(what),
                         data::UsageError);
  };
  refuse("row-major", 0, 8, Format::kBf16, "expected at least 1x1");
  refuse("row-major", 8, int64_t{1} << 40, Format::kBf16, "expected at least 1x1");
  refuse("row-major", 1024, 1024, Format::kBf16, "has 2097152 bytes as row-major: expected at most 262144");
  refuse("swizzle-128", 64, 32, Format::kBf16, "swizzle-128 needs rows of a multiple of 128 bytes");
  refuse("padded-2", 64, 32, Format::kFp32, "padded-2: expected a multiple of an element of fp32, 4 bytes");
}

}  // namespace
}  // namespace bitflash::sim
