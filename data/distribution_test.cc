#include "data/distribution.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "data/convert.h"
#include "data/error.h"

namespace bitflash::data {
namespace {

constexpr Role kRoles[] = {Role::kQ, Role::kK, Role::kV};

InputTensor Problem(Distribution distribution, Role role, int64_t seqlen = 512, int64_t head_dim = 64) {
  return {distribution, role, 700, 1, 1, seqlen, head_dim, {}};
}

std::vector<float> Values(const InputTensor& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.count()));
  Fill(tensor, 0, values);
  return values;
}

// Row `s` of a tensor of one head.
std::span<const float> Row(const std::vector<float>& values, int64_t s, int64_t head_dim) {
  return std::span(values).subspan(static_cast<size_t>(s * head_dim), static_cast<size_t>(head_dim));
}

double Dot(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (size_t d = 0; d < a.size(); ++d) sum += double{a[d]} * b[d];
  return sum;
}

// Logits of query s with the default scale.
std::vector<double> Logits(const std::vector<float>& q, const std::vector<float>& k, int64_t s, int64_t head_dim) {
  std::vector<double> logits;
  for (int64_t j = 0; j < std::ssize(k) / head_dim; ++j) {
    logits.push_back(Dot(Row(q, s, head_dim), Row(k, j, head_dim)) / std::sqrt(static_cast<double>(head_dim)));
  }
  return logits;
}

uint64_t Fnv1a(const std::vector<float>& values) {
  uint64_t hash = 0xCBF29CE484222325;
  for (const float value : values) {
    for (int k = 0; k < 4; ++k) hash = (hash ^ (std::bit_cast<uint32_t>(value) >> (8 * k) & 0xFF)) * 0x100000001B3;
  }
  return hash;
}

TEST_CASE("every element equals the header's formulas computed with Python's exact fractions") {
  // FNV-1a of the fp32 bytes of Q, K and V for seed 700 and shape [3, 2, 37, 20].
  const std::map<std::string_view, std::vector<uint64_t>> hashes = {
      {"hash-normal", {0x43DA0866188484E8, 0x2AB6107F7A337728, 0x234254F0B227C4B4}},
      {"uniform", {0xCB53AE3418A704EF, 0x2BECB3E7B9E6AFCD, 0xF06E077925CF2D87}},
      {"spiky", {0x7B86FF7A6E15129F, 0x783581F6C3A8E6BF, 0x2FC8B4F21284A464}},
      {"ascending", {0xABC9E7B984B972FA, 0x209944029C8326E4, 0x234254F0B227C4B4}},
      {"descending", {0xABC9E7B984B972FA, 0x31034BEA477FCEF8, 0x234254F0B227C4B4}},
      {"sinks", {0xB918FC106349A7E5, 0xD3BD2080106509A5, 0x55069CFD56C89A38}},
      {"cancelling", {0x1AA931B67E3139DD, 0x7E628DA335DF7183, 0x49C62FB91A220EE8}},
      {"long-tail", {0x163043E3730493C4, 0x3E0EA366DCEA997A, 0xEA65009BD838BA6D}},
      {"extreme", {0x685ED7554FE580E5, 0x31E1297461ED97DD, 0x234254F0B227C4B4}},
      {"one-hot", {0x1698B94F36C2BA25, 0xC56D2983178133E5, 0x234254F0B227C4B4}},
      {"constant-v", {0x43DA0866188484E8, 0x2AB6107F7A337728, 0x87C790B871089EE5}},
      {"duplicates", {0x43DA0866188484E8, 0xD8114615BAD48E5C, 0xEA1AE88D0CF67334}},
      {"subnormal", {0xE9DAA9179B121471, 0x5A9EDD2983C68147, 0x14E2B327735EBD4C}},
      {"nan-padding", {0x0709357A5A4CCE2F, 0xE93EBF72BD907A69, 0x2C0812F0321B2367}},
  };
  for (const DistributionInfo& info : AllDistributions()) {
    CAPTURE(std::string(info.name));
    REQUIRE(hashes.contains(info.name));
    for (const Role role : kRoles) {
      const InputTensor tensor = {info.distribution, role, 700, 3, 2, 37, 20, {}};
      CHECK(Fnv1a(Values(tensor)) == hashes.at(info.name)[static_cast<size_t>(role)]);
    }
  }
}

