#include "sim/enumeration.h"

#include <doctest/doctest.h>

#include <random>
#include <string>

#include "sim/count_stream.h"
#include "sim/random_problem.h"

namespace bitflash::sim {
namespace {

void CheckLevel(const char* level, const PerTensor& counted, const PerTensor& enumerated) {
  CAPTURE(level);
  for (int tensor = 0; tensor < kTensorCount; ++tensor) {
    CAPTURE(std::string(Name(static_cast<TensorId>(tensor))));
    REQUIRE(counted[tensor].read == enumerated[tensor].read);
    REQUIRE(counted[tensor].write == enumerated[tensor].write);
  }
}

void CheckAgainstEnumeration(const Kernel& kernel, const RandomProblem& p) {
  CAPTURE(kernel.name);
  CAPTURE(data::ToString(p.attention));
  CAPTURE(ToString(p.tiling));
  CountStream counted;
  kernel.Run(counted, p.attention, p.tiling, kernel.recipe);
  const std::vector<Ledger> enumerated = Enumerate(kernel, p.attention, p.tiling);
  REQUIRE(counted.launched().size() == enumerated.size());
  for (size_t n = 0; n < enumerated.size(); ++n) {
    CAPTURE(counted.launched()[n].name);
    const Ledger& ledger = counted.launched()[n].ledger;
    CheckLevel("L2 to SM", ledger.l2_to_sm, enumerated[n].l2_to_sm);
    CheckLevel("compulsory HBM", ledger.hbm_compulsory, enumerated[n].hbm_compulsory);
    CheckLevel("shared memory", ledger.shared, enumerated[n].shared);
    CheckLevel("register operands", ledger.registers, enumerated[n].registers);
    REQUIRE(ledger.matrix_flops == enumerated[n].matrix_flops);
    REQUIRE(ledger.special_ops == enumerated[n].special_ops);
  }
}

void CheckRandomProblems(uint64_t seed, int trials, int64_t longest) {
  std::mt19937_64 rng(seed);
  for (int trial = 0; trial < trials; ++trial) {
    const Kernel& kernel = Kernels()[trial % Kernels().size()];
    CAPTURE(trial);
    RandomProblem p = MakeRandomProblem(rng, kernel, longest);
    // PyTorch's combine launch works on log-sum-exps and has no enumeration of its own; its bytes are held by Nsight's.
    if (kernel.name == "pytorch-fa2") p.tiling.splits = 1;
    CheckAgainstEnumeration(kernel, p);
  }
}

TEST_CASE("every count of every kernel equals an enumeration of rows, keys, heads and bytes") {
  CheckRandomProblems(11, 3000, 90);
}

TEST_CASE("the same for longer sequences" * doctest::test_suite("slow")) {
  CheckRandomProblems(12, 20000, 90);
  CheckRandomProblems(13, 2000, 700);
}

TEST_CASE("softmax rows longer than a block's registers: in shared memory, or in two passes") {
  for (const bool row_on_chip : {true, false}) {
    for (const int64_t seqlen_k : {8192, 8193, 16384, 20001}) {
      RandomProblem p;
      p.attention = {.seqlen_q = 17, .seqlen_k = seqlen_k, .head_dim = 16, .head_dim_v = 16};
      p.attention.mask = data::Mask::Window(9000, 0);
      p.tiling = {.Br = 16, .Bc = 128, .warps = 1, .row_on_chip = row_on_chip};
      CheckAgainstEnumeration(FindKernel("standard"), p);
    }
  }
}

}  // namespace
}  // namespace bitflash::sim
