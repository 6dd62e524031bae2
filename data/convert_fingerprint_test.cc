// The conversions against a GPU: all results for all inputs, as data/golden/sfu_hashes.json records them.
#include <doctest/doctest.h>

#include <array>
#include <set>
#include <string>

#include "data/convert_simd.h"
#include "data/fingerprint_testing.h"

namespace bitflash::data {
namespace {

struct Conversion {
  std::string name;  // of the instruction, as recorded
  Format format;
  Rounding rounding;
};

const Conversion kConversions[] = {
    {"cvt.rn.f16.f32", Format::kFp16, Rounding::kNearestEven},
    {"cvt.rn.bf16.f32", Format::kBf16, Rounding::kNearestEven},
    {"cvt.rz.f16.f32", Format::kFp16, Rounding::kTowardZero},
    {"cvt.rz.bf16.f32", Format::kBf16, Rounding::kTowardZero},
    {"cvt.rna.tf32.f32", Format::kTf32, Rounding::kNearestAway},
    {"cvt.rn.tf32.f32", Format::kTf32, Rounding::kNearestEven},
    {"cvt.rn.satfinite.e4m3x2.f32", Format::kE4m3, Rounding::kNearestEven},
    {"cvt.rn.satfinite.e5m2x2.f32", Format::kE5m2, Rounding::kNearestEven},
};

// The array functions.
template <class Element>
uint64_t VectorFingerprint(Inputs inputs, const Conversion& conversion) {
  return Fingerprint(inputs, [&](std::span<const float> x, std::span<uint32_t> y) {
    std::array<Element, kChunkInputs> elements;
    FromFloat(conversion.format, x.data(), elements.data(), kChunkInputs, conversion.rounding);
    for (size_t i = 0; i < y.size(); ++i) y[i] = elements[i];
  });
}

uint64_t VectorFingerprint(Inputs inputs, const Conversion& conversion) {
  switch (StorageBytes(conversion.format)) {
    case 1:
      return VectorFingerprint<uint8_t>(inputs, conversion);
    case 2:
      return VectorFingerprint<uint16_t>(inputs, conversion);
    default:
      return VectorFingerprint<uint32_t>(inputs, conversion);
  }
}

// The definition.
uint64_t ScalarFingerprint(Inputs inputs, const Conversion& conversion) {
  return Fingerprint(inputs, [&](std::span<const float> x, std::span<uint32_t> y) {
    for (size_t i = 0; i < y.size(); ++i) y[i] = Encode(conversion.format, x[i], conversion.rounding);
  });
}

TEST_CASE("every recorded conversion is compared") {
  std::set<std::string> recorded, compared;
  for (const auto& [name, fingerprint] : RecordedFingerprints()) {
    if (name.starts_with("cvt.")) recorded.insert(name);
  }
  for (const Conversion& conversion : kConversions) compared.insert(conversion.name);
  CHECK(recorded == compared);
}

TEST_CASE("arrays and the definition have one fingerprint over a sample, and every conversion its own") {
  std::set<uint64_t> fingerprints;
  for (const Conversion& conversion : kConversions) {
    CAPTURE(conversion.name);
    const uint64_t fingerprint = VectorFingerprint(Inputs::kSample, conversion);
    CHECK(fingerprint == ScalarFingerprint(Inputs::kSample, conversion));
    fingerprints.insert(fingerprint);
  }
  CHECK(fingerprints.size() == std::size(kConversions));
}

TEST_CASE("all 2^32 inputs give the GPU's bits, converted as arrays" * doctest::test_suite("slow")) {
  const auto recorded = RecordedFingerprints();
  for (const Conversion& conversion : kConversions) {
    CAPTURE(conversion.name);
    CHECK(VectorFingerprint(Inputs::kAll, conversion) == recorded.at(conversion.name));
  }
}

TEST_CASE("all 2^32 inputs give the GPU's bits, converted one at a time" * doctest::test_suite("slow")) {
  const auto recorded = RecordedFingerprints();
  for (const Conversion& conversion : kConversions) {
    CAPTURE(conversion.name);
    CHECK(ScalarFingerprint(Inputs::kAll, conversion) == recorded.at(conversion.name));
  }
}

}  // namespace
}  // namespace bitflash::data