TEST_CASE("single elements, parts and other formats agree with the whole") {
  for (const DistributionInfo& info : AllDistributions()) {
    CAPTURE(std::string(info.name));
    InputTensor tensor = {info.distribution, Role::kK, 5, 2, 3, 29, 24, {29, 11}};
    const std::vector<float> whole = Values(tensor);
    std::vector<float> part(1500);
    Fill(tensor, 1234, part);
    CHECK(std::memcmp(part.data(), whole.data() + 1234, part.size() * sizeof(float)) == 0);
    bool equal = true;
    for (int64_t i = 0; i < tensor.count(); ++i) {
      equal &= std::bit_cast<uint32_t>(Element(tensor, i)) == std::bit_cast<uint32_t>(whole[static_cast<size_t>(i)]);
    }
    CHECK(equal);
    std::vector<uint16_t> halves(2500);
    Generate(tensor, Format::kBf16, 100, std::ssize(halves), halves.data());
    for (size_t k = 0; k < halves.size(); ++k) equal &= halves[k] == Encode(Format::kBf16, whole[100 + k]);
    CHECK(equal);
  }
}

TEST_CASE("padding is NaN beyond each valid length and nowhere else") {
  InputTensor tensor = {Distribution::kHashNormal, Role::kV, 1, 3, 2, 16, 8, {16, 5, 0}};
  const std::vector<float> values = Values(tensor);
  for (int64_t i = 0; i < tensor.count(); ++i) {
    const int64_t b = i / (2 * 16 * 8), s = i / 8 % 16;
    REQUIRE(std::isnan(values[static_cast<size_t>(i)]) == (s >= tensor.valid_seqlen[static_cast<size_t>(b)]));
  }
  tensor.distribution = Distribution::kNanPadding;
  tensor.valid_seqlen = {};
  CHECK(ValidSeqlen(tensor, 0) == 14);
  CHECK(ValidSeqlen(tensor, 3) == 8);
  CHECK(std::isnan(Element(tensor, 14 * 8)));
  CHECK(!std::isnan(Element(tensor, 14 * 8 - 1)));
}

// What each distribution promises, measured on one head: seqlen 512, head_dim 64.
TEST_CASE("spiky and extreme logits pass 5e4, extreme ones of one sign per row") {
  const std::vector<float> q = Values(Problem(Distribution::kSpiky, Role::kQ));
  const std::vector<float> k = Values(Problem(Distribution::kSpiky, Role::kK));
  int64_t large = 0, spiky_rows = 0;
  for (int64_t s = 0; s < 512; ++s) {
    int64_t in_row = 0;
    for (const double logit : Logits(q, k, s, 64)) in_row += std::abs(logit) > 5e4;
    large += in_row;
    spiky_rows += in_row > 0;
  }
  CHECK(large > 512 * 512 / 128);  // expected 1 in 64
  CHECK(large < 512 * 512 / 32);
  CHECK(spiky_rows < 128);  // and most rows are ordinary

  const std::vector<float> eq = Values(Problem(Distribution::kExtreme, Role::kQ));
  const std::vector<float> ek = Values(Problem(Distribution::kExtreme, Role::kK));
  for (int64_t s = 0; s < 512; s += 37) {
    for (const double logit : Logits(eq, ek, s, 64)) REQUIRE((s % 2 == 0 ? logit : -logit) > 5e4);
  }
}

TEST_CASE("ascending and descending maxima move in every tile of 64 keys") {
  for (const Distribution distribution : {Distribution::kAscending, Distribution::kDescending}) {
    const std::vector<float> q = Values(Problem(distribution, Role::kQ));
    const std::vector<float> k = Values(Problem(distribution, Role::kK));
    for (int64_t s = 0; s < 512; s += 37) {
      const std::vector<double> logits = Logits(q, k, s, 64);
      std::vector<double> maxima;
      for (size_t tile = 0; tile < 8; ++tile) {
        maxima.push_back(*std::max_element(logits.begin() + 64 * static_cast<int>(tile),
                                           logits.begin() + 64 * static_cast<int>(tile) + 64));
      }
      if (distribution == Distribution::kDescending) std::reverse(maxima.begin(), maxima.end());
      for (size_t tile = 1; tile < 8; ++tile) REQUIRE(maxima[tile] > maxima[tile - 1] + 1);
    }
  }
}

TEST_CASE("sinks hold most of the probability") {
  const std::vector<float> q = Values(Problem(Distribution::kSinks, Role::kQ));
  const std::vector<float> k = Values(Problem(Distribution::kSinks, Role::kK));
  for (int64_t s = 0; s < 512; s += 37) {
    const std::vector<double> logits = Logits(q, k, s, 64);
    double sink = 0, all = 0;
    for (size_t j = 0; j < logits.size(); ++j) {
      all += std::exp(logits[j]);
      if (j < 4) sink += std::exp(logits[j]);
    }
    REQUIRE(sink / all > 0.75);
  }
}

