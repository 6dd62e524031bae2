// How fast a whole attention forward is executed bit by bit: multiply-adds of the tensor core a second, everything else
// (softmax, conversions, copies, packing) included. Compare with FmaPeak of the same run.
#include <benchmark/benchmark.h>

#include <optional>

#include "data/convert_simd.h"
#include "data/random.h"
#include "data/simd_targets.h"
#include "hwy/targets.h"
#include "sim/count.h"
#include "sim/execute.h"

namespace bitflash::sim {
namespace {

std::vector<uint16_t> Generate(Format format, uint64_t seed, int64_t count) {
  std::vector<float> values(count);
  data::FillHashNormal(seed, 0, values);
  std::vector<uint16_t> bits(count);
  data::FromFloat(format, values.data(), bits.data(), count);
  return bits;
}

// Arguments: threads, SIMD target (0: the best).
void Forward(benchmark::State& state, const char* name, Format format, int64_t seqlen) {
  std::optional<data::UseTarget> target;
  if (state.range(1) != 0) {
    if ((hwy::SupportedTargets() & HWY_TARGETS & state.range(1)) == 0) {
      state.SkipWithError("this CPU does not have the target");
      return;
    }
    target.emplace(state.range(1));
  }
  const Attention a{.heads_q = 8,
                    .heads_kv = 8,
                    .seqlen_q = seqlen,
                    .seqlen_k = seqlen,
                    .mask = data::Mask::Causal(),
                    .format = format};
  const Kernel& kernel = FindKernel(name);
  const Tiling tiling = kernel.DefaultTiling(a, data::LoadGpu("h200"));
  const int64_t count = a.heads_q * seqlen * a.head_dim;
  const auto q = Generate(format, 0, count), k = Generate(format, 1, count), v = Generate(format, 2, count);
  std::vector<uint16_t> o(count);
  std::vector<float> lse(a.heads_q * seqlen);
  double multiply_adds = 0;
  for (auto _ : state) {
    const Executed executed = Execute(kernel, a, tiling, "sm90", {q.data(), k.data(), v.data()}, {o.data(), lse.data()},
                                      {.threads = static_cast<int>(state.range(0))});
    multiply_adds += static_cast<double>(executed.total.matrix_flops) / 2;
  }
  state.counters["multiply-adds"] = benchmark::Counter(multiply_adds, benchmark::Counter::kIsRate);
}

void Targets(benchmark::internal::Benchmark* b) {
  b->ArgNames({"threads", "target"})->Unit(benchmark::kMillisecond)->UseRealTime();
  b->Args({1, 0})->Args({2, 0})->Args({1, HWY_AVX2});
}

BENCHMARK_CAPTURE(Forward, fa2_bf16_8x4096x128_causal, "fa2", Format::kBf16, 4096)->Apply(Targets);
BENCHMARK_CAPTURE(Forward, fa2_fp16_8x4096x128_causal, "fa2", Format::kFp16, 4096)->Apply(Targets);
BENCHMARK_CAPTURE(Forward, pytorch_fa2_bf16_8x4096x128_causal, "pytorch-fa2", Format::kBf16, 4096)->Apply(Targets);
BENCHMARK_CAPTURE(Forward, fa3_bf16_8x4096x128_causal, "fa3", Format::kBf16, 4096)->Apply(Targets);

}  // namespace
}  // namespace bitflash::sim
