#include "verify/judge/compare.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "data/convert.h"
#include "data/error.h"

namespace bitflash::verify {
namespace {

using data::ElementType;
using data::Format;
using data::Tensor;

TEST_CASE("equal bits are identical, NaNs included") {
  const Tensor a = Tensor::FromBits(Format::kBf16, {2, 2}, {0x3F80, 0x7FFF, 0x8000, 0xFF80});
  const Difference d = Compare(a, a.Clone());
  CHECK(d.identical());
  CHECK(d.elements == 4);
  CHECK(d.a_nan == 1);
  CHECK(d.b_infinite == 1);
  CHECK(d.kind_differs == 0);
}

TEST_CASE("a NaN is no wildcard, and its position comes before any distance") {
  const Tensor a = Tensor::FromBits(Format::kBf16, {1, 3}, {0x3F80, 0x7FFF, 0x7F80});
  const Tensor b = Tensor::FromBits(Format::kBf16, {1, 3}, {0x3F81, 0x3F80, 0xFF80});
  const Difference d = Compare(a, b);
  CHECK(d.bits_differ == 3);
  CHECK(d.kind_differs == 2);  // NaN against 1, +inf against -inf
  CHECK(d.first_kind.index == std::vector<int64_t>{0, 1});
  CHECK(d.first.index == std::vector<int64_t>{0, 0});
  CHECK(d.max_ulps == 1);
  CHECK(d.max_abs == 0.0078125);
  CHECK(std::isfinite(d.max_rel));
}

TEST_CASE("other payloads of a NaN and signs of zero are counted by themselves") {
  const Tensor a = Tensor::FromBits(Format::kFp16, {2}, {0x7E00, 0x0000});
  const Tensor b = Tensor::FromBits(Format::kFp16, {2}, {0x7FFF, 0x8000});
  const Difference d = Compare(a, b);
  CHECK(d.bits_differ == 2);
  CHECK(d.nan_bits_differ == 1);
  CHECK(d.zero_sign_differs == 1);
  CHECK(d.max_ulps == 0);
  CHECK(d.max_abs == 0);
}

TEST_CASE("ulps count representable numbers across zero") {
  const Tensor a = Tensor::FromBits(Format::kFp32, {1}, {0x00000002});
  const Tensor b = Tensor::FromBits(Format::kFp32, {1}, {0x80000003});
  const Difference d = Compare(a, b);
  CHECK(d.max_ulps == 5);
}

TEST_CASE("ulps of tf32 ignore the bits that it does not have") {
  const Tensor a = Tensor::FromBits(Format::kTf32, {1}, {0x3F800000});
  const Tensor b = Tensor::FromBits(Format::kTf32, {1}, {0x3F802000});
  CHECK(Compare(a, b).max_ulps == 1);
}

TEST_CASE("a value against zero has an infinite relative error and a finite absolute one") {
  const Tensor a = Tensor::FromBits(Format::kFp32, {1}, {0x3F800000});
  const Tensor b = Tensor::FromBits(Format::kFp32, {1}, {0});
  const Difference d = Compare(a, b);
  CHECK(d.max_abs == 1);
  CHECK(std::isinf(d.max_rel));
}

TEST_CASE("all pairs of an 8-bit format: kind and distance agree with the decoded values") {
  for (const Format format : {Format::kE4m3, Format::kE5m2}) {
    // The finite values in ascending order; a step in the list is one ulp, except between the two zeros.
    std::vector<uint64_t> bits(256);
    for (int i = 0; i < 256; ++i) bits[i] = i;
    std::vector<uint64_t> finite;
    for (const uint64_t b : bits) {
      if (std::isfinite(data::Decode(format, static_cast<uint32_t>(b)))) finite.push_back(b);
    }
    std::sort(finite.begin(), finite.end(), [&](uint64_t x, uint64_t y) {
      return data::Decode(format, static_cast<uint32_t>(x)) < data::Decode(format, static_cast<uint32_t>(y));
    });
    for (size_t i = 0; i + 1 < finite.size(); ++i) {
      const Difference d =
          Compare(Tensor::FromBits(format, {1}, {finite[i]}), Tensor::FromBits(format, {1}, {finite[i + 1]}));
      const bool zeros = d.zero_sign_differs == 1;
      CHECK(d.max_ulps == (zeros ? 0 : 1));
      CHECK(d.kind_differs == 0);
    }
    for (const uint64_t b : bits) {
      const float value = data::Decode(format, static_cast<uint32_t>(b));
      const Difference d = Compare(Tensor::FromBits(format, {1}, {b}), Tensor::FromBits(format, {1}, {b}));
      CHECK(d.a_nan == std::isnan(value));
      CHECK(d.a_infinite == std::isinf(value));
    }
  }
}

TEST_CASE("fp64 and integers keep all their bits") {
  const Tensor a = Tensor::FromBits(Format::kFp64, {1}, {0x3FF0000000000000});
  const Tensor b = Tensor::FromBits(Format::kFp64, {1}, {0x3FF0000000000001});
  CHECK(Compare(a, b).max_ulps == 1);
  CHECK(Compare(a, b).max_abs == std::numeric_limits<double>::epsilon());
  const Tensor i = Tensor::FromBits(ElementType::Signed(4), {1}, {0xFFFFFFFF});
  const Tensor j = Tensor::FromBits(ElementType::Signed(4), {1}, {4});
  CHECK(Compare(i, j).max_ulps == 5);
  CHECK(ValueOf(ElementType::Signed(4), 0xFFFFFFFF) == -1);
  CHECK(HexBits(ElementType::Unsigned(2), 0xAB) == "0x00ab");
}

TEST_CASE("the index is row-major whatever the strides") {
  const Tensor a = Tensor::FromBits(Format::kFp16, {2, 3}, {0, 1, 2, 3, 4, 5});
  Tensor b = a.Permuted({1, 0}).Clone();
  b.SetBits({2, 0}, 9);
  const Difference d = Compare(a.Permuted({1, 0}), b);
  CHECK(d.bits_differ == 1);
  CHECK(d.first.index == std::vector<int64_t>{2, 0});
}

TEST_CASE("other shapes and types are refused") {
  const Tensor a = Tensor::Zeros(Format::kFp16, {2, 3});
  CHECK_THROWS_AS(Compare(a, Tensor::Zeros(Format::kFp16, {3, 2})), data::UsageError);
  CHECK_THROWS_AS(Compare(a, Tensor::Zeros(Format::kBf16, {2, 3})), data::UsageError);
  CHECK(Compare(Tensor::Zeros(Format::kFp16, {0}), Tensor::Zeros(Format::kFp16, {0})).identical());
}

}  // namespace
}  // namespace bitflash::verify
