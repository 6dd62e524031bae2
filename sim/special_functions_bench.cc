// Elements per second of the simulated special functions, one thread.
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "data/simd_targets.h"
#include "sim/special_functions.h"
#include "sim/tensor_core_cases.h"

namespace bitflash::sim {
namespace {

constexpr int64_t kCount = 4096;

// For ex2 and exp2f: [-16, 0), as the scores of a softmax; for the others [1, 17).
std::vector<float> Inputs(Function function) {
  Random random(1);
  std::vector<float> x;
  const bool exponential = function == Function::kEx2 || function == Function::kExp2f;
  for (int64_t i = 0; i < kCount; ++i) {
    const float sixteenth = static_cast<float>(random.Next() >> 40) * 0x1p-20f;  // [0, 16)
    x.push_back(exponential ? sixteenth - 16 : sixteenth + 1);
  }
  return x;
}

void Span(benchmark::State& state, int64_t target, Function function) {
  const data::UseTarget use(target);
  const std::vector<float> x = Inputs(function);
  std::vector<float> y(x.size());
  for (auto _ : state) {
    Evaluate(function, x, y);
    benchmark::DoNotOptimize(y.data());
  }
  state.SetItemsProcessed(state.iterations() * kCount);
}

void OneByOne(benchmark::State& state, Function function) {
  const std::vector<float> x = Inputs(function);
  std::vector<float> y(x.size());
  for (auto _ : state) {
    for (int64_t i = 0; i < kCount; ++i) y[i] = Evaluate(function, x[i]);
    benchmark::DoNotOptimize(y.data());
  }
  state.SetItemsProcessed(state.iterations() * kCount);
}

[[maybe_unused]] const bool kRegistered = [] {
  for (const Function function : AllFunctions()) {
    const std::string name(Name(function));
    for (const int64_t target : data::UsableTargets()) {
      benchmark::RegisterBenchmark((name + "/" + hwy::TargetName(target)).c_str(), Span, target, function);
    }
    benchmark::RegisterBenchmark((name + "/definition").c_str(), OneByOne, function);
  }
  return true;
}();

}  // namespace
}  // namespace bitflash::sim
