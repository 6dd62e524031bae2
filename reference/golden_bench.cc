// Speed of the golden attention, 8 heads of 4096 x 4096 x 128, beside its limit: the two matrix products alone, by
// Eigen with the same instructions, over a whole head at once and with no softmax between.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "reference/error_bound.h"
#include "reference/golden.h"
#include "reference/golden_isa.h"
#include "reference/golden_testing.h"

namespace bitflash::reference {
namespace {

constexpr int64_t kSeqlen = 4096;
constexpr int64_t kHeadDim = 128;

// Floating-point operations of Q K^T and P V of one head.
constexpr double kHeadFlops = 4.0 * kSeqlen * kSeqlen * kHeadDim;

void ReportFlops(benchmark::State& state, double flops) {
  state.counters["GFLOP/s"] =
      benchmark::Counter(flops * 1e-9, benchmark::Counter::kIsIterationInvariantRate, benchmark::Counter::kIs1000);
}

constexpr int64_t kHeads = 8;

Problem Heads(const data::Mask& mask) {
  return NormalProblem({.heads_q = kHeads,
                        .heads_kv = kHeads,
                        .seqlen_q = kSeqlen,
                        .seqlen_k = kSeqlen,
                        .head_dim = kHeadDim,
                        .head_dim_v = kHeadDim,
                        .mask = mask},
                       1);
}

void GoldenHeads(benchmark::State& state, std::string isa, data::Mask mask) {
  const Problem p = Heads(mask);
  const GoldenExecution execution = {.threads = static_cast<int>(state.range(0)), .isa = isa};
  for (auto _ : state) benchmark::DoNotOptimize(GoldenAttention(p.a, p.inputs(), {}, execution).O.data());
  const double visible = mask == data::Mask::Full() ? 1 : 0.5 * (kSeqlen + 1) / kSeqlen;
  ReportFlops(state, kHeads * kHeadFlops * visible);
}

// The golden attention with its error bounds: five products in place of two.
void BoundedHeads(benchmark::State& state, std::string isa, data::Mask mask) {
  const Problem p = Heads(mask);
  const GoldenExecution execution = {.threads = static_cast<int>(state.range(0)), .isa = isa};
  const Arithmetic arithmetic = Arithmetic::ForFormat(data::Format::kBf16);
  for (auto _ : state) {
    benchmark::DoNotOptimize(BoundAttention(p.a, p.inputs(), {}, arithmetic, {}, execution).bound.O.data());
  }
}

struct Free {
  void operator()(double* x) const { ::operator delete (x, std::align_val_t{64}); }
};
using Aligned = std::unique_ptr<double, Free>;

Aligned AlignedCopy(const std::vector<double>& from) {
  Aligned to(static_cast<double*>(::operator new (sizeof(double) * from.size(), std::align_val_t{64})));
  std::copy(from.begin(), from.end(), to.get());
  return to;
}

// Every thread multiplies a whole head of its own.
void EigenProducts(benchmark::State& state, std::string isa) {
  const BlockSteps& steps = ChooseBlockSteps(isa);
  const Problem p = NormalProblem({.seqlen_q = kSeqlen, .seqlen_k = kSeqlen}, 1);
  const Aligned Q = AlignedCopy(p.Q), K = AlignedCopy(p.K), V = AlignedCopy(p.V);
  const int threads = static_cast<int>(state.range(0));
  std::vector<Aligned> S, O;
  for (int thread = 0; thread < threads; ++thread) {
    S.push_back(AlignedCopy(std::vector<double>(kSeqlen * kSeqlen)));
    O.push_back(AlignedCopy(std::vector<double>(kSeqlen * kHeadDim)));
  }
  for (auto _ : state) {
#pragma omp parallel for num_threads(threads)
    for (int thread = 0; thread < threads; ++thread) {
      const Block b = {.rows = kSeqlen,
                       .keys = kSeqlen,
                       .keys_padded = kSeqlen,
                       .head_dim = kHeadDim,
                       .head_dim_v = kHeadDim,
                       .scale = 1e-6,
                       .Q = Q.get(),
                       .K = K.get(),
                       .V = V.get(),
                       .S = S[thread].get(),
                       .O = O[thread].get()};
      steps.scores(b);
      steps.accumulate(b);
    }
    benchmark::ClobberMemory();
  }
  ReportFlops(state, threads * kHeadFlops);
}

const int kRegistered = [] {
  for (const std::string_view view : GoldenIsas()) {
    const std::string isa(view);
    const auto add = [&](const std::string& name, auto function, auto... arguments) {
      benchmark::RegisterBenchmark((name + ", " + isa + ", threads").c_str(), function, isa, arguments...)
          ->Arg(1)
          ->Arg(2)
          ->Unit(benchmark::kMillisecond)
          ->UseRealTime();
    };
    add("limit: Eigen products", EigenProducts);
    add("golden full", GoldenHeads, data::Mask::Full());
    add("golden causal", GoldenHeads, data::Mask::Causal());
    add("golden and bounds full", BoundedHeads, data::Mask::Full());
    add("golden and bounds causal", BoundedHeads, data::Mask::Causal());
  }
  return 0;
}();

}  // namespace
}  // namespace bitflash::reference
