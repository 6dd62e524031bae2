// Mistakes of LSE, of split keys and their combination (L).
#include <numbers>

#include "verify/diagnose/fault_list.h"
#include "verify/diagnose/fault_outputs.h"
#include "verify/diagnose/fault_problems.h"

namespace bitflash::verify {
namespace {

using sim::MachineFault;
using Kernel = SimulatedKernel;

bool LseOfKeys(const Kernel& k, const Problem& p) { return WritesLse(k) && SeesKeys(p); }
bool ScaledLse(const Kernel& k, const Problem& p) { return LseOfKeys(k, p) && p.attention.scale() != 1; }
Outputs LseBase2(const Kernel& k, const Problem& p) {
  Outputs outputs = RunSimulated(k, p);
  ChangeLse(outputs, [](float lse, int64_t, int64_t, int64_t) { return lse * std::numbers::log2e_v<float>; });
  return outputs;
}

// Partial outputs with m and l of their own, as split-kv leaves them; pytorch-fa2 combines normalised outputs by LSE.
bool SplitsWithSums(const Kernel& k, const Problem& p) { return k.kernel->fixed_parts && Splits(k, p); }

bool SeveralSequences(const Kernel&, const Problem& p) { return p.attention.batch > 1 && SeesKeys(p); }
Outputs FirstSequenceKeys(const Kernel& k, const Problem& p) {
  const data::Attention& a = p.attention;
  return RunSimulated(k, WithKeyRows(p, [&](int64_t, int64_t h, int64_t r) { return h * a.seqlen_k + r; }));
}

}  // namespace

std::vector<Fault> SplitFaults() {
  constexpr FaultFamily kSplit = FaultFamily::kSplit;
  return {
      {"lse-base-2", "L01", kSplit, "LSE is a logarithm to base 2", "LSE to base 2",
       "https://github.com/sgl-project/sglang/issues/40903", When<LseOfKeys>, LseBase2},
      {"lse-without-maximum", "L02", kSplit, "LSE lacks the row maximum", "LSE without the row maximum",
       "https://github.com/Dao-AILab/flash-attention/issues/404", When<LseOfKeys>,
       OnMachine<MachineFault::kLseWithoutMaximum>},
      {"lse-without-log", "L02", kSplit, "LSE adds the row sum itself instead of its logarithm",
       "LSE with the row sum in place of its logarithm", "", When<LseOfKeys>, OnMachine<MachineFault::kLseWithoutLog>},
      {"lse-maximum-unscaled", "L02", kSplit, "the maximum in LSE is not multiplied by the softmax scale",
       "LSE with a raw maximum", "", When<ScaledLse>, OnMachine<MachineFault::kLseUnscaled>},
      {"empty-part-nan", "L03", kSplit, "a part of the keys that a row does not see gives NaN",
       "NaN from a part without visible keys", "https://github.com/flashinfer-ai/flashinfer/pull/4401",
       When<HasEmptyPart>, OnMachine<MachineFault::kEmptyPartNan>},
      {"kv-batch-stride-0", "L05", kSplit, "every sequence reads K and V of the first one",
       "K and V of the first sequence", "https://github.com/vllm-project/flash-attention/pull/176",
       When<SeveralSequences>, FirstSequenceKeys},
      {"part-dropped", "L06", kSplit, "the last part of the keys does not reach the result",
       "the last part of the keys missing", "https://github.com/sgl-project/sglang/issues/2465", When<Splits>,
       OnMachine<MachineFault::kPartDropped>},
      {"part-twice", "L06", kSplit, "the last part of the keys is counted twice", "the last part of the keys twice",
       "https://github.com/sgl-project/sglang/issues/2465", When<Splits>, OnMachine<MachineFault::kPartTwice>},
      {"parts-unweighted", "L08", kSplit, "parts are combined with equal weights, whatever their maxima",
       "parts of the keys with equal weights", "", When<Splits>, OnMachine<MachineFault::kPartsUnweighted>},
      {"part-sums-unweighted", "L08", kSplit, "the parts' outputs are weighted, their row sums are not",
       "unweighted row sums of the parts", "", When<SplitsWithSums>, OnMachine<MachineFault::kSumsUnweighted>},
      {"parts-without-maximum", "L08", kSplit, "the weights of the parts are not relative to the common maximum",
       "weights of parts without a common maximum", "", When<SplitsWithSums>,
       OnMachine<MachineFault::kPartsWithoutMaximum>},
  };
}

}  // namespace bitflash::verify
