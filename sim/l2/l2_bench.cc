// How long a prediction takes: 32 heads, head_dim 128, bf16 on an H100, the default tiling.
// Aim on one core: the exact mode below 2 s for 16 Ki tokens, the closed form at least 1,000 shapes a second with their
// counts and times, over all lengths (Sweep prints items_per_second).
#include <benchmark/benchmark.h>

#include "data/gpu.h"
#include "sim/l2/predict.h"
#include "sim/time/estimate.h"

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

// What a sweep asks for every shape, of lengths up to 160,000 tokens.
void Sweep(benchmark::State& state, const char* name, bool causal) {
  const data::Gpu gpu = data::LoadGpu("h100");
  const Kernel& kernel = FindKernel(name);
  int64_t shapes = 0;
  for (auto _ : state) {
    for (int64_t length = 1000; length <= 160'000; length += 3000, ++shapes) {
      Attention a = Problem(length, causal);
      a.heads_q = a.heads_kv = state.range(0);
      const Tiling t = kernel.DefaultTiling(a, gpu);
      const Count count = CountKernel(kernel, a, t, gpu);
      const Rereads rereads = RereadsOf(kernel, a, t, gpu, count);
      benchmark::DoNotOptimize(
          Predict(kernel, a, t, gpu, count, {.mode = Mode::kClosedForm, .observer = {}, .rereads = &rereads}));
      benchmark::DoNotOptimize(EstimateTime(kernel, a, t, gpu, count, &rereads));
    }
  }
  state.SetItemsProcessed(shapes);
}

void Heads(benchmark::internal::Benchmark* b) { b->Arg(1)->Arg(4)->Arg(32)->Arg(64)->Unit(benchmark::kMillisecond); }

BENCHMARK_CAPTURE(Sweep, fa2, "fa2", false)->Apply(Heads);
BENCHMARK_CAPTURE(Sweep, fa2_causal, "fa2", true)->Apply(Heads);
BENCHMARK_CAPTURE(Sweep, fa3, "fa3", false)->Apply(Heads);
BENCHMARK_CAPTURE(Sweep, fa3_causal, "fa3", true)->Apply(Heads);
BENCHMARK_CAPTURE(Sweep, pytorch_fa2, "pytorch-fa2", false)->Apply(Heads);
BENCHMARK_CAPTURE(Sweep, pytorch_fa2_causal, "pytorch-fa2", true)->Apply(Heads);
BENCHMARK_CAPTURE(Sweep, cudnn, "cudnn-9.19-sm90", false)->Apply(Heads);
BENCHMARK_CAPTURE(Sweep, cudnn_causal, "cudnn-9.19-sm90", true)->Apply(Heads);
BENCHMARK_CAPTURE(Sweep, split_kv, "split-kv", false)->Apply(Heads);
BENCHMARK_CAPTURE(Sweep, split_kv_causal, "split-kv", true)->Apply(Heads);
BENCHMARK_CAPTURE(Sweep, standard, "standard", false)->Apply(Heads);
BENCHMARK_CAPTURE(Sweep, standard_causal, "standard", true)->Apply(Heads);
BENCHMARK_CAPTURE(Exact, fa2, "fa2", false)->Arg(4 << 10)->Arg(16 << 10)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Exact, fa2_causal, "fa2", true)->Arg(16 << 10)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Exact, fa3, "fa3", false)->Arg(16 << 10)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Exact, fa3_causal, "fa3", true)->Arg(16 << 10)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Exact, pytorch_fa2, "pytorch-fa2", false)->Arg(16 << 10)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Exact, pytorch_fa2_causal, "pytorch-fa2", true)->Arg(16 << 10)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Exact, cudnn, "cudnn-9.19-sm90", false)->Arg(16 << 10)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Exact, cudnn_causal, "cudnn-9.19-sm90", true)->Arg(16 << 10)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Exact, standard, "standard", false)->Arg(4 << 10)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(ClosedForm, fa2, "fa2", false)->Arg(16 << 10)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(ClosedForm, fa2_causal, "fa2", true)->Arg(16 << 10)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(ClosedForm, standard, "standard", true)->Arg(16 << 10)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace bitflash::sim::l2
