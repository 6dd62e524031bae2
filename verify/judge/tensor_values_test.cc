#include "verify/judge/tensor_values.h"

#include <doctest/doctest.h>

#include <cmath>

#include "data/convert.h"
#include "data/random.h"
#include "verify/judge/compare.h"

namespace bitflash::verify {
namespace {

using data::Format;
using data::Tensor;

// More than one part of the conversion, and not a whole number of them.
constexpr int64_t kCount = (1 << 15) + 77;

TEST_CASE("elements as numbers: each as the definition of its format says, for every bit pattern of 16") {
  for (const Format format :
       {Format::kFp16, Format::kBf16, Format::kE4m3, Format::kE5m2, Format::kFp32, Format::kTf32}) {
    CAPTURE(data::Name(format));
    std::vector<uint64_t> bits(kCount);
    const uint64_t mask = (uint64_t{1} << (8 * data::StorageBytes(format))) - 1;
    for (int64_t i = 0; i < kCount; ++i) bits[i] = data::SplitMix64(i) & mask;
    const Tensor tensor = Tensor::FromBits(format, {kCount}, bits);
    const std::vector<float> floats = ToFloats(tensor);
    const std::vector<double> doubles = ToDoubles(tensor);
    bool same = floats.size() == bits.size() && doubles.size() == bits.size();
    for (int64_t i = 0; same && i < kCount; ++i) {
      const double value = ValueOf(tensor.type(), bits[i]);
      same = std::isnan(value) ? std::isnan(floats[i]) && std::isnan(doubles[i])
                               : floats[i] == value && doubles[i] == value;
    }
    CHECK(same);
    // Numbers come back as the bits they were.
    const Tensor back = FromFloats(floats, format, {kCount});
    bool equal = true;
    for (int64_t i = 0; i < kCount; ++i) {
      if (std::isfinite(floats[i])) equal = equal && ValueOf(back.type(), back.Bits({i})) == floats[i];
    }
    CHECK(equal);
  }
}

TEST_CASE("numbers as elements: rounded to nearest even, in the shape that is asked for") {
  const std::vector<float> values = {1.00390625f, 1.01171875f, -1e-3f, 65520, INFINITY, 0};
  const Tensor bf16 = FromFloats(values, Format::kBf16, {2, 3});
  CHECK(bf16.shape() == std::vector<int64_t>{2, 3});
  CHECK(bf16.Bits({0, 0}) == 0x3F80);  // half way: to the even one
  CHECK(bf16.Bits({0, 1}) == 0x3F82);
  CHECK(FromFloats(values, Format::kFp16, {6}).Bits({3}) == 0x7C00);
  const Tensor fp64 = FromFloats(values, Format::kFp64, {6});
  CHECK(ToDoubles(fp64)[2] == double{-1e-3f});
  CHECK(ToFloats(fp64) == values);
  CHECK(ToFloats(Tensor::Zeros(Format::kBf16, {0, 5})).empty());
}

}  // namespace
}  // namespace bitflash::verify
