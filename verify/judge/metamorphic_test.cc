#include "verify/judge/metamorphic.h"

#include <doctest/doctest.h>

#include <cmath>
#include <map>

#include "data/error.h"
#include "sim/execute.h"
#include "sim/kernels/kernels.h"
#include "verify/cases/case_generator.h"
#include "verify/subjects/fake_subject.h"

namespace bitflash::verify {
namespace {

using data::Format;
using Status = MetamorphicStatus;

std::map<std::string, MetamorphicResult> Run(Subject& subject, const Problem& problem,
                                             const MetamorphicOptions& options = {}) {
  std::map<std::string, MetamorphicResult> results;
  for (MetamorphicResult& result : RunMetamorphic(subject, problem, options)) results[result.id] = result;
  return results;
}

// The ids that failed, "MM1 MM6".
std::string Failed(const std::map<std::string, MetamorphicResult>& results) {
  std::string failed;
  for (const auto& [id, result] : results) {
    if (result.status == Status::kFailed) failed += (failed.empty() ? "" : " ") + id;
  }
  return failed;
}

// Exact up to one rounding, so nothing may fail, whatever the values.
TEST_CASE("a correct kernel passes every check on generated cases") {
  CaseOptions options;
  options.budget = 60;
  options.max_elements = 8000;
  options.head_dims = {8, 16};
  options.tile_q = options.tile_k = 8;
  options.formats = {Format::kBf16, Format::kFp16, Format::kE4m3, Format::kE5m2, Format::kFp32};
  options.sinks = options.softcap = true;
  std::map<std::string, int> passed;
  for (const CaseSpec& spec : GenerateCases(options)) {
    CAPTURE(Name(spec));
    const bool fp8 = data::StorageBytes(spec.attention.format) == 1;
    FakeSubject subject(Planted::kNothing, fp8 ? Format::kBf16 : spec.attention.format);
    for (const MetamorphicResult& result : RunMetamorphic(subject, Materialize(spec), {.batch_invariant = true})) {
      CAPTURE(result.id);
      CAPTURE(result.compared);
      CAPTURE(result.error);
      CAPTURE(result.bound);
      CHECK(result.status != Status::kFailed);
      CHECK((result.status == Status::kNotApplicable) <= !result.note.empty());
      passed[result.id] += result.status == Status::kPassed;
    }
  }
  for (const MetamorphicCheck& check : MetamorphicChecks()) {
    CAPTURE(check.id);
    CHECK(passed[std::string(check.id)] >= 5);
  }
}

Problem Plain() { return Materialize(ParseCaseSpec("b2_h4-2_s9x21_d16_bf16_full_hash-normal_seed1")); }

TEST_CASE("planted mistakes fail the checks that are there for them") {
  struct Case {
    Planted planted;
    std::string must_fail;  // with others or alone
  };
  const Case cases[] = {
      {Planted::kNothing, ""},
      {Planted::kLastKeyOfSum, "MM1"},
      {Planted::kBase2, "MM2"},
      {Planted::kBase2, "MM6"},
      {Planted::kNoMaximum, "MM2"},
      {Planted::kFirstSequence, "MM4"},
      {Planted::kPaddingTimesZero, "MM7"},
      {Planted::kCounts, "MM8"},
      {Planted::kSkipsZeroV, "MM5"},
      {Planted::kLastKeyTwice, "MM3"},
      {Planted::kLastKeyTwice, "MM6"},
      {Planted::kLastKeyOfSum, "MM3"},
  };
  for (const Case& c : cases) {
    FakeSubject subject(c.planted);
    const auto results = Run(subject, Plain());
    CAPTURE(static_cast<int>(c.planted));
    CAPTURE(Failed(results));
    if (c.must_fail.empty()) {
      CHECK(Failed(results).empty());
      continue;
    }
    REQUIRE(results.contains(c.must_fail));
    const MetamorphicResult& result = results.at(c.must_fail);
    CHECK(result.status == Status::kFailed);
    CHECK(result.failures > 0);
    CHECK(result.error > result.bound);
    CHECK(result.index.size() >= 3);
    CHECK_FALSE(result.suggests.empty());
    CHECK_FALSE(result.compared.empty());
  }
}

TEST_CASE("a mistake in one check does not fail the others") {
  FakeSubject base2(Planted::kBase2), padding(Planted::kPaddingTimesZero), counts(Planted::kCounts);
  CHECK(Failed(Run(base2, Plain())) == "MM2 MM6");
  CHECK(Failed(Run(padding, Plain())) == "MM7");
  CHECK(Failed(Run(counts, Plain(), {.only = {"MM1", "MM3", "MM5"}})).empty());
}

TEST_CASE("bits that depend on the batch fail only where they were promised") {
  FakeSubject subject(Planted::kBatchBits);
  const MetamorphicResult bounded = Run(subject, Plain()).at("MM4");
  CHECK(bounded.status == Status::kPassed);
  CHECK(bounded.note == "bits depend on the batch");
  const MetamorphicResult strict = Run(subject, Plain(), {.batch_invariant = true}).at("MM4");
  CHECK(strict.status == Status::kFailed);
  CHECK(strict.bound == 0);
  FakeSubject right;
  CHECK(Run(right, Plain(), {.batch_invariant = true}).at("MM4").note == "all bits are the same");
}

TEST_CASE("what does not apply says why") {
  FakeSubject subject;
  Problem p = Plain();
  p.attention.mask = data::Mask::CausalTopLeft();
  auto results = Run(subject, p);
  CHECK(results.at("MM3").status == Status::kNotApplicable);
  CHECK(results.at("MM3").note == "the mask makes the order of keys matter");
  CHECK(results.at("MM6").note == "the parts of this mask are no masks");
  p.attention.mask = {};
  p.attention.softcap = 20;
  CHECK(Run(subject, p).at("MM2").note == "a softcap bends logits");
  p = Plain();
  p.attention.v_is_in_k = true;
  p.v = data::Tensor();
  results = Run(subject, p);
  CHECK(results.at("MM1").note == "V is part of K");
  CHECK(results.at("MM5").note == "V is part of K");
  CHECK(Failed(results).empty());
  CHECK_THROWS_WITH_AS(RunMetamorphic(subject, Plain(), {.only = {"MM9"}}), "unknown check 'MM9': expected MM1 to MM8",
                       data::UsageError);
}

TEST_CASE("a kernel that does not take lengths is not judged by them") {
  class NoLengths : public FakeSubject {
   public:
    Outputs Run(const Problem& problem) override {
      if (problem.ragged()) throw data::UndecidedError("all sequences have one length");
      return FakeSubject::Run(problem);
    }
  } subject;
  const MetamorphicResult result = Run(subject, Plain()).at("MM7");
  CHECK(result.status == Status::kNotApplicable);
  CHECK(result.note == "the kernel does not take the problem: all sequences have one length");
}

// A kernel with all its roundings: FlashAttention-2 on an A100, bit by bit.
class Simulated : public Subject {
 public:
  std::string name() const override { return "fa2 (simulated)"; }
  Outputs Run(const Problem& p) override {
    if (p.ragged() || !p.sinks.empty()) throw data::UndecidedError("all sequences have one length");
    const data::Attention& a = p.attention;
    Outputs outputs{data::Tensor::Zeros(a.format, {a.batch, a.heads_q, a.seqlen_q, a.head_dim_v}),
                    data::Tensor::Zeros(Format::kFp32, {a.batch, a.heads_q, a.seqlen_q})};
    sim::Execute(sim::FindKernel("fa2"), a, {.Br = 64, .Bc = 32, .warps = 4}, "sm80",
                 {p.q.ContiguousBytes().data(), p.k.ContiguousBytes().data(), p.v.ContiguousBytes().data()},
                 {outputs.o.ContiguousBytes().data(), outputs.lse->Elements<float>().data()});
    return outputs;
  }
};

TEST_CASE("a simulated kernel passes with all its roundings") {
  Simulated subject;
  for (const char* name :
       {"b2_h4-2_s70x129_d64_bf16_full_hash-normal_seed1", "b1_h2-2_s65x97_d64_fp16_causal_spiky_seed2",
        "b1_h2-1_s64x200_d64_bf16_window-u-4_ascending_seed3", "b1_h2-1_s64x200_d64_bf16_full_cancelling_seed4",
        "b1_h2-1_s64x200_d64_fp16_causal_extreme_seed5"}) {
    CAPTURE(name);
    for (const MetamorphicResult& result :
         RunMetamorphic(subject, Materialize(ParseCaseSpec(name)), {.batch_invariant = true})) {
      CAPTURE(result.id);
      CAPTURE(result.compared);
      CAPTURE(result.error);
      CAPTURE(result.bound);
      CHECK(result.status != Status::kFailed);
    }
  }
}

}  // namespace
}  // namespace bitflash::verify
