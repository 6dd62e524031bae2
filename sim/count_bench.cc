// How long one count takes: batch 8, 128 heads, head_dim 128, causal, bf16 on an H200, the default tiling.
// Aim on one core: below 20 us for 4 Ki tokens, below 2 ms for 1 Mi.
#include <benchmark/benchmark.h>

#include "data/gpu.h"
#include "sim/count.h"

namespace bitflash::sim {
namespace {

void Count(benchmark::State& state, const char* name, int64_t seqlen_q) {
  const data::Gpu gpu = data::LoadGpu("h200");
  const Kernel& kernel = FindKernel(name);
  Attention a{.batch = 8, .heads_q = 128, .heads_kv = 128, .mask = data::Mask::Causal()};
  a.seqlen_k = state.range(0);
  a.seqlen_q = seqlen_q ? seqlen_q : a.seqlen_k;
  const Tiling t = kernel.DefaultTiling(a, gpu);
  for (auto _ : state) benchmark::DoNotOptimize(CountKernel(kernel, a, t, gpu));
}

void Lengths(benchmark::internal::Benchmark* b) {
  b->Arg(4 << 10)->Arg(128 << 10)->Arg(1 << 20)->Unit(benchmark::kMicrosecond);
}

BENCHMARK_CAPTURE(Count, standard, "standard", 0)->Apply(Lengths);
BENCHMARK_CAPTURE(Count, fa1, "fa1", 0)->Apply(Lengths);
BENCHMARK_CAPTURE(Count, fa2, "fa2", 0)->Apply(Lengths);
BENCHMARK_CAPTURE(Count, fa3, "fa3", 0)->Apply(Lengths);
BENCHMARK_CAPTURE(Count, split_kv_prefill, "split-kv", 0)->Apply(Lengths);
BENCHMARK_CAPTURE(Count, split_kv_decode, "split-kv", 1)->Apply(Lengths);

}  // namespace
}  // namespace bitflash::sim
