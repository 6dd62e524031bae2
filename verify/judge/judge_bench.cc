// How long a judgement takes: 8 heads x 4096 x 4096 x 128 in bf16, outputs of simulated fa2, no kernel named and no
// variant searched. Aim on two cores: below 10 s.
#include <benchmark/benchmark.h>

#include "data/gpu.h"
#include "verify/judge/judge.h"
#include "verify/subjects/simulate.h"
#include "verify/subjects/simulated_subject.h"

namespace bitflash::verify {
namespace {

struct Solved {
  Problem problem;
  Outputs outputs;
};

const Solved& Large() {
  static const Solved solved = [] {
    Solved s;
    const data::Attention a{
        .heads_q = 8, .heads_kv = 8, .seqlen_q = 4096, .seqlen_k = 4096, .head_dim = 128, .head_dim_v = 128};
    s.problem = GenerateProblem(a, data::Distribution::kHashNormal, 1);
    s.outputs = RunSimulated(PublishedTilings(sim::FindKernel("fa2"), data::LoadGpu("h200"))(a), s.problem);
    return s;
  }();
  return solved;
}

void JudgeLarge(benchmark::State& state) {
  const Solved& s = Large();
  for (auto _ : state) benchmark::DoNotOptimize(Judge(s.problem, s.outputs, {.variant_work = 0}));
}
BENCHMARK(JudgeLarge)->Unit(benchmark::kSecond)->UseRealTime()->Iterations(1);

}  // namespace
}  // namespace bitflash::verify
