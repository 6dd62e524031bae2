// The judge with and without the second witness.
#include <doctest/doctest.h>

#include <bit>
#include <cmath>

#include "data/convert.h"
#include "verify/judge/judge.h"
#include "verify/judge/truth_testing.h"
#include "verify/judge/witness.h"

namespace bitflash::verify {
namespace {

using data::Attention;
using data::Format;
using data::Mask;

const CpuKernel& Simd() { return *FindCpuKernel("cpu-simd"); }

Attention Large(Format format, const Mask& mask = Mask::Causal()) {
  return {.heads_q = 4,
          .heads_kv = 2,
          .seqlen_q = 300,
          .seqlen_k = 300,
          .head_dim = 16,
          .head_dim_v = 16,
          .mask = mask,
          .format = format};
}

JudgeOptions Sampled(WitnessChoice choice = WitnessChoice::kAuto, const CpuKernel* kernel = nullptr) {
  return {.variant_work = 0, .most_pairs = 4 * 40 * 300, .witness = choice, .witness_kernel = kernel};
}

TEST_CASE("judge: beside a witness fp64 sees a smaller sample, without one all that it may") {
  const Problem p = GenerateProblem(Large(Format::kBf16), data::Distribution::kHashNormal, 1);
  const Outputs outputs = PlainKernel(p, Format::kBf16);
  JudgeOptions options = Sampled();
  options.most_pairs_beside_witness = options.most_pairs / 4;
  const Judgement both = Judge(p, outputs, options);
  CHECK(both.rung == Rung::kBounded);
  REQUIRE(both.witness);
  CHECK(both.fp64_rows + both.witness->rows == 4 * 300);
  options.witness = WitnessChoice::kFp64;
  CHECK(Judge(p, outputs, options).fp64_rows >= 2 * both.fp64_rows);
  options.most_pairs = 4 * 300 * 300;  // all of it: nobody is asked to help
  options.witness = WitnessChoice::kAuto;
  const Judgement whole = Judge(p, outputs, options);
  CHECK(!whole.sampled);
  CHECK(!whole.witness);
}

// A row that fp64 does not see with these options.
int64_t UnseenRow(const Problem& p, const Outputs& outputs) {
  const Judgement j = Judge(p, outputs, Sampled(WitnessChoice::kFp64));
  REQUIRE(j.sampled);
  REQUIRE(Passes(j.rung));
  int64_t row = 150;
  while (j.evidence.places().judged_by_row[row] > 0) ++row;
  return row;
}

TEST_CASE("judge: a wrong row outside the sample is found only with the second witness") {
  for (const Format format : {Format::kBf16, Format::kFp16, Format::kFp32}) {
    CAPTURE(data::Name(format));
    const Problem p = GenerateProblem(Large(format), data::Distribution::kHashNormal, 1);
    Outputs outputs = PlainKernel(p, format);
    const int64_t row = UnseenRow(p, outputs);
    for (int64_t d = 0; d < 16; ++d) {  // the row of the next query
      outputs.o.SetBits({0, 2, row, d}, outputs.o.Bits({0, 2, row + 1, d}));
    }
    const Judgement alone = Judge(p, outputs, Sampled(WitnessChoice::kFp64));
    CHECK(alone.rung == Rung::kBounded);
    CHECK(!alone.witness);
    const Judgement both = Judge(p, outputs, Sampled());
    CHECK(both.rung == Rung::kWrong);
    REQUIRE(both.witness);
    CHECK(both.witness->used);
    CHECK(both.witness->beyond == both.evidence.beyond());
    CHECK(both.fp64_rows + both.witness->rows == 4 * 300);
    CHECK(both.evidence.o().elements == 4 * 300 * 16);
    CHECK(both.evidence.o().first_beyond->index[1] == 2);
    CHECK(both.evidence.o().first_beyond->index[2] == row);
    CHECK(both.evidence.places().by_row[row] == both.evidence.o().beyond);
    CHECK(both.reason.find("none of them in the rows that fp64 judged") != std::string::npos);
  }
}

TEST_CASE("judge: an LSE, a NaN and an infinity outside the sample are found by the second witness") {
  const Problem p = GenerateProblem(Large(Format::kBf16), data::Distribution::kHashNormal, 1);
  const Outputs outputs = PlainKernel(p, Format::kBf16);
  const int64_t row = UnseenRow(p, outputs);
  Outputs lse = {outputs.o.Clone(), outputs.lse->Clone()};
  lse.lse->SetBits({0, 3, row}, std::bit_cast<uint32_t>(1.0F));
  CHECK(Judge(p, lse, Sampled()).evidence.lse()->first_beyond->index == std::array<int64_t, 4>{0, 3, row, 0});
  for (const float value : {NAN, INFINITY}) {
    Outputs broken = {outputs.o.Clone(), outputs.lse->Clone()};
    broken.o.SetBits({0, 1, row, 5}, data::Encode(Format::kBf16, value));
    const Judgement j = Judge(p, broken, Sampled());
    CHECK(j.rung == Rung::kWrong);
    CHECK(j.evidence.o().first_kind->index == std::array<int64_t, 4>{0, 1, row, 5});
  }
}

TEST_CASE("judge: with the second witness correct outputs are never called wrong") {
  int used = 0;
  for (const Format format : {Format::kBf16, Format::kFp16, Format::kFp32}) {
    for (const Mask& mask :
         {Mask::Full(), Mask::Causal(), Mask::CausalTopLeft(), Mask::Window(40, 0), Mask::Window(20, 30)}) {
      for (const data::Distribution distribution : {data::Distribution::kHashNormal, data::Distribution::kSinks}) {
        Attention a = Large(format, mask);
        a.batch = 2;
        a.heads_q = 2, a.heads_kv = 1;
        a.seqlen_q = 90, a.seqlen_k = 100;
        if (distribution == data::Distribution::kSinks) a.softcap = 20;
        Problem p = GenerateProblem(a, distribution, 1);
        p.seqlens_q = {90, 57};
        p.seqlens_k = {100, 61};
        CAPTURE(data::ToString(a));
        JudgeOptions options = Sampled();
        options.most_pairs = 2 * 2 * 20 * 100;
        const Judgement j = Judge(p, PlainKernel(p, format), options);
        CHECK(j.rung == Rung::kBounded);
        CHECK(!j.practice);
        REQUIRE(j.witness);
        CAPTURE(j.witness->reason);
        CHECK(j.witness->used);
        CHECK(j.witness->check.elements > 0);
        CHECK(j.fp64_rows + j.witness->rows == 2 * (90 + 57));
        CHECK(j.reason == "every element is within its bound");
        used += j.witness->used;
      }
    }
  }
  CHECK(used == 30);
}

TEST_CASE("judge: a witness that fails its own check is not used, and the report says so") {
  const Problem p = GenerateProblem(Large(Format::kBf16), data::Distribution::kHashNormal, 1);
  CpuKernel broken = Simd();
  broken.run = [](const Attention& a, const reference::CpuAttentionInputs& in,
                  const reference::CpuAttentionOutputs& out, int threads) {
    Attention other = a;
    other.softmax_scale = a.scale() * 1.01;
    reference::CpuAttention(other, in, out, threads);
  };
  Outputs outputs = PlainKernel(p, Format::kBf16);
  const int64_t row = UnseenRow(p, outputs);
  const Judgement j = Judge(p, outputs, Sampled(WitnessChoice::kAuto, &broken));
  CHECK(j.rung == Rung::kBounded);
  REQUIRE(j.witness);
  CHECK(!j.witness->used);
  CHECK(j.witness->rows == 0);
  CHECK(j.witness->check.beyond > 0);
  CHECK(j.witness->reason.find("failed its own check") != std::string::npos);
  CHECK(j.reason.find("of a sample") != std::string::npos);
  // What fp64 finds alone it still finds: a NaN outside the sample.
  outputs.o.SetBits({0, 2, row, 3}, 0x7FC0);
  CHECK(Judge(p, outputs, Sampled(WitnessChoice::kAuto, &broken)).rung == Rung::kWrong);
}

TEST_CASE("judge: where the second witness does not apply, the problem is sampled and the report says so") {
  Problem p = GenerateProblem(Large(Format::kBf16), data::Distribution::kHashNormal, 1);
  p.sinks.assign(4, 0.5);
  const Judgement j = Judge(p, PlainKernel(p, Format::kBf16), Sampled());
  CHECK(j.sampled);
  REQUIRE(j.witness);
  CHECK(!j.witness->used);
  CHECK(j.witness->reason.find("sinks") != std::string::npos);
  CHECK(j.rung == Rung::kBounded);
}

TEST_CASE("judge: exact bits of a sample do not excuse a wrong row that the second witness sees") {
  Attention a = Large(Format::kBf16);
  a.head_dim = a.head_dim_v = 64;
  const Problem p = GenerateProblem(a, data::Distribution::kHashNormal, 1);
  const SimulatedKernel fa2 = {&sim::FindKernel("fa2"),
                               sim::ResolveTiling(sim::FindKernel("fa2"), a, data::LoadGpu("h200"), {}), "sm90"};
  Outputs outputs = RunSimulated(fa2, p);
  JudgeOptions options = Sampled();
  options.named = fa2;
  const Judgement exact = Judge(p, outputs, options);
  CHECK(exact.rung == Rung::kExact);
  CHECK(exact.reason.find("all others are within their bounds") != std::string::npos);
  const int64_t row = UnseenRow(p, outputs);
  outputs.o.SetBits({0, 0, row, 9}, 0);
  const Judgement wrong = Judge(p, outputs, options);
  CHECK(wrong.rung == Rung::kWrong);
  CHECK(wrong.named->differ == 0);
  CHECK(wrong.evidence.beyond() == 1);
}

TEST_CASE("judge: kSimd leaves to fp64 only what the check needs, also of problems within its budget" *
          doctest::test_suite("slow")) {
  const Problem p = GenerateProblem({.heads_q = 2,
                                     .heads_kv = 1,
                                     .seqlen_q = 8192,
                                     .seqlen_k = 8192,
                                     .head_dim = 16,
                                     .head_dim_v = 16,
                                     .mask = Mask::Causal(),
                                     .format = Format::kBf16},
                                    data::Distribution::kHashNormal, 1);
  const Outputs outputs = RunCpuKernel(Simd(), p);
  JudgeOptions options;
  options.variant_work = 0;
  CHECK(!Judge(p, outputs, options).sampled);
  options.witness = WitnessChoice::kSimd;
  const Judgement j = Judge(p, outputs, options);
  CHECK(j.rung == Rung::kBounded);
  REQUIRE(j.witness);
  CHECK(j.witness->used);
  CHECK(j.fp64_rows * 8192 <= kWitnessCheckPairs);
  CHECK(j.fp64_rows + j.witness->rows == 2 * 8192);
}

}  // namespace
}  // namespace bitflash::verify
