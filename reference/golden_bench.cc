// Speed of the golden attention, 8 heads of 4096 x 4096 x 128, beside its limit: the two matrix products alone, by
// Eigen with the same instructions, over a whole head at once and with no softmax between.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <memory>
#include <new>
#include <string>
#include <vector>

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

void GoldenHeads(benchmark::State& state, std::string isa, data::Mask mask) {
  constexpr int64_t kHeads = 8;
  const Problem p = NormalProblem({.heads_q = kHeads,
                                   .heads_kv = kHeads,
                                   .seqlen_q = kSeqlen,
                                   .seqlen_k = kSeqlen,
                                   .head_dim = kHeadDim,
                                   .head_dim_v = kHeadDim,
                                   .mask = mask},
                                  1);
  const GoldenExecution execution = {.threads = static_cast<int>(state.range(0)), .isa = isa};
  for (auto _ : state) benchmark::DoNotOptimize(GoldenAttention(p.a, p.inputs(), {}, execution).O.data());
  const double visible = mask == data::Mask::Full() ? 1 : 0.5 * (kSeqlen + 1) / kSeqlen;
  ReportFlops(state, kHeads * kHeadFlops * visible);
}

void EigenProducts(benchmark::State& state, std::string isa) {
  const BlockSteps& steps = ChooseBlockSteps(isa);
  const Problem p = NormalProblem({.seqlen_q = kSeqlen, .seqlen_k = kSeqlen}, 1);
  const auto aligned = [](const std::vector<double>& from) {
    auto* to = static_cast<double*>(::operator new (sizeof(double) * from.size(), std::align_val_t{64}));
    std::copy(from.begin(), from.end(), to);
    return std::unique_ptr<double, void (*)(double*)>(to,
                                                      [](double* x) { ::operator delete (x, std::align_val_t{64}); });
  };
  const auto Q = aligned(p.Q), K = aligned(p.K), V = aligned(p.V);
  const auto S = aligned(std::vector<double>(kSeqlen * kSeqlen)), O = aligned(std::vector<double>(p.Q.size()));
  const Block b = {.rows = kSeqlen,
                   .keys = kSeqlen,
                   .keys_padded = kSeqlen,
                   .head_dim = kHeadDim,
                   .head_dim_v = kHeadDim,
                   .scale = 1e-6,
                   .Q = Q.get(),
                   .K = K.get(),
                   .V = V.get(),
                   .S = S.get(),
                   .O = O.get()};
  for (auto _ : state) {
    steps.scores(b);
    steps.accumulate(b);
    benchmark::ClobberMemory();
  }
  ReportFlops(state, kHeadFlops);
}

const int kRegistered = [] {
  for (const std::string_view view : GoldenIsas()) {
    const std::string isa(view);
    benchmark::RegisterBenchmark(("limit: Eigen products, 1 thread, " + isa).c_str(), EigenProducts, isa)
        ->Unit(benchmark::kMillisecond);
    benchmark::RegisterBenchmark(("golden full " + isa + ", threads").c_str(), GoldenHeads, isa, data::Mask::Full())
        ->Arg(1)
        ->Arg(2)
        ->Unit(benchmark::kMillisecond)
        ->UseRealTime();
    benchmark::RegisterBenchmark(("golden causal " + isa + ", threads").c_str(), GoldenHeads, isa, data::Mask::Causal())
        ->Arg(2)
        ->Unit(benchmark::kMillisecond)
        ->UseRealTime();
  }
  return 0;
}();

}  // namespace
}  // namespace bitflash::reference
