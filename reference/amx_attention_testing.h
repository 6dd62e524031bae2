// AmxAttention on the model of the tile unit and on the machine's, for its tests.
#ifndef BITFLASH_REFERENCE_AMX_ATTENTION_TESTING_H_
#define BITFLASH_REFERENCE_AMX_ATTENTION_TESTING_H_

#include <cmath>
#include <vector>

#include "doctest/doctest.h"
#include "reference/amx_attention.h"
#include "reference/amx_model_testing.h"
#include "reference/cpu_attention_testing.h"

namespace bitflash::reference {

inline CpuResult RunModel(const CpuProblem& p, const CpuAttentionInputs& inputs,
                          const AmxOptions& options = {.threads = 1}) {
  return Collect(p, inputs, [&](const auto&... problem) { RunAmxAttention(ModelSteps(), problem..., options); });
}
inline CpuResult RunModel(const CpuProblem& p, const AmxOptions& options = {.threads = 1}) {
  return RunModel(p, p.inputs(), options);
}

inline CpuResult RunMachine(const CpuProblem& p, const AmxOptions& options = {.threads = 1}) {
  return Collect(p, p.inputs(), [&](const auto&... problem) { AmxAttention(problem..., options); });
}

// NaN counts as NaN: hardware and C++ need not agree on its sign.
inline bool SameValues(const std::vector<float>& a, const std::vector<float>& b) {
  for (size_t i = 0; i < a.size(); ++i) {
    if (!(a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i])))) return false;
  }
  return a.size() == b.size();
}

// The model's verdict; the machine's results have the same values.
inline Verdict Check(const CpuProblem& p) {
  CAPTURE(data::ToString(p.a));
  const CpuResult model = RunModel(p);
  if (AmxSupport().empty()) {
    const CpuResult machine = RunMachine(p);
    CHECK(SameValues(machine.O, model.O));
    CHECK(SameValues(machine.LSE, model.LSE));
  }
  const Verdict verdict = Judge(p, GoldenOf(p, AmxAttentionArithmetic(p.a, p.output)), model);
  CHECK(verdict.judged > 0);
  CHECK(verdict.wrong == 0);
  return verdict;
}

inline CpuProblem Bf16Problem(const data::Attention& a, uint64_t seed, double spread = 1) {
  return FromProblem(NormalProblem(a, seed, spread), data::Format::kBf16, data::Format::kBf16, data::Format::kFp32, 0);
}

}  // namespace bitflash::reference

#endif  // BITFLASH_REFERENCE_AMX_ATTENTION_TESTING_H_
