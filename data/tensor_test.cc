#include "data/tensor.h"

#include <doctest/doctest.h>

#include "data/error.h"

namespace bitflash::data {
namespace {

// 0, 1, 2, ... of u16.
Tensor Counting(std::vector<int64_t> shape) {
  std::vector<uint64_t> bits(static_cast<size_t>(ElementCount(shape, 2)));
  for (size_t i = 0; i < bits.size(); ++i) bits[i] = i;
  return Tensor::FromBits(ElementType::Unsigned(2), std::move(shape), bits);
}

std::vector<uint16_t> Values(const Tensor& tensor) {
  const Tensor contiguous = tensor.Contiguous();
  const auto elements = contiguous.Elements<uint16_t>();
  return {elements.begin(), elements.end()};
}

template <typename Call>
void CheckRefused(Call call, const char* what) {
  CHECK_THROWS_WITH_AS(call(), doctest::Contains(what), UsageError);
}

TEST_CASE("elements are where row-major order puts them") {
  Tensor t = Counting({2, 3, 4});
  CHECK(t.count() == 24);
  CHECK(t.bytes() == 48);
  CHECK(t.strides() == std::vector<int64_t>{12, 4, 1});
  CHECK(t.Bits({1, 2, 3}) == 23);
  t.SetBits({1, 0, 2}, 0xFFFF);
  CHECK(t.Elements<uint16_t>()[14] == 0xFFFF);
  CHECK(Tensor::FromBits(Format::kFp32, {}, {0x3F800000}).Bits(std::initializer_list<int64_t>{}) == 0x3F800000);
  CHECK(Tensor::Zeros(Format::kFp64, {2}).Bits({1}) == 0);
  CHECK(reinterpret_cast<uintptr_t>(t.Elements<uint16_t>().data()) % Buffer::kAlignment == 0);
}

TEST_CASE("an index, a value or a shape outside is refused") {
  Tensor t = Counting({2, 3});
  CheckRefused([&] { t.Bits({2, 0}); }, "index (2, 0) is outside of shape (2, 3)");
  CheckRefused([&] { t.Bits({0, -1}); }, "index (0, -1)");
  CheckRefused([&] { t.Bits({0}); }, "index (0,)");
  CheckRefused([&] { t.Bits({0, 0, 0}); }, "index (0, 0, 0)");
  CheckRefused([&] { t.SetBits({0, 0}, 0x10000); }, "65536 does not fit an element of u16");
  CheckRefused([] { Tensor::FromBits(Format::kE4m3, {1}, {256}); }, "256 does not fit an element of e4m3");
  CheckRefused([] { Tensor::FromBits(Format::kE4m3, {2}, {1}); }, "has 2 elements, but 1 are given");
  CheckRefused([] { Tensor::Zeros(Format::kFp32, {-1}); }, "negative extent");
  CheckRefused([] { Tensor::Zeros(Format::kFp32, {int64_t{1} << 61, 2}); }, "more than 2^62 bytes");
  CheckRefused([] { Tensor::Zeros(Format::kFp32, {0, int64_t{1} << 61}); }, "more than 2^62 bytes");
  CheckRefused([] { Tensor::Zeros(Format::kFp32, std::vector<int64_t>(65, 1)); }, "65 dimensions");
  CheckRefused([] { Tensor::FromBuffer(Format::kFp32, {2}, Buffer::Zeros(7)); }, "has 8 bytes, but the buffer has 7");
}

TEST_CASE("layouts, permutations, slices and selections are views of the same elements") {
  const Tensor bshd = Counting({2, 3, 4, 5});
  const Tensor bhsd = bshd.ToLayout(Layout::kBshd, Layout::kBhsd);
  CHECK(bhsd.shape() == std::vector<int64_t>{2, 4, 3, 5});
  CHECK_FALSE(bhsd.IsContiguous());
  for (int64_t b = 0; b < 2; ++b) {
    for (int64_t h = 0; h < 4; ++h) {
      for (int64_t s = 0; s < 3; ++s) {
        for (int64_t d = 0; d < 5; ++d) CHECK(bhsd.Bits({b, h, s, d}) == bshd.Bits({b, s, h, d}));
      }
    }
  }
  CHECK(bhsd.Contiguous().IsContiguous());
  CHECK(bhsd.Contiguous() == bhsd);
  CHECK(bhsd.Contiguous().ToLayout(Layout::kBhsd, Layout::kBshd) == bshd);
  CHECK(bshd.ToLayout(Layout::kBshd, Layout::kBshd) == bshd);

  const Tensor t = Counting({3, 4});
  CHECK(Values(t.Permuted({1, 0})) == std::vector<uint16_t>{0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11});
  CHECK(Values(t.Slice(1, 1, 3)) == std::vector<uint16_t>{1, 2, 5, 6, 9, 10});
  CHECK(t.Slice(0, 1, 3).IsContiguous());
  CHECK(Values(t.Slice(0, 1, 3)) == std::vector<uint16_t>{4, 5, 6, 7, 8, 9, 10, 11});
  CHECK(Values(t.Permuted({1, 0}).Slice(0, 2, 4).Slice(1, 1, 2)) == std::vector<uint16_t>{6, 7});
  CHECK(t.Slice(0, 3, 3).count() == 0);
  CHECK(Values(t.Select(0, 2)) == std::vector<uint16_t>{8, 9, 10, 11});
  CHECK(Values(t.Select(1, 2)) == std::vector<uint16_t>{2, 6, 10});
  Tensor row = t.Select(0, 1);
  row.SetBits({3}, 99);
  CHECK(t.Bits({1, 3}) == 99);
  CHECK(t.Clone() == t);
  t.Clone().SetBits({0, 0}, 5);
  CHECK(t.Bits({0, 0}) == 0);
  CHECK(Values(t.Permuted({1, 0}).Reshaped({2, 6})) == std::vector<uint16_t>{0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 99, 11});
}

TEST_CASE("views that do not exist are refused") {
  const Tensor t = Counting({3, 4});
  CheckRefused([&] { t.Slice(2, 0, 1); }, "dimension 2");
  CheckRefused([&] { t.Slice(-1, 0, 1); }, "dimension -1");
  CheckRefused([&] { t.Slice(0, 2, 1); }, "slice 2:1");
  CheckRefused([&] { t.Slice(0, 0, 4); }, "slice 0:4");
  CheckRefused([&] { t.Select(0, 3); }, "index 3 of dimension 0");
  CheckRefused([&] { t.Permuted({0, 0}); }, "not a permutation");
  CheckRefused([&] { t.Permuted({0}); }, "not a permutation");
  CheckRefused([&] { t.ToLayout(Layout::kBhsd, Layout::kBshd); }, "expected 4 dimensions");
  CheckRefused([&] { t.Reshaped({5, 2}); }, "expected the same number of elements");
  CheckRefused([] { ParseLayout("sbhd"); }, "expected bhsd or bshd");
  CHECK(ParseLayout("bshd") == Layout::kBshd);
}

TEST_CASE("a view says what bits mean, and never turns one format into another") {
  const Tensor bits = Tensor::FromBits(ElementType::Signed(2), {1}, {0x3F80});
  CHECK(bits.View(Format::kBf16).type() == Format::kBf16);
  CHECK(bits.View(Format::kBf16).Bits({0}) == 0x3F80);
  CHECK(bits.View(Format::kFp16).View(ElementType::Unsigned(2)).View(Format::kBf16) == bits.View(Format::kBf16));
  CHECK(Tensor::FromBits(ElementType::Unsigned(1), {1}, {0x38}).View(Format::kE4m3).type() == Format::kE4m3);
  CHECK(Tensor::Zeros(Format::kFp32, {1}).View(Format::kTf32).type() == Format::kTf32);
  CheckRefused([&] { bits.View(Format::kFp32); }, "i16 (2 bytes) cannot be viewed as fp32 (4 bytes)");
  CheckRefused([&] { bits.View(Format::kFp16).View(Format::kBf16); }, "fp16 cannot be viewed as bf16");
}

TEST_CASE("equality is of type, shape and bits") {
  const Tensor nan = Tensor::FromBits(Format::kFp16, {2}, {0x7E00, 0x0000});
  CHECK(nan == nan.Clone());
  CHECK(nan != Tensor::FromBits(Format::kFp16, {2}, {0x7E00, 0x8000}));
  CHECK(nan != nan.View(ElementType::Unsigned(2)));
  CHECK(nan != nan.Reshaped({2, 1}));
  CHECK(Tensor::Zeros(Format::kFp32, {0, 3}) != Tensor::Zeros(Format::kFp32, {3, 0}));
  CHECK(Tensor() == Tensor::Zeros(Format::kFp32, {0}));
}

TEST_CASE("integers keep their values") {
  CHECK(ToIntegers(Tensor::FromBits(ElementType::Signed(1), {3}, {0xFF, 0x80, 0x7F})) ==
        std::vector<int64_t>{-1, -128, 127});
  CHECK(ToIntegers(Tensor::FromBits(ElementType::Unsigned(4), {1}, {0xFFFFFFFF})) == std::vector<int64_t>{0xFFFFFFFF});
  CHECK(ToIntegers(Tensor::FromBits(ElementType::Signed(8), {1}, {~uint64_t{0}})) == std::vector<int64_t>{-1});
  CheckRefused([] { ToIntegers(Tensor::FromBits(ElementType::Unsigned(8), {1}, {~uint64_t{0}})); },
               "does not fit int64");
  CheckRefused([] { ToIntegers(Tensor::Zeros(Format::kFp32, {1})); }, "expected integers, but the elements are fp32");
}

}  // namespace
}  // namespace bitflash::data
