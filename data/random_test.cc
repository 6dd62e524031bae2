#include "data/random.h"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

namespace bitflash::data {
namespace {

TEST_CASE("elements equal values computed with Python's integers") {
  const struct {
    uint64_t seed, index, bits;
    float value;
  } rows[] = {{0, 0, 0xE220A8397B1DCDAF, 1.649627685546875f},
              {0, 1, 0x910A2DEC89025CC1, -0.713043212890625f},
              {100, 0, 0x33A55B466E3A3AA8, -1.563995361328125f},
              {100, 1, 0x03896E940CAF1446, -2.8509521484375f},
              {101, 12345, 0xE23BCED5996947BD, 1.142333984375f},
              {~uint64_t{0}, uint64_t{1} << 40, 0x36AB46630BE75111, -2.296630859375f}};
  for (const auto& row : rows) {
    CAPTURE(row.seed);
    CAPTURE(row.index);
    CHECK(HashBits(row.seed, row.index) == row.bits);
    CHECK(HashNormal(row.seed, row.index) == row.value);
  }
}

TEST_CASE("a part filled from any index equals that part of the whole; the moments are those of the definition") {
  std::vector<float> whole(200'000);
  FillHashNormal(42, 0, whole);
  std::vector<float> part(1003);
  FillHashNormal(42, 7777, part);
  bool equal = true;
  for (size_t k = 0; k < part.size(); ++k) equal &= part[k] == whole[7777 + k];
  CHECK(equal);

  double sum = 0, squares = 0;
  for (const float x : whole) {
    sum += x;
    squares += double{x} * x;
    REQUIRE(std::abs(x) < 4);
  }
  const double n = static_cast<double>(whole.size());
  const double mean = sum / n;
  CHECK(mean == doctest::Approx(0.002171188659667969).epsilon(1e-9));  // Python, same elements
  CHECK(std::sqrt(squares / n - mean * mean) == doctest::Approx(1.154887332326507).epsilon(1e-9));
  CHECK(std::abs(mean) < 4 * std::sqrt(4.0 / 3 / n));  // four standard errors of a mean of 0
}

}  // namespace
}  // namespace bitflash::data
