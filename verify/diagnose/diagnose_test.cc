#include "verify/diagnose/diagnose.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "verify/diagnose/diagnose_sample.h"
#include "verify/diagnose/diagnose_tiles.h"
#include "verify/judge/judge.h"
#include "verify/subjects/simulate.h"

namespace bitflash::verify {
namespace {

using data::Attention;
using data::Mask;

Attention Small(int64_t queries, int64_t keys, const Mask& mask, int64_t head_dim = 32) {
  return {.heads_q = 2,
          .heads_kv = 1,
          .seqlen_q = queries,
          .seqlen_k = keys,
          .head_dim = head_dim,
          .head_dim_v = head_dim,
          .mask = mask};
}

Problem Generate(const Attention& a) { return GenerateProblem(a, data::Distribution::kHashNormal, 3); }

SimulatedKernel Kernel(const char* name, const sim::Tiling& tiling) { return {&sim::FindKernel(name), tiling, "sm90"}; }

// What is made of the kernel's outputs by somebody who does not know the kernel.
Diagnosis Untold(const SimulatedKernel& kernel, const char* fault, const Problem& p) {
  const Fault& f = FindFault(fault);
  REQUIRE(f.Applies(kernel, p));
  const Outputs outputs = f.Run(kernel, p);
  const Judgement j = Judge(p, outputs, {.variant_work = 0});
  REQUIRE(j.rung == Rung::kWrong);
  return Diagnose(p, outputs, j.evidence);
}

struct Untaught {
  const char* kernel;
  sim::Tiling tiling;
  const char* fault;
  std::string tiles;
};

TEST_CASE("mistakes that depend on tiles are named without the kernel, and the tiles are found") {
  const Problem causal = Generate(Small(40, 72, Mask::Causal()));
  const Untaught cases[] = {
      {"fa2", {.Br = 32, .Bc = 48, .warps = 2}, "o-not-rescaled", "tiles of 48 keys"},
      {"fa2", {.Br = 32, .Bc = 16, .warps = 2}, "mask-tile-unmasked", "tiles of 16 keys"},
      {"fa2", {.Br = 32, .Bc = 96, .warps = 2}, "tail-scores-zero", "tiles of 96 keys"},
      {"fa2", {.Br = 16, .Bc = 32, .warps = 1}, "k-stage-stale", "tiles of 32 keys"},
      {"split-kv", {.Br = 32, .Bc = 16, .warps = 2, .part_keys = 32}, "part-twice", "parts of 32 keys"},
      {"split-kv", {.Br = 16, .Bc = 16, .warps = 1, .part_keys = 32}, "split-mask-skipped", "tiles of 16 keys"},
      {"split-kv", {.Br = 32, .Bc = 16, .warps = 2, .page_size = 16}, "page-order", "pages of 16 keys"}};
  for (const Untaught& c : cases) {
    CAPTURE(std::string(c.fault));
    const Diagnosis d = Untold(Kernel(c.kernel, c.tiling), c.fault, causal);
    REQUIRE(d.finding() != nullptr);
    CHECK(d.finding()->id == c.fault);
    CHECK(d.finding()->tiles == c.tiles);
    // Pages say nothing about the tiles, which roundings depend on.
    CHECK(d.finding()->identical() == !c.tiles.starts_with("pages"));
  }
}

TEST_CASE("a kernel that rounds as none of the hypotheses does is diagnosed as well") {
  sim::Kernel kernel = sim::FindKernel("fa2");
  kernel.recipe.exponent = sim::Recipe::Exponent::kUnfused;
  kernel.recipe.row_sum = sim::Recipe::RowSum::kTileThenFused;
  kernel.recipe.reciprocal = sim::Recipe::Reciprocal::kRcp;
  const SimulatedKernel foreign = {&kernel, {.Br = 16, .Bc = 32, .warps = 1}, "sm80"};
  for (const char* fault : {"rescale-by-one", "mask-tile-unmasked", "scale-missing"}) {
    CAPTURE(std::string(fault));
    const Diagnosis d = Untold(foreign, fault, Generate(Small(40, 72, Mask::Causal())));
    REQUIRE(d.finding() != nullptr);
    CHECK(d.finding()->id == fault);
    CHECK(!d.finding()->identical());
  }
}

TEST_CASE("elements that the mistake leaves alone tell the kernel") {
  const Problem p = Generate(Small(40, 72, Mask::Causal()));
  const SimulatedKernel kernel = Kernel("fa2", {.Br = 32, .Bc = 48, .warps = 2});
  const Outputs outputs = FindFault("lse-base-2").Run(kernel, p);
  int64_t tried = 0;
  const std::vector<Trial> trials = SearchByBits(MakeSample(p, outputs), tried);
  REQUIRE(trials.size() == 1);
  CHECK(trials[0].kernel.tiling.Bc == 48);
  CHECK(trials[0].match.agreement == 1);  // all of O, none of LSE
  CHECK(tried > 10);
}

TEST_CASE("mistakes that give the same bits are one finding") {
  // Both read the first 64 of 80 columns.
  const Diagnosis d = Untold(Kernel("fa2", {.Br = 32, .Bc = 16, .warps = 2}), "qk-last-step-skipped",
                             Generate(Small(40, 72, Mask::Causal(), 80)));
  REQUIRE(d.finding() != nullptr);
  std::vector<std::string> named = d.finding()->same;
  named.push_back(d.finding()->id);
  std::ranges::sort(named);
  CHECK(named == std::vector<std::string>{"qk-first-64-columns", "qk-last-step-skipped"});
}

TEST_CASE("a step that is wrong comes before a number that fits as well") {
  Attention a = Small(40, 72, Mask::Causal());
  a.format = data::Format::kE4m3;
  Problem p = Generate(a);
  p.v_scale = 3;
  const Diagnosis d = Untold(Kernel("fa2", {.Br = 32, .Bc = 16, .warps = 2}), "v-descale-ignored", p);
  REQUIRE(d.hypotheses.size() > 1);
  CHECK(d.hypotheses[0].id == "v-descale-ignored");
  CHECK(std::ranges::any_of(d.hypotheses, [](const Hypothesis& h) { return h.id == "output-factor"; }));
}

TEST_CASE("a probe is the worst head, or the best") {
  const Problem p = Generate(Small(300, 64, Mask::Full()));
  Outputs outputs = RunSimulated(Kernel("fa2", {.Br = 32, .Bc = 16, .warps = 2}), p);
  const auto spoil = [&](int64_t head, int64_t row) {
    std::ranges::fill(outputs.o.Elements<uint16_t>().subspan((head * 300 + row) * 32, 32), uint16_t{0x7FC0});
  };
  const auto rows_of = [&](const Sample& probe, int64_t head, int64_t begin) {
    const int64_t rows = probe.problem.attention.seqlen_q;
    return probe.outputs.o == Extract(outputs, {0, {head, head + 1}, {begin, begin + rows}}).o;
  };
  SUBCASE("the last rows where they are wrong, from where a query tile begins") {
    for (int64_t row = 290; row < 300; ++row) spoil(1, row);
    const Sample probe = ProbeOf(MakeSample(p, outputs), Probe::kWorst, 130 * 64);
    CHECK(probe.problem.attention.heads_q == 1);
    CHECK(probe.problem.attention.seqlen_q == 300 - 128);
    CHECK(rows_of(probe, 1, 128));
    CHECK(rows_of(ProbeOf(MakeSample(p, outputs), Probe::kBest, 130 * 64), 0, 128));
  }
  SUBCASE("others where the last are right") {
    spoil(1, 20);
    const Sample probe = ProbeOf(MakeSample(p, outputs), Probe::kWorst, 130 * 64);
    CHECK(probe.problem.attention.seqlen_q == 130);
    CHECK(rows_of(probe, 1, 0));
  }
  SUBCASE("a sample of a large problem begins with a query tile, too") {
    for (int64_t row = 290; row < 300; ++row) spoil(1, row);
    const Judgement j = Judge(p, outputs, {.variant_work = 0});
    const Sample sample = SampleOf(p, outputs, j.evidence, 2 * 40 * 64);
    REQUIRE(sample.problem.attention.seqlen_q == 40);
    CHECK(sample.outputs.o == Extract(outputs, {0, {0, 2}, {256, 296}}).o);
  }
}

}  // namespace
}  // namespace bitflash::verify
