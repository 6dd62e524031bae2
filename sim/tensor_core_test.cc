#include "sim/tensor_core.h"

#include <doctest/doctest.h>

#include <set>
#include <tuple>

#include "data/error.h"

namespace bitflash::sim {
namespace {

using data::Format;

TEST_CASE("the table has one row per architecture, instruction and formats, and every row has a source") {
  std::set<std::tuple<std::string_view, std::string_view, Format, Format>> keys;
  for (const TensorCore& core : AllTensorCores()) {
    CAPTURE(ToString(core));
    CHECK(keys.insert({core.arch, core.instruction, core.input, core.accumulator}).second);
    CHECK(!core.source.empty());
    CHECK((core.accumulator == Format::kFp16) == (core.rounding == ResultRounding::kNearestFp16));
    CHECK(core.instruction_k % core.products == 0);
    CHECK(&FindTensorCore(core.arch, core.input, core.accumulator, core.instruction) == &core);
  }
}

TEST_CASE("the preferred instruction of an architecture is found without naming one") {
  CHECK(FindTensorCore("sm80", Format::kBf16).instruction == "mma.sync");
  CHECK(FindTensorCore("sm90", Format::kBf16).instruction == "wgmma");
  CHECK(FindTensorCore("sm90", Format::kE4m3).products == 32);
  CHECK(FindTensorCore("sm90", Format::kE4m3, Format::kFp32, "mma.sync").products == 16);
  CHECK(FindTensorCore("sm100", Format::kE5m2).alignment_bits == 25);
}

TEST_CASE("what is not modelled is refused with what is") {
  const auto refused = [](const char* what, auto... arguments) {
    CHECK_THROWS_WITH_AS(FindTensorCore(arguments...), doctest::Contains(what), data::UsageError);
  };
  refused("'sm60': expected one of sm70, sm75, sm80, sm86, sm89, sm90, sm100", "sm60", Format::kFp16);
  refused("sm70 and the input format 'bf16': expected one of fp16", "sm70", Format::kBf16);
  refused("sm80 and the instruction 'wgmma': expected one of mma.sync", "sm80", Format::kFp16, Format::kFp32, "wgmma");
  refused("sm80 bf16 and the accumulator format 'fp16': expected one of fp32", "sm80", Format::kBf16, Format::kFp16);
}

}  // namespace
}  // namespace bitflash::sim
