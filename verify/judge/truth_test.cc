// The truth against kernels: none that is right passes a bound, whatever the inputs; those that are wrong do.
#include "verify/judge/truth.h"

#include <doctest/doctest.h>

#include <cstdio>
#include <map>
#include <string>

#include "data/error.h"
#include "sim/random_problem.h"
#include "verify/judge/truth_testing.h"

namespace bitflash::verify {
namespace {

using data::Attention;
using data::Distribution;
using data::Format;
using data::Mask;

// A problem of one or two heads, and what the simulated kernel makes of it; false when it does not take it.
bool Run(const sim::Kernel& kernel, const sim::Tiling& tiling, std::string_view arch, const Problem& p,
         Outputs* outputs) {
  try {
    const Simulated simulated =
        Simulate(kernel, SelectHeads(p.attention, 0, p.attention.heads_q), tiling, arch, {p.q, p.k, p.v});
    *outputs = {simulated.o.View(p.attention.format), simulated.lse};
    return true;
  } catch (const data::UsageError&) {
    return false;
  } catch (const data::UndecidedError&) {
    return false;
  }
}

void SimulatedKernelsStayInside(uint64_t seed, int problems, int64_t longest) {
  std::mt19937_64 rng(seed);
  std::map<std::string, Ratio> worst;
  int ran = 0;
  for (int trial = 0; ran < problems && trial < 4 * problems; ++trial) {
    const sim::Kernel& kernel = sim::Kernels()[trial % sim::Kernels().size()];
    sim::RandomProblem random = sim::MakeRandomProblem(rng, kernel, longest);
    Problem p;
    p.attention = random.attention;
    Attention& a = p.attention;
    a.batch = 1;
    a.heads_kv = 1;
    a.heads_q = std::min<int64_t>(a.heads_q, 2);
    a.softcap = 0;
    a.head_dim = std::min<int64_t>(a.head_dim, 64);
    a.head_dim_v = std::min<int64_t>(a.head_dim_v, 64);
    if (a.format != Format::kFp16) a.format = Format::kBf16;
    const auto& all = data::AllDistributions();
    const Distribution distribution = all[rng() % (all.size() - 1)].distribution;
    GenerateTensors(distribution, rng(), &p);
    const std::string_view arch = kernel.min_arch >= 90 || rng() % 2 == 0 ? "sm90" : "sm80";
    Outputs outputs;
    if (!Run(kernel, random.tiling, arch, p, &outputs)) continue;
    ++ran;
    reference::Arithmetic arithmetic = ArithmeticOf(p, a.format, kernel, random.tiling);
    if (kernel.name == "fa1") outputs.lse.reset();  // it writes none
    if (kernel.stores_scores && !random.tiling.fp32_scores) {
      arithmetic.score_unit = arithmetic.p_unit;
      arithmetic.score_max = arithmetic.output_max;
    }
    const Ratio ratio = Compare(outputs, ComputeTruth(p, arithmetic));
    CAPTURE(kernel.name);
    CAPTURE(data::ToString(a));
    CAPTURE(data::Name(distribution));
    CAPTURE(ToString(random.tiling));
    CAPTURE(arch);
    CHECK(ratio.o <= 1);
    CHECK(ratio.lse <= 1);
    Ratio& w = worst[std::string(kernel.name)];
    w = {std::max(w.o, ratio.o), std::max(w.lse, ratio.lse), std::max(w.o_sigmas, ratio.o_sigmas)};
  }
  CHECK(ran == problems);
  for (const auto& [kernel, w] : worst) {
    std::string line(160, '\0');
    line.resize(std::snprintf(line.data(), line.size(), "%-12s largest error / bound: O %.3f, LSE %.3f; sigmas %.1f",
                              kernel.c_str(), w.o, w.lse, w.o_sigmas));
    MESSAGE(line);
    CHECK(w.o > 0.2);  // a bound that nothing comes near would judge nothing
  }
}

TEST_CASE("truth: simulated kernels stay inside the bounds") { SimulatedKernelsStayInside(1, 350, 100); }

TEST_CASE("truth: thousands of simulated problems stay inside the bounds" * doctest::test_suite("slow")) {
  SimulatedKernelsStayInside(2, 4000, 300);
}

void PlainKernelStaysInside(uint64_t seed, int problems, int64_t longest) {
  std::mt19937_64 rng(seed);
  std::map<std::string_view, Ratio> worst;
  for (int trial = 0; trial < problems; ++trial) {
    const Problem p = RandomTruthProblem(rng, longest);
    const Format outputs[] = {p.attention.format, Format::kFp16, Format::kBf16, Format::kFp32};
    const Format output = outputs[rng() % 4];
    const Ratio ratio = Compare(PlainKernel(p, output), ComputeTruth(p, ArithmeticOf(p, output)));
    CAPTURE(trial);
    CAPTURE(data::ToString(p.attention));
    CAPTURE(data::Name(output));
    CHECK(ratio.o <= 1);
    CHECK(ratio.lse <= 1);
    Ratio& w = worst[data::Name(p.attention.format)];
    w = {std::max(w.o, ratio.o), std::max(w.lse, ratio.lse), std::max(w.o_sigmas, ratio.o_sigmas)};
  }
  for (const auto& [format, w] : worst) {
    std::string line(160, '\0');
    line.resize(std::snprintf(line.data(), line.size(), "%-5s largest error / bound: O %.3f, LSE %.3f; sigmas %.1f",
                              std::string(format).c_str(), w.o, w.lse, w.o_sigmas));
    MESSAGE(line);
    CHECK(w.o > 0.1);
  }
}

TEST_CASE("truth: a plain kernel of any format, with scales, sinks, softcap and lengths, stays inside the bounds") {
  PlainKernelStaysInside(3, 600, 60);
}

TEST_CASE("truth: thousands of plain problems stay inside the bounds" * doctest::test_suite("slow")) {
  PlainKernelStaysInside(4, 10000, 200);
}

Problem NormalProblem(Attention a, uint64_t seed = 5) {
  Problem p;
  p.attention = a;
  GenerateTensors(Distribution::kHashNormal, seed, &p);
  return p;
}

TEST_CASE("truth: wrong kernels pass the bounds") {
  for (const Format format : {Format::kBf16, Format::kFp16, Format::kFp32}) {
    const Problem p = NormalProblem({.heads_q = 2,
                                     .heads_kv = 2,
                                     .seqlen_q = 24,
                                     .seqlen_k = 100,
                                     .head_dim = 64,
                                     .head_dim_v = 32,
                                     .mask = Mask::Causal(),
                                     .format = format});
    const Truth truth = ComputeTruth(p, ArithmeticOf(p, format));
    CHECK(Compare(PlainKernel(p, format), truth).o <= 1);
    Problem top_left = p;
    top_left.attention.mask = Mask::CausalTopLeft();
    CHECK(Compare(PlainKernel(top_left, format), truth).o > 10);
    CHECK(Compare(PlainKernel(top_left, format), truth).lse > 10);
    Problem scaled = p;
    scaled.attention.softmax_scale = p.attention.scale() * 1.01;
    CHECK(Compare(PlainKernel(scaled, format), truth).lse > 10);
    if (format != Format::kBf16) CHECK(Compare(PlainKernel(scaled, format), truth).o > 1);
    Problem heads = p;  // the heads of V swapped
    heads.v = p.v.Clone();
    const int64_t half = p.v.bytes() / 2;
    std::rotate(heads.v.ContiguousBytes().data(), heads.v.ContiguousBytes().data() + half,
                heads.v.ContiguousBytes().data() + 2 * half);
    CHECK(Compare(PlainKernel(heads, format), truth).o > 10);
  }
}

TEST_CASE("truth: a sequence of its own lengths is the problem of those lengths") {
  Problem p = NormalProblem({.batch = 3,
                             .heads_q = 4,
                             .heads_kv = 2,
                             .seqlen_q = 9,
                             .seqlen_k = 20,
                             .head_dim = 16,
                             .head_dim_v = 8,
                             .mask = Mask::Causal()});
  p.seqlens_q = {9, 0, 5};
  p.seqlens_k = {13, 20, 0};
  const reference::Arithmetic arithmetic = ArithmeticOf(p, Format::kBf16);
  const Truth truth = ComputeTruth(p, arithmetic);
  const Truth first = ComputeTruth(Extract(p, WholeSequence(p, 0)), arithmetic);
  for (int64_t n = 0; n < 4 * 9; ++n) {
    CHECK(truth.lse[n] == first.lse[n]);
    CHECK(truth.lse_bound[n] == first.lse_bound[n]);
    CHECK(truth.o[n * 8 + 3] == first.o[n * 8 + 3]);
    CHECK(truth.o_bound[n * 8 + 3] == first.o_bound[n * 8 + 3]);
    CHECK(truth.o_sigma[n * 8 + 3] == first.o_sigma[n * 8 + 3]);
  }
  for (int64_t n = 4 * 9; n < 8 * 9; ++n) {  // no rows: padding
    CHECK(truth.lse[n] == 0);
    CHECK(truth.lse_bound[n] == INFINITY);
    CHECK(truth.o[n * 8] == 0);
    CHECK(truth.o_bound[n * 8] == INFINITY);
  }
  for (int64_t n = 8 * 9; n < 12 * 9; ++n) {  // no keys
    const bool padding = n % 9 >= 5;
    CHECK(truth.lse[n] == (padding ? 0 : -INFINITY));
    CHECK(truth.o_bound[n * 8] == (padding ? INFINITY : 0));
  }
}

TEST_CASE("truth: what is visible and not finite is said by kind, and has no bound") {
  Problem p = NormalProblem({.seqlen_q = 4, .seqlen_k = 4, .head_dim = 8, .head_dim_v = 2, .mask = Mask::Causal()});
  p.k.SetBits({0, 0, 2, 0}, data::CanonicalNan(Format::kBf16));
  p.v.SetBits({0, 0, 1, 1}, 0x7F80);  // +inf
  const Truth truth = ComputeTruth(p, ArithmeticOf(p, Format::kBf16));
  CHECK(std::isfinite(truth.o_bound[0]));
  CHECK(std::isfinite(truth.o_bound[1]));
  CHECK(std::isfinite(truth.o_bound[2]));  // row 1, column 0
  CHECK(truth.o[3] == INFINITY);
  CHECK(truth.o_bound[3] == INFINITY);
  CHECK(std::isnan(truth.o[4]));
  CHECK(truth.o_bound[4] == INFINITY);
  CHECK(truth.o_sigma[4] == INFINITY);
  CHECK(truth.lse_bound[2] == INFINITY);
  CHECK(std::isfinite(truth.lse_bound[1]));
}

TEST_CASE("truth: a key of weight zero does not lift the bound") {
  Problem p = NormalProblem({.seqlen_q = 1, .seqlen_k = 3, .head_dim = 1, .head_dim_v = 1});
  const Truth before = ComputeTruth(p, ArithmeticOf(p, Format::kBf16));
  const bool negative = p.q.Bits({0, 0, 0, 0}) >> 15 != 0;
  p.k.SetBits({0, 0, 1, 0}, negative ? 0x7F80 : 0xFF80);  // the score is -inf
  const Truth after = ComputeTruth(p, ArithmeticOf(p, Format::kBf16));
  CHECK(std::isfinite(after.o[0]));
  CHECK(after.lse_bound[0] <= 2 * before.lse_bound[0]);
}

}  // namespace
}  // namespace bitflash::verify
