#include "sim/tensor_core_simd.h"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

#include "data/error.h"
#include "data/simd_targets.h"
#include "sim/tensor_core_cases.h"
#include "sim/tensor_core_scalar.h"

namespace bitflash::sim {
namespace {

using data::Format;

// Runs `body` once per SIMD target that this CPU has and the library is compiled for.
void OnEveryTarget(const std::function<void()>& body) {
  for (const int64_t target : data::UsableTargets()) {
    const data::UseTarget use(target);
    CAPTURE(std::string(hwy::TargetName(target)));
    body();
  }
}

// Patterns of a matrix, stored as its format wants.
struct Patterns {
  Format format;
  int64_t rows, columns;
  std::vector<uint8_t> bytes;

  Patterns(Format f, int64_t r, int64_t c, const std::function<uint32_t()>& next) : format(f), rows(r), columns(c) {
    const size_t width = static_cast<size_t>(data::StorageBytes(f));
    bytes.resize(static_cast<size_t>(r * c) * width);
    for (int64_t i = 0; i < r * c; ++i) {
      const uint32_t bits = next();
      std::memcpy(bytes.data() + static_cast<size_t>(i) * width, &bits, width);  // little-endian
    }
  }
  MatrixView view() const { return MatrixView::RowMajor(bytes.data(), format, rows, columns); }
};

// D on vectors against D by the definition; names the first element that differs.
void CheckProduct(const TensorCore& core, const MatrixView& a, const MatrixView& b, const std::vector<float>& c) {
  std::vector<float> expected = c;
  MultiplyAddScalar(core, a, b, expected.data(), b.columns);
  PackedRows rows;
  PackedColumns columns;
  OnEveryTarget([&] {
    rows.Pack(a);
    columns.Pack(b);
    std::vector<float> computed = c;
    MultiplyAdd(core, rows, columns, computed.data(), b.columns);
    int64_t differ = 0, first = -1;
    for (size_t i = 0; i < c.size(); ++i) {
      if (std::bit_cast<uint32_t>(computed[i]) == std::bit_cast<uint32_t>(expected[i])) continue;
      ++differ;
      if (first < 0) first = static_cast<int64_t>(i);
    }
    if (differ == 0) return;
    const int64_t i = first / b.columns, j = first % b.columns;
    std::ostringstream products;
    for (int64_t k = 0; k < a.columns; ++k) products << " " << std::hex << a.Bits(i, k) << "*" << b.Bits(k, j);
    CAPTURE(ToString(core));
    CAPTURE(i);
    CAPTURE(j);
    CAPTURE(std::bit_cast<uint32_t>(c[first]));
    CAPTURE(products.str());
    CHECK(std::bit_cast<uint32_t>(computed[first]) == std::bit_cast<uint32_t>(expected[first]));
    CHECK(differ == 0);
  });
}

void CheckRandom(const TensorCore& core, int64_t m, int64_t n, int64_t k, const Spread& spread, uint64_t seed) {
  Random random(seed);
  const Patterns a(core.input, m, k, [&] { return RandomPattern(random, core.input, spread); });
  const Patterns b(core.input, k, n, [&] { return RandomPattern(random, core.input, spread); });
  std::vector<float> c(static_cast<size_t>(m * n));
  for (float& value : c) value = AccumulatorValue(core.accumulator, RandomPattern(random, core.accumulator, spread));
  CheckProduct(core, a.view(), b.view(), c);
}

TEST_CASE("every pair of interesting operands gives the bits of the definition on every target") {
  for (const TensorCore& core : AllTensorCores()) {
    if (core.arch == "sm86" || core.arch == "sm75") continue;  // the same arithmetic as sm80
    const auto operands = InterestingPatterns(core.input), addends = InterestingPatterns(core.accumulator);
    const int64_t count = static_cast<int64_t>(operands.size());
    Random random(1);
    for (const int64_t depth : {1, 2}) {
      // Row i holds operand i, column j operand j; a second product, where there is one, is any.
      size_t next = 0;
      const Patterns a(core.input, count, depth, [&, k = int64_t{0}]() mutable {
        return k++ % depth == 0 ? operands[next++] : operands[random.Next() % operands.size()];
      });
      next = 0;
      const Patterns b(core.input, count, depth, [&, k = int64_t{0}]() mutable {
        return k++ % depth == 0 ? operands[next++] : operands[random.Next() % operands.size()];
      });
      std::vector<float> c;
      for (int64_t i = 0; i < count * count; ++i) {
        c.push_back(AccumulatorValue(core.accumulator, addends[random.Next() % addends.size()]));
      }
      CheckProduct(core, a.view(), b.view().Transposed(), c);
      CheckProduct(core, a.view(), b.view().Transposed(), std::vector<float>(c.size()));
    }
  }
}

TEST_CASE("exponents at every distance, and at the ends of the fast path") {
  for (const Format format : {Format::kBf16, Format::kTf32}) {
    const TensorCore& core = FindTensorCore("sm90", format);
    // Row i has terms of exponents i and 0, column j scales both by 2^(j - 127): products from 2^-254 to 2^127.
    const int64_t steps = 24;
    Random random(2);
    const auto fraction = [&] {
      return static_cast<uint32_t>(random.Next()) & ((1u << data::Info(format).fraction_bits) - 1);
    };
    int64_t at = 0;
    const Patterns a(format, 60, 2 * steps, [&] {
      const int64_t i = at / (2 * steps), k = at++ % (2 * steps);
      return Pattern(format, random.Between(0, 1), static_cast<int>(127 - (k % 2 ? i : 0)), fraction());
    });
    at = 0;
    const Patterns b(format, 254, 2 * steps, [&] {
      return Pattern(format, random.Between(0, 1), static_cast<int>(1 + at++ / (2 * steps)), fraction());
    });
    CheckProduct(core, a.view(), b.view().Transposed(), std::vector<float>(60 * 254));
  }
}

TEST_CASE("exponents around the floor of emax") {
  for (const TensorCore& core : AllTensorCores()) {
    if (core.accumulator != Format::kFp32 || core.emax_floor == kNoEmaxFloor) continue;
    if (data::Info(core.input).exponent_bits != 8 || core.arch == "sm86") continue;  // others do not reach it
    // Row i and column j hold exponents up to -64 + i and -90 + j, the terms beside the first up to 25 below: products
    // from 2^-190 to 2^-107, the floor in the middle.
    const int64_t depth = 3 * core.products;
    Random random(3);
    const auto draw = [&](int64_t at, int greatest) {
      const uint32_t fraction =
          static_cast<uint32_t>(random.Next()) & ((1u << data::Info(core.input).fraction_bits) - 1);
      const int below = at % core.products == 0 ? 0 : random.Between(0, 25);
      if (at % core.products != 0 && random.Between(0, 4) == 0) return Pattern(core.input, random.Between(0, 1), 0, 0);
      return Pattern(core.input, random.Between(0, 1), 127 + greatest - below, fraction);
    };
    const auto rising = [&](int first) {
      return [&, first, next = int64_t{0}]() mutable {
        const int64_t at = next++;
        return draw(at % depth, first + static_cast<int>(at / depth));
      };
    };
    const Patterns a(core.input, 8, depth, rising(-64));
    const Patterns b(core.input, 40, depth, rising(-90));
    std::vector<float> c(8 * 40);
    CheckProduct(core, a.view(), b.view().Transposed(), c);
    for (size_t i = 0; i < c.size(); ++i) c[i] = i % 3 == 0 ? -0.0f : i % 3 == 1 ? 1e-45f : 0.0f;
    CheckProduct(core, a.view(), b.view().Transposed(), c);
  }
}

TEST_CASE("sums that leave int32 are caught") {
  for (const TensorCore& core : AllTensorCores()) {
    if (core.accumulator != Format::kFp32) continue;
    const data::FormatInfo& info = data::Info(core.input);
    const uint32_t below_two =
        Pattern(core.input, false, info.bias, (1u << info.fraction_bits) - (info.has_infinity ? 1 : 2));
    const Patterns a(core.input, 3, 64, [&] { return below_two; });
    const Patterns b(core.input, 40, 64,
                     [&, n = 0]() mutable { return below_two | Pattern(core.input, n++ / 64 % 2 == 1, 0, 0); });
    std::vector<float> c;
    for (int i = 0; i < 3 * 40; ++i) c.push_back(std::ldexp(i % 2 ? -1.99999988f : 1.99999988f, i / 2 % 6));
    CheckProduct(core, a.view(), b.view().Transposed(), c);
  }
}

TEST_CASE("random tiles of every shape give the bits of the definition on every target") {
  for (const TensorCore& core : AllTensorCores()) {
    uint64_t seed = 0;
    for (const Spread& spread : {Spread{.random_bits = true}, Spread{3, 4}, Spread{30, 1}, Spread{30, 100},
                                 Spread{40, 220, 25}, Spread{12, 120, 25}}) {
      CheckRandom(core, 2, 33, 40, spread, ++seed);
      CheckRandom(core, 3, 64, 2 * core.products + 3, spread, ++seed);
    }
  }
  CheckRandom(FindTensorCore("sm90", Format::kBf16), 1, 1, 1, {8, 120}, 1);
  CheckRandom(FindTensorCore("sm90", Format::kBf16), 1, 32, 300, {8, 120}, 1);
}

TEST_CASE("a range of rows leaves the others alone, and k of zero leaves all") {
  const TensorCore& core = FindTensorCore("sm90", Format::kFp16);
  Random random(1);
  const Patterns a(core.input, 5, 16, [&] { return RandomPattern(random, core.input, {8, 10}); });
  PackedRows rows;
  PackedColumns columns;
  rows.Pack(a.view());
  columns.Pack(a.view().Transposed());
  std::vector<float> d(5 * 7, 1.0f), whole(5 * 7, 1.0f);
  MultiplyAdd(core, rows, columns, whole.data(), 7);
  MultiplyAdd(core, rows, columns, d.data(), 7, 1, 4);
  for (int i = 0; i < 5; ++i) {
    for (int j = 0; j < 7; ++j) CHECK(d[i * 7 + j] == (1 <= i && i < 4 && j < 5 ? whole[i * 7 + j] : 1.0f));
  }
  rows.Pack(MatrixView{a.view().data, core.input, 5, 0, 16});
  columns.Pack(MatrixView{a.view().data, core.input, 0, 7, 7});
  MultiplyAdd(core, rows, columns, d.data(), 7);
  CHECK(d[0] == 1.0f);
}

TEST_CASE("operands that do not fit the tensor core or each other are refused") {
  const uint16_t bits[64] = {};
  PackedRows rows;
  PackedColumns columns;
  rows.Pack(MatrixView::RowMajor(bits, Format::kFp16, 4, 16));
  columns.Pack(MatrixView::RowMajor(bits, Format::kBf16, 16, 4));
  float d[16] = {};
  const auto& core = FindTensorCore("sm90", Format::kFp16);
  CHECK_THROWS_WITH_AS(MultiplyAdd(core, rows, columns, d, 4), doctest::Contains("B is bf16"), data::UsageError);
  columns.Pack(MatrixView::RowMajor(bits, Format::kFp16, 8, 4));
  CHECK_THROWS_WITH_AS(MultiplyAdd(core, rows, columns, d, 4), doctest::Contains("16 columns and B 8"),
                       data::UsageError);
}

TEST_CASE("10^8 random products of 16-bit formats give the bits of the definition" * doctest::test_suite("slow")) {
  for (const Format format : {Format::kBf16, Format::kFp16}) {
    const TensorCore& core = FindTensorCore("sm90", format);
    uint64_t seed = 100;
    for (const Spread& spread :
         {Spread{.random_bits = true}, Spread{20, 118}, Spread{30, 1}, Spread{60, 100, 25}, Spread{12, 12, 25}}) {
      for (int tile = 0; tile < 5; ++tile) CheckRandom(core, 128, 128, 128, spread, ++seed);
    }
  }
}

}  // namespace
}  // namespace bitflash::sim
