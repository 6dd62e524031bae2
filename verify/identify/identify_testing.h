// Test-only: problems with outputs of a known recipe.
#ifndef BITFLASH_VERIFY_IDENTIFY_IDENTIFY_TESTING_H_
#define BITFLASH_VERIFY_IDENTIFY_IDENTIFY_TESTING_H_

#include <cstdint>

#include "data/golden.h"
#include "sim/execute.h"
#include "verify/cases/problem.h"
#include "verify/subjects/simulate.h"

namespace bitflash::verify {

inline Problem MakeProblem(const data::Attention& a, uint64_t seed) {
  const KernelInputs inputs = GenerateInputs(a, SelectHeads(a, 0, a.heads_q), data::Distribution::kHashNormal, seed);
  Problem problem;
  problem.attention = a;
  problem.q = inputs.q;
  problem.k = inputs.k;
  problem.v = inputs.v;
  return problem;
}

inline Outputs SimulateOutputs(const Problem& p, const sim::Kernel& kernel, const sim::Tiling& tiling,
                               std::string_view arch) {
  const HeadSubset heads = SelectHeads(p.attention, 0, p.attention.heads_q);
  Simulated simulated = Simulate(kernel, heads, tiling, arch, {p.q, p.k, p.v});
  return {simulated.o.View(data::ElementType(p.attention.format)), simulated.lse};
}

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_IDENTIFY_IDENTIFY_TESTING_H_
