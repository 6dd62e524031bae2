// How long a prediction takes: 32 heads, head_dim 128, bf16 on an H100, the default tiling.
// Aim on one core: the exact mode below 2 s for 16 Ki tokens, the closed form at least 1,000 shapes a second with their
// counts.
#include <benchmark/benchmark.h>

#include "data/gpu.h"
#include "sim/l2/predict.h"

namespace bitflash::sim::l2 {
namespace {

Attention Problem(int64_t length, bool causal) {
  Attention a{.heads_q = 32, .heads_kv = 32, .seqlen_q = length, .seqlen_k = length};
  if (causal) a.mask = data::Mask::Causal();
  return a;
}

void Exact(benchmark::State& state, const char* name, bool causal) {
  const data::Gpu gpu = data::LoadGpu("h100");
  const Kernel& kernel = FindKernel(name);
  const Attention a = Problem(state.range(0), causal);
  const Tiling t = kernel.DefaultTiling(a, gpu);
  const Count count = CountKernel(kernel, a, t, gpu);
  for (auto _ : state) benchmark::DoNotOptimize(Predict(kernel, a, t, gpu, count));
}

void ClosedForm(benchmark::State& state, const char* name, bool causal) {
  const data::Gpu gpu = data::LoadGpu("h100");
  const Kernel& kernel = FindKernel(name);
  const Attention a = Problem(state.range(0), causal);
  const Tiling t = kernel.DefaultTiling(a, gpu);
  const PredictOptions options{.mode = Mode::kClosedForm, .start = Start::kStream, .seeds = 1, .observer = {}};
  for (auto _ : state) {
    const Count count = CountKernel(kernel, a, t, gpu);
    benchmark::DoNotOptimize(Predict(kernel, a, t, gpu, count, options));
  }
}

BENCHMARK_CAPTURE(Exact, fa2, "fa2", false)->Arg(4 << 10)->Arg(16 << 10)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Exact, fa2_causal, "fa2", true)->Arg(16 << 10)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Exact, fa3, "fa3", false)->Arg(16 << 10)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Exact, standard, "standard", false)->Arg(4 << 10)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(ClosedForm, fa2, "fa2", false)->Arg(16 << 10)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(ClosedForm, fa2_causal, "fa2", true)->Arg(16 << 10)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(ClosedForm, standard, "standard", true)->Arg(16 << 10)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace bitflash::sim::l2
