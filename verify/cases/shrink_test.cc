#include "verify/cases/shrink.h"

#include <doctest/doctest.h>

#include "data/error.h"
#include "verify/cases/case_generator.h"
#include "verify/judge/compare.h"
#include "verify/subjects/fake_subject.h"

namespace bitflash::verify {
namespace {

// The planted mistake against the same without it.
bool Differs(Planted planted, const Problem& problem) {
  FakeSubject wrong(planted), right;
  return !Compare(wrong.Run(problem).o, right.Run(problem).o).identical();
}

TEST_CASE("a mistake at one length is shrunk to one row and the smallest such length") {
  Problem p = Materialize(ParseCaseSpec("b3_h4-2_s5x193_d8_bf16_full_ragged_learned-sinks_hash-normal_seed3"));
  p.seqlens_q = {5, 5, 5};
  p.seqlens_k = {100, 193, 64};
  const auto fails = [](const Problem& problem) { return Differs(Planted::kTail, problem); };
  REQUIRE(fails(p));
  const Shrunk shrunk = Shrink(p, fails);
  const data::Attention& a = shrunk.problem.attention;
  CHECK(fails(shrunk.problem));
  CHECK(a.batch == 1);
  CHECK(a.heads_q == 1);
  CHECK(a.heads_kv == 1);
  CHECK(a.seqlen_q == 1);
  CHECK((a.seqlen_k == 1 || a.seqlen_k == 65));
  CHECK(a.head_dim == 1);
  CHECK(a.head_dim_v == 1);
  CHECK(shrunk.problem.sinks.empty());
  CHECK_FALSE(shrunk.problem.ragged());
  CHECK(shrunk.finished);
  CHECK(shrunk.evaluations < 300);
  CHECK_FALSE(shrunk.steps.empty());
  CHECK(Shrink(p, fails).steps == shrunk.steps);
}

TEST_CASE("what a mistake needs stays") {
  // Two sequences, as K of the first is read for all.
  const Problem p = Materialize(ParseCaseSpec("b3_h6-2_s17x33_d16_bf16_causal_hash-normal_seed3"));
  const auto fails = [](const Problem& problem) { return Differs(Planted::kFirstSequence, problem); };
  const Shrunk shrunk = Shrink(p, fails);
  CHECK(shrunk.problem.attention.batch == 2);
  CHECK(shrunk.problem.attention.heads_q == 1);
  CHECK(shrunk.problem.attention.seqlen_q == 1);
  CHECK(shrunk.problem.attention.mask == data::Mask::Full());
}

TEST_CASE("a kernel that takes one head_dim and no other mask keeps them") {
  const Problem p = Materialize(ParseCaseSpec("b2_h2-1_s4x65_d16_bf16_causal_spiky_seed3"));
  const auto fails = [](const Problem& problem) {
    const data::Attention& a = problem.attention;
    if (a.head_dim != 16 || a.head_dim_v != 16 || a.mask != data::Mask::Causal()) throw data::UndecidedError("no");
    return a.seqlen_k >= 20 && a.seqlen_q >= 3;
  };
  const Shrunk shrunk = Shrink(p, fails);
  CHECK(shrunk.problem.attention.head_dim == 16);
  CHECK(shrunk.problem.attention.seqlen_k == 20);
  CHECK(shrunk.problem.attention.seqlen_q == 3);
  CHECK(shrunk.problem.attention.batch == 1);
}

TEST_CASE("the number of evaluations is bounded") {
  const Problem p = Materialize(ParseCaseSpec("b3_h6-2_s17x33_d16_bf16_causal_hash-normal_seed3"));
  int64_t calls = 0;
  const auto fails = [&](const Problem&) { return ++calls % 3 == 0; };
  const Shrunk shrunk = Shrink(p, fails, 10);
  CHECK(calls == 10);
  CHECK(shrunk.evaluations == 10);
  CHECK_FALSE(shrunk.finished);
}

}  // namespace
}  // namespace bitflash::verify