TEST_CASE("cancelling sums are far smaller than their terms") {
  const std::vector<float> q = Values(Problem(Distribution::kCancelling, Role::kQ));
  const std::vector<float> k = Values(Problem(Distribution::kCancelling, Role::kK));
  const std::vector<float> v = Values(Problem(Distribution::kCancelling, Role::kV));
  double logits = 0, terms = 0;
  for (int64_t s = 0; s < 512; s += 2) {
    REQUIRE(std::memcmp(Row(k, s, 64).data(), Row(k, s + 1, 64).data(), 64 * sizeof(float)) == 0);
    logits += std::abs(Dot(Row(q, s, 64), Row(k, 0, 64)));
    for (size_t d = 0; d < 64; ++d) terms += std::abs(Row(q, s, 64)[d] * Row(k, 0, 64)[d]);
    for (size_t d = 0; d < 64; ++d) REQUIRE(std::abs(Row(v, s, 64)[d] + Row(v, s + 1, 64)[d]) < 2);
  }
  CHECK(logits < terms / 100);
}

TEST_CASE("one-hot rows choose key s with a margin that leaves no second weight") {
  const std::vector<float> q = Values(Problem(Distribution::kOneHot, Role::kQ));
  const std::vector<float> k = Values(Problem(Distribution::kOneHot, Role::kK));
  for (int64_t s = 0; s < 512; s += 7) {
    std::vector<double> logits = Logits(q, k, s, 64);
    const double chosen = logits[static_cast<size_t>(s)];
    logits[static_cast<size_t>(s)] = -HUGE_VAL;
    REQUIRE(chosen - *std::max_element(logits.begin(), logits.end()) > 104);  // e^-104 is 0 in fp32
  }
}

TEST_CASE("subnormal columns are subnormal in the formats that they name") {
  const InputTensor tensor = Problem(Distribution::kSubnormal, Role::kV);
  const std::vector<float> v = Values(tensor);
  for (size_t i = 0; i < v.size(); ++i) {
    const float magnitude = std::abs(v[i]);
    if (i % 4 == 0) REQUIRE(magnitude < std::ldexp(1.0f, -6));
    if (i % 4 == 1) REQUIRE(magnitude < std::ldexp(1.0f, -14));
    if (i % 4 == 2) REQUIRE(std::fpclassify(v[i]) != FP_NORMAL);
  }
}

TEST_CASE("duplicates repeat eight keys, long tails reach far, constant V is 1") {
  const std::vector<float> k = Values(Problem(Distribution::kDuplicates, Role::kK));
  for (size_t i = 8 * 64; i < k.size(); ++i) REQUIRE(k[i] == k[i % (8 * 64)]);
  for (const float x : Values(Problem(Distribution::kDuplicates, Role::kV))) REQUIRE(x <= 0);
  float largest = 0;
  for (const float x : Values(Problem(Distribution::kLongTail, Role::kV))) largest = std::max(largest, std::abs(x));
  CHECK(largest > 1000);
  for (const float x : Values(Problem(Distribution::kConstantV, Role::kV))) REQUIRE(x == 1);
}

TEST_CASE("names parse back and wrong input is refused with what is accepted") {
  for (const DistributionInfo& info : AllDistributions()) {
    CHECK(ParseDistribution(info.name) == info.distribution);
    CHECK(Name(info.distribution) == info.name);
    CHECK(info.description.ends_with("."));
  }
  CHECK_THROWS_WITH_AS(ParseDistribution("normal"),
                       doctest::Contains("unknown distribution 'normal': expected one of hash-normal, uniform, spiky"),
                       UsageError);
  const auto refused = [](InputTensor tensor, const char* what) {
    CHECK_THROWS_WITH_AS(Validate(tensor), doctest::Contains(what), UsageError);
  };
  InputTensor tensor = {Distribution::kHashNormal, Role::kQ, 0, 2, 3, 4, 5, {4, 0}};
  CHECK_NOTHROW(Validate(tensor));
  tensor.valid_seqlen = {4};
  refused(tensor, "valid_seqlen has 1 entries: expected one for each of the 2 sequences");
  tensor.valid_seqlen = {4, 5};
  refused(tensor, "valid_seqlen[1] is 5: expected 0 to 4");
  tensor = {.heads = 0};
  refused(tensor, "heads is 0: expected at least 1");
  tensor = {.batch = int64_t{1} << 40, .seqlen = int64_t{1} << 30};
  refused(tensor, "seqlen is 1073741824: expected at most 2^58");
}

}  // namespace
}  // namespace bitflash::data
