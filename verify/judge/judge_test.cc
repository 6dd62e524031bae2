#include "verify/judge/judge.h"

#include <doctest/doctest.h>

#include <cstring>

#include "data/error.h"
#include "data/gpu.h"
#include "verify/diagnose/diagnose.h"
#include "verify/subjects/simulate.h"
#include "verify/subjects/simulated_subject.h"

namespace bitflash::verify {
namespace {

using data::Attention;
using data::Mask;

Problem Generate(const Attention& a, uint64_t seed = 1,
                 data::Distribution distribution = data::Distribution::kHashNormal) {
  return GenerateProblem(a, distribution, seed);
}

SimulatedKernel Published(const char* name, const Attention& a) {
  return PublishedTilings(sim::FindKernel(name), data::LoadGpu("h200"))(a);
}

Attention Small(int64_t queries = 96, int64_t keys = 150, const Mask& mask = Mask::Causal()) {
  return {.heads_q = 4,
          .heads_kv = 2,
          .seqlen_q = queries,
          .seqlen_k = keys,
          .head_dim = 64,
          .head_dim_v = 64,
          .mask = mask};
}

TEST_CASE("exact: the bits of the kernel that is named") {
  const Problem p = Generate(Small());
  const SimulatedKernel fa2 = Published("fa2", p.attention);
  const Judgement j = Judge(p, RunSimulated(fa2, p), {.named = fa2});
  CHECK(j.rung == Rung::kExact);
  CHECK(j.named->elements == 4 * 96 * 64 + 4 * 96);
  CHECK(!j.sampled);
  CHECK(Passes(j.rung));
}

TEST_CASE("exact-variant: another recipe made them, and it is named") {
  const Problem p = Generate(Small());
  const Judgement j =
      Judge(p, RunSimulated(Published("cudnn-9.19-sm90", p.attention), p), {.named = Published("fa2", p.attention)});
  CHECK(j.rung == Rung::kExactVariant);
  REQUIRE(j.variant);
  CHECK(j.variant->kernel.find("cudnn-9.19-sm90") != std::string::npos);
  CHECK(j.named->differ > 0);
}

TEST_CASE("bounded: correct, but nobody's bits") {
  const Problem p = Generate(Small());
  Outputs outputs = RunSimulated(Published("fa2", p.attention), p);
  outputs.o.Elements<uint16_t>()[1000] ^= 1;  // one ulp of one element
  const Judgement j = Judge(p, outputs, {.named = Published("fa2", p.attention)});
  CHECK(j.rung == Rung::kBounded);
  CHECK(j.named->differ == 1);
  CHECK(j.named->o.first.index == std::vector<int64_t>{0, 0, 15, 40});
}

TEST_CASE("wrong: one element of a small row, which a norm does not see") {
  const Problem p = Generate(Small(256, 256));
  Outputs outputs = RunSimulated(Published("fa2", p.attention), p);
  const int64_t at = (3 * 256 + 250) * 64 + 7;  // a late row: its elements are small
  outputs.o.Elements<uint16_t>()[at] = 0;
  const Judgement j = Judge(p, outputs, {});
  CHECK(j.rung == Rung::kWrong);
  CHECK(j.evidence.o().beyond == 1);
  CHECK(j.evidence.o().worst->index == std::array<int64_t, 4>{0, 3, 250, 7});
}

TEST_CASE("an LSE alone can be wrong") {
  const Problem p = Generate(Small());
  Outputs outputs = RunSimulated(Published("fa2", p.attention), p);
  outputs.lse->Elements<float>()[17] += 0.01F;
  const Judgement j = Judge(p, outputs, {});
  CHECK(j.rung == Rung::kWrong);
  CHECK(j.evidence.o().beyond == 0);
  CHECK(j.evidence.lse()->beyond == 1);
}

TEST_CASE("a large problem is sampled in every head, at the beginning, the end and between, and says so") {
  const Problem p = Generate(Small(512, 512));
  const Outputs outputs = RunSimulated(Published("fa2", p.attention), p);
  const JudgeOptions options{
      .named = Published("fa2", p.attention), .most_pairs = 4 * 64 * 512, .witness = WitnessChoice::kFp64};
  const Judgement j = Judge(p, outputs, options);
  CHECK(j.sampled);
  CHECK(j.rung == Rung::kExact);
  const std::vector<int64_t>& judged = j.evidence.places().judged_by_row;
  CHECK(judged.front() > 0);
  CHECK(judged.back() > 0);
  CHECK(j.evidence.o().elements < 512 * 64 * 4 / 4);
  for (const int64_t elements : j.evidence.places().judged_by_head) CHECK(elements > 0);
  CHECK(j.reason.find("of a sample") != std::string::npos);

  SUBCASE("a NaN outside the sample is found anyway") {
    Outputs broken = outputs;
    int64_t row = 0;
    while (judged[row] > 0) ++row;
    broken.o.Elements<uint16_t>()[(2 * 512 + row) * 64 + 3] = 0x7FC0;
    const Judgement found = Judge(p, broken, options);
    CHECK(found.rung == Rung::kWrong);
    CHECK(found.evidence.o().first_beyond->index == std::array<int64_t, 4>{0, 2, row, 3});
  }
}

TEST_CASE("ragged sequences are judged by their own lengths, and padding is not") {
  Problem p = Generate(Small(64, 100));
  p.attention.batch = 1;
  p.seqlens_q = {40};
  p.seqlens_k = {77};
  Outputs outputs = RunSimulated(Published("fa2", p.attention), p);
  std::memset(outputs.o.ContiguousBytes().data() + 40 * 64 * 2, 0xFF, 24 * 64 * 2);  // head 0's padding
  const Judgement j = Judge(p, outputs, {});
  CHECK(Passes(j.rung));
  CHECK(j.evidence.o().elements == 4 * 40 * 64);
}

TEST_CASE("outputs of another shape are refused") {
  const Problem p = Generate(Small());
  Outputs outputs = RunSimulated(Published("fa2", p.attention), p);
  outputs.o = outputs.o.Slice(2, 0, 95).Contiguous();
  CHECK_THROWS_AS(Judge(p, outputs, {}), data::UsageError);
}

// What the diagnosis makes of a fault in a kernel that it is told, or not.
std::string Finding(const char* kernel, const char* fault, const Problem& p, bool told = true) {
  const SimulatedKernel simulated = Published(kernel, p.attention);
  const Fault& f = FindFault(fault);
  REQUIRE(f.Applies(simulated, p));
  const Outputs outputs = f.Run(simulated, p);
  const Judgement j = Judge(p, outputs, {.variant_work = 0});
  REQUIRE(j.rung == Rung::kWrong);
  DiagnoseOptions options;
  if (told) options.kernels = {simulated};
  const Diagnosis d = Diagnose(p, outputs, j.evidence, options);
  return d.finding() ? d.finding()->id : "";
}

TEST_CASE("mistakes are named") {
  const Problem p = Generate(Small());
  for (const char* fault : {"mask-top-left", "mask-ignored", "scale-missing", "head-modulo"}) {
    CAPTURE(fault);
    CHECK(Finding("fa2", fault, p) == fault);
  }
}

TEST_CASE("mistakes of an unknown kernel are named as well") {
  const Problem p = Generate(Small());
  CHECK(Finding("fa3", "mask-top-left", p, false) == "mask-top-left");
  CHECK(Finding("fa3", "scale-missing", p, false) == "scale-missing");
}

TEST_CASE("a number in a mistake is fitted") {
  const Problem p = Generate(Small(64, 150));
  Problem scaled = p;
  scaled.attention.softmax_scale = p.attention.scale() * 1.37;
  const Outputs outputs = RunSimulated(Published("fa2", p.attention), scaled);
  const Judgement j = Judge(p, outputs, {.variant_work = 0});
  const Diagnosis d = Diagnose(p, outputs, j.evidence);
  REQUIRE(d.finding() != nullptr);
  CHECK(d.finding()->id == "scale");
  CHECK(d.finding()->reading.find("1.37 times") != std::string::npos);
}

TEST_CASE("what nobody has seen is not given a name") {
  const Problem p = Generate(Small());
  Outputs outputs = RunSimulated(Published("fa2", p.attention), p);
  uint64_t state = 1;
  for (uint16_t& bits : outputs.o.Elements<uint16_t>()) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    bits = static_cast<uint16_t>(0x3F00 | (state >> 50 & 0x80FF));
  }
  const Judgement j = Judge(p, outputs, {.variant_work = 0});
  CHECK(j.rung == Rung::kWrong);
  CHECK(Diagnose(p, outputs, j.evidence).finding() == nullptr);
}

}  // namespace
}  // namespace bitflash::verify
