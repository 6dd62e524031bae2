#include "verify/cases/case_generator.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "data/error.h"

namespace bitflash::verify {
namespace {

using data::Distribution;
using data::Format;
using data::Mask;

TEST_CASE("the name of a case makes it again") {
  CaseSpec spec;
  spec.attention = {.batch = 2,
                    .heads_q = 6,
                    .heads_kv = 2,
                    .seqlen_q = 127,
                    .seqlen_k = 129,
                    .head_dim = 64,
                    .head_dim_v = 64,
                    .mask = Mask::Causal()};
  spec.distribution = Distribution::kSpiky;
  spec.seed = 7;
  CHECK(Name(spec) == "b2_h6-2_s127x129_d64_bf16_causal_spiky_seed7");
  CHECK(ParseCaseSpec(Name(spec)) == spec);
  spec.attention.head_dim_v = 32;
  spec.attention.mask = Mask::Window(Mask::kUnlimited, 3);
  spec.attention.softcap = 30;
  spec.attention.format = Format::kE4m3;
  spec.ragged = spec.sinks = true;
  spec.distribution = Distribution::kNanPadding;
  spec.seed = UINT64_MAX;
  CHECK(Name(spec) ==
        "b2_h6-2_s127x129_d64-32_e4m3_window-u-3_softcap30_ragged_learned-sinks_nan-padding_seed18446744073709551615");
  CHECK(ParseCaseSpec(Name(spec)) == spec);
}

TEST_CASE("what is no name of a case is refused") {
  for (const char* name :
       {"", "b2", "b2_h6-2_s127x129_d64_bf16_causal_spiky", "b2_h6-2_s127x129_d64_bf16_causal_spiky_seed",
        "b2_h6-2_s127x129_d64_bf16_causal_spiky_seed7_", "b2_h6_s127x129_d64_bf16_causal_spiky_seed7",
        "b2_h6-2_s127_d64_bf16_causal_spiky_seed7", "b-2_h6-2_s127x129_d64_bf16_causal_spiky_seed7",
        "b2_h6-4_s127x129_d64_bf16_causal_spiky_seed7", "b2_h6-2_s127x129_d64_bf17_causal_spiky_seed7",
        "b2_h6-2_s127x129_d64_bf16_diagonal_spiky_seed7", "b2_h6-2_s127x129_d64_bf16_window--1-3_spiky_seed7",
        "b02_h6-2_s127x129_d64_bf16_causal_spiky_seed7", "b2_h6-2_s127x129_d64-64_bf16_causal_spiky_seed7",
        "b2_h6-2_s0x129_d64_bf16_causal_spiky_seed7", "b99999999999999999999_h6-2_s1x1_d64_bf16_causal_spiky_seed7",
        "b2_h6-2_s127x129_d64_bf16_causal_learned-sinks_ragged_spiky_seed7"}) {
    CAPTURE(name);
    CHECK_THROWS_AS(ParseCaseSpec(name), data::UsageError);
  }
  CHECK_THROWS_WITH_AS(ParseCaseSpec("b2_h6_s1x1_d64_bf16_full_spiky_seed7"),
                       "'b2_h6_s1x1_d64_bf16_full_spiky_seed7' is no name of a case at 'h6': expected hN-N",
                       data::UsageError);
}

CaseOptions Wide() {
  CaseOptions options;
  options.formats = {Format::kBf16, Format::kFp16, Format::kE4m3};
  options.ragged = options.sinks = options.softcap = true;
  options.max_elements = 1 << 24;
  options.seed = 100;
  return options;
}

TEST_CASE("generated cases are the same every time, all different, within the limits, and named") {
  CaseOptions options = Wide();
  options.budget = 300;
  options.max_elements = 200000;
  const std::vector<CaseSpec> specs = GenerateCases(options);
  CHECK(specs == GenerateCases(options));
  REQUIRE(specs.size() == 300);
  std::set<std::string> names;
  for (size_t i = 0; i < specs.size(); ++i) {
    const CaseSpec& spec = specs[i];
    const data::Attention& a = spec.attention;
    CAPTURE(Name(spec));
    CHECK(spec.seed == 100 + i);
    CHECK(ParseCaseSpec(Name(spec)) == spec);
    names.insert(Name(spec));
    CHECK(a.batch * a.heads_q * a.seqlen_q * a.seqlen_k <= 200000);
  }
  CHECK(names.size() == 300);
  options.seed = 101;
  CHECK(specs != GenerateCases(options));
}

TEST_CASE("a small budget already has every value of every choice") {
  CaseOptions options = Wide();
  options.budget = 40;
  std::set<std::string> seen;
  for (const CaseSpec& spec : GenerateCases(options)) {
    const data::Attention& a = spec.attention;
    seen.insert("mask " + ToString(a.mask));
    seen.insert("group " + std::to_string(a.group()));
    seen.insert("distribution " + std::string(data::Name(spec.distribution)));
    seen.insert("format " + std::string(data::Name(a.format)));
    seen.insert("queries " + std::to_string(a.seqlen_q));
    seen.insert("keys " + std::to_string(a.seqlen_k));
    seen.insert("head_dim " + std::to_string(a.head_dim));
    seen.insert(a.seqlen_q < a.seqlen_k ? "longer keys" : a.seqlen_q > a.seqlen_k ? "longer queries" : "same");
    if (spec.ragged) seen.insert("ragged");
    if (spec.sinks) seen.insert("sinks");
    if (a.softcap > 0) seen.insert("softcap");
  }
  std::vector<std::string> expected = {"mask full",
                                       "mask causal",
                                       "mask causal-top-left",
                                       "mask window(0,0)",
                                       "mask window(63,0)",
                                       "format bf16",
                                       "format fp16",
                                       "format e4m3",
                                       "head_dim 64",
                                       "head_dim 128",
                                       "longer keys",
                                       "longer queries",
                                       "ragged",
                                       "sinks",
                                       "softcap"};
  for (const int group : {1, 2, 3, 4, 7, 8}) expected.push_back("group " + std::to_string(group));
  for (const int length : {1, 63, 64, 65, 97, 129, 192}) {
    expected.push_back("queries " + std::to_string(length));
    expected.push_back("keys " + std::to_string(length));
  }
  for (const auto& info : data::AllDistributions()) expected.push_back("distribution " + std::string(info.name));
  for (const std::string& value : expected) {
    CAPTURE(value);
    CHECK(seen.contains(value));
  }
}

TEST_CASE("with a large enough budget all pairs meet") {
  CaseOptions options = Wide();
  options.budget = 250;
  std::set<std::string> pairs;
  for (const CaseSpec& spec : GenerateCases(options)) {
    pairs.insert(ToString(spec.attention.mask) + " " + std::string(data::Name(spec.distribution)));
    pairs.insert("lengths " + std::to_string(spec.attention.seqlen_q) + " " + std::to_string(spec.attention.seqlen_k));
  }
  CHECK(pairs.size() >= 8 * 14 + 7 * 7);
}

TEST_CASE("a materialized case is valid, the same every time, and ragged where it says so") {
  CaseOptions options = Wide();
  options.budget = 60;
  options.max_elements = 100000;
  int64_t empty = 0, short_sequences = 0;
  for (const CaseSpec& spec : GenerateCases(options)) {
    CAPTURE(Name(spec));
    const Problem p = Materialize(spec);
    const Problem again = Materialize(ParseCaseSpec(Name(spec)));
    CHECK(p.q == again.q);
    CHECK(p.k == again.k);
    CHECK(p.v == again.v);
    CHECK(p.sinks == again.sinks);
    CHECK(p.seqlens_k == again.seqlens_k);
    CHECK(p.ragged() == spec.ragged);
    CHECK(p.sinks.empty() == !spec.sinks);
    if (!spec.ragged) continue;
    CHECK(*std::max_element(p.seqlens_q.begin(), p.seqlens_q.end()) == spec.attention.seqlen_q);
    CHECK(*std::max_element(p.seqlens_k.begin(), p.seqlens_k.end()) == spec.attention.seqlen_k);
    for (const int64_t length : p.seqlens_k) {
      empty += length == 0;
      short_sequences += length < spec.attention.seqlen_k;
    }
  }
  CHECK(empty > 0);
  CHECK(short_sequences > empty);
}

TEST_CASE("options that leave nothing to choose are refused") {
  CaseOptions options;
  options.masks.clear();
  CHECK_THROWS_AS(GenerateCases(options), data::UsageError);
  options = {};
  options.budget = 0;
  CHECK_THROWS_WITH_AS(GenerateCases(options), "budget is 0: expected at least 1", data::UsageError);
}

}  // namespace
}  // namespace bitflash::verify
