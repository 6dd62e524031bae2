#include "verify/device/device_verify.h"

#include <doctest/doctest.h>

#include "data/tensor.h"

namespace bitflash::verify {
namespace {

using data::Tensor;

// Two sequences, three heads, four rows of eight columns.
OutputPair Outputs() {
  OutputPair pair{Tensor::Zeros(data::ElementType::Unsigned(2), {2, 3, 4, 8}),
                  Tensor::Zeros(data::Format::kFp32, {2, 3, 4})};
  uint16_t n = 0x3c00;
  for (uint16_t& bits : pair.o.Elements<uint16_t>()) bits = n++;
  return pair;
}

TEST_CASE("equal outputs are identical, every head counted") {
  const Agreement agreement = CompareOutputs(Outputs(), Outputs(), data::Format::kBf16, 0, true);
  CHECK(agreement.identical());
  CHECK(agreement.heads == 6);
  CHECK(agreement.differ.empty());
  CHECK(agreement.o.elements == 192);
  CHECK(agreement.lse->elements == 24);
  CHECK(CountDifferent(Outputs(), Outputs()) == 0);
}

TEST_CASE("what differs: counts, the first position in the whole problem's heads, both values, ulps, the heads") {
  OutputPair device = Outputs();
  const OutputPair twin = Outputs();
  device.o.SetBits({0, 2, 1, 3}, twin.o.Bits({0, 2, 1, 3}) + 2);
  device.o.SetBits({1, 0, 0, 0}, 0xFFFF);  // as if it had not been written
  device.lse.SetBits({0, 2, 1}, 0x00000001);
  const Agreement agreement = CompareOutputs(device, twin, data::Format::kFp16, 16, true);
  CHECK(!agreement.identical());
  CHECK(agreement.o.bits_differ == 2);
  CHECK(agreement.o.first.index == std::vector<int64_t>{0, 18, 1, 3});
  CHECK(agreement.o.first.a_bits == twin.o.Bits({0, 2, 1, 3}) + 2);
  CHECK(agreement.o.max_ulps == 2);
  CHECK(agreement.o.kind_differs == 1);
  CHECK(agreement.o.first_kind.index == std::vector<int64_t>{1, 16, 0, 0});
  CHECK(agreement.lse->bits_differ == 1);
  CHECK(agreement.lse->first.index == std::vector<int64_t>{0, 18, 1});
  REQUIRE(agreement.differ.size() == 2);
  CHECK(agreement.differ[0].head == 18);
  CHECK(agreement.differ[0].o == 1);
  CHECK(agreement.differ[0].lse == 1);
  CHECK(agreement.differ[1].batch == 1);
  CHECK(agreement.differ[1].head == 16);
  CHECK(agreement.differ[1].lse == 0);
  CHECK(agreement.not_written == 1);
  CHECK(CountDifferent(device, twin) == 3);
  // Without an LSE of the twin only O counts.
  OutputPair other = Outputs();
  other.lse.SetBits({0, 0, 0}, 1);
  CHECK(CompareOutputs(other, twin, data::Format::kFp16, 0, false).identical());
}

TEST_CASE("some heads of the device's outputs are compared with a twin that has only those") {
  const OutputPair device = Outputs();
  const OutputPair twin{device.o.Slice(1, 1, 3).Contiguous(), device.lse.Slice(1, 1, 3).Contiguous()};
  const Agreement agreement =
      CompareOutputs({device.o.Slice(1, 1, 3), device.lse.Slice(1, 1, 3)}, twin, data::Format::kBf16, 1, true);
  CHECK(agreement.identical());
  CHECK(agreement.heads == 4);
}

}  // namespace
}  // namespace bitflash::verify
