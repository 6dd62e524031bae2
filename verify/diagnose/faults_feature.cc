// Mistakes of features: softcap, sinks, fp8 scales (X).
#include "verify/diagnose/fault_list.h"
#include "verify/diagnose/fault_outputs.h"

namespace bitflash::verify {
namespace {

using Kernel = SimulatedKernel;

Problem WithoutSoftcap(Problem p) {
  p.attention.softcap = 0;
  return p;
}
Problem WithoutSinks(Problem p) {
  p.sinks.clear();
  return p;
}

// The kernel that makes the mistake is modelled, although the right one is not.
bool SoftcapShows(const Kernel& k, const Problem& p) {
  return p.attention.softcap > 0 && SeesKeys(p) && IsModelled(k, WithoutSoftcap(p));
}
Outputs SoftcapIgnored(const Kernel& k, const Problem& p) { return RunSimulated(k, WithoutSoftcap(p)); }

bool SinkShows(const Kernel& k, const Problem& p) {
  return !p.sinks.empty() && SeesKeys(p) && IsModelled(k, WithoutSinks(p));
}
Outputs SinkDropped(const Kernel& k, const Problem& p) { return RunSimulated(k, WithoutSinks(p)); }

bool SinkSumShows(const Kernel& k, const Problem& p) { return SinkShows(k, p) && WritesLse(k); }
Outputs SinkTwice(const Kernel& k, const Problem& p) {
  Outputs outputs = SinkDropped(k, p);
  AddSinks(outputs, p, [](int64_t) { return 2.0; });
  return outputs;
}
bool SinkGroupShows(const Kernel& k, const Problem& p) { return SinkSumShows(k, p) && p.attention.heads_kv > 1; }
Outputs SinkFirstGroup(const Kernel& k, const Problem& p) {
  Outputs outputs = SinkDropped(k, p);
  AddSinks(outputs, p, [&](int64_t head) { return head < p.attention.group() ? 1.0 : 0.0; });
  return outputs;
}

bool ScoreScaleShows(const Kernel&, const Problem& p) { return p.q_scale * p.k_scale != 1 && SeesKeys(p); }
Outputs ScoreScaleIgnored(const Kernel& k, const Problem& p) {
  Problem other = p;
  other.q_scale = other.k_scale = 1;
  return RunSimulated(k, other);
}
bool ValueScaleShows(const Kernel&, const Problem& p) { return p.v_scale != 1 && SeesKeys(p); }
Outputs ValueScaleIgnored(const Kernel& k, const Problem& p) {
  Problem other = p;
  other.v_scale = 1;
  return RunSimulated(k, other);
}
bool ScalesDiffer(const Kernel&, const Problem& p) { return p.k_scale != p.v_scale && SeesKeys(p); }
Outputs ScalesSwapped(const Kernel& k, const Problem& p) {
  Problem other = p;
  std::swap(other.k_scale, other.v_scale);
  return RunSimulated(k, other);
}

}  // namespace

std::vector<Fault> FeatureFaults() {
  constexpr FaultFamily kFeature = FaultFamily::kFeature;
  return {
      {"softcap-ignored", "X01", kFeature, "softcap is ignored", "no softcap",
       "https://github.com/sgl-project/sglang/issues/33915", SoftcapShows, SoftcapIgnored},
      {"sink-dropped", "X06", kFeature, "the attention sink does not join the row sum", "no attention sink",
       "https://github.com/modular/modular/issues/6198", SinkShows, SinkDropped},
      {"sink-twice", "X07", kFeature, "the attention sink joins the row sum twice", "the attention sink twice",
       "https://github.com/ROCm/rocm-libraries/issues/12227", SinkSumShows, SinkTwice},
      {"sink-first-group", "X08", kFeature, "only the first group of heads has its attention sink",
       "attention sinks in the first group of heads only", "https://github.com/NVIDIA/TensorRT-LLM/pull/15739",
       SinkGroupShows, SinkFirstGroup},
      {"qk-descale-ignored", "X09", kFeature, "the scales of Q and K are ignored", "Q and K without their scales",
       "https://github.com/flashinfer-ai/flashinfer/issues/1023", When<ScoreScaleShows>, ScoreScaleIgnored},
      {"v-descale-ignored", "X09", kFeature, "the scale of V is ignored", "V without its scale",
       "https://github.com/vllm-project/vllm/issues/23813", When<ValueScaleShows>, ValueScaleIgnored},
      {"kv-descale-swapped", "X09", kFeature, "K has the scale of V and V that of K", "the scales of K and V swapped",
       "", When<ScalesDiffer>, ScalesSwapped},
  };
}

}  // namespace bitflash::verify
