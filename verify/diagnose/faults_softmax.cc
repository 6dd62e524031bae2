// Mistakes of the softmax and its arithmetic (S).
#include "verify/diagnose/fault_list.h"
#include "verify/diagnose/fault_problems.h"

namespace bitflash::verify {
namespace {

using sim::MachineFault;
using Kernel = SimulatedKernel;

double Scale(const Problem& p) { return p.attention.scale(); }
double OfHeadDim(const Problem& p) { return 1 / static_cast<double>(p.attention.head_dim); }

bool ScaleShows(const Kernel&, const Problem& p) { return Scale(p) != 1 && SeesKeys(p); }
Outputs ScaleMissing(const Kernel& k, const Problem& p) { return RunSimulated(k, WithScale(p, 1)); }
Outputs ScaleTwice(const Kernel& k, const Problem& p) { return RunSimulated(k, WithScale(p, Scale(p) * Scale(p))); }
bool HeadDimScaleShows(const Kernel&, const Problem& p) { return Scale(p) != OfHeadDim(p) && SeesKeys(p); }
Outputs ScaleOfHeadDim(const Kernel& k, const Problem& p) { return RunSimulated(k, WithScale(p, OfHeadDim(p))); }

// Scores that are stored in fp16 anyway, straight from one product, are rounded once with or without the mistake.
bool Fp16ScoresShow(const Kernel& k, const Problem& p) {
  const bool stored = k.kernel->stores_scores && !k.tiling.fp32_scores && p.attention.format != data::Format::kBf16;
  return SeesKeys(p) && !(stored && p.attention.head_dim <= 64);
}
// The output of a single tile of `standard` is rounded to the output's format at once.
bool Fp16OutputShows(const Kernel& k, const Problem& p) { return SeesKeys(p) && (IsOnline(k) || SeveralTiles(k, p)); }
// Lanes own pairs of neighbouring columns, eight columns a step; those of `standard` eight columns each.
bool OtherLanesShow(const Kernel&, const Problem& p) {
  return AnySequence(p, [](const data::Attention& a) {
    for (int64_t token = 0; token < a.seqlen_q; ++token) {
      if (sim::VisibleKeys(a, token).count > 8) return true;
    }
    return false;
  });
}

}  // namespace

std::vector<Fault> SoftmaxFaults() {
  constexpr FaultFamily kSoftmax = FaultFamily::kSoftmax;
  return {
      {"o-not-rescaled", "S01", kSoftmax, "O is not rescaled when the maximum rises", "O never rescaled",
       "https://github.com/paiml/aprender/issues/2753", When<OnlineTiles>, OnMachine<MachineFault::kOutputNotRescaled>},
      {"rescale-by-one", "S01", kSoftmax,
       "the maximum is updated before the rescale factor is computed from it: the factor is always 1",
       "neither O nor the row sum ever rescaled", "https://github.com/paiml/aprender/issues/2753", When<OnlineTiles>,
       OnMachine<MachineFault::kNothingRescaled>},
      {"l-not-rescaled", "S02", kSoftmax, "the row sum is not rescaled when the maximum rises; O is",
       "the row sum never rescaled", "", When<OnlineTiles>, OnMachine<MachineFault::kSumNotRescaled>},
      {"maximum-of-tile", "S03", kSoftmax, "the running maximum is that of the tile, not combined with earlier tiles",
       "a maximum that forgets earlier tiles", "https://github.com/Dao-AILab/flash-attention/pull/2174",
       When<OnlineTiles>, OnMachine<MachineFault::kTileMaximum>},
      {"maximum-unscaled", "S04", kSoftmax, "the maximum of the raw scores is subtracted from the scaled scores",
       "a raw maximum subtracted from scaled scores", "https://github.com/tile-ai/TileOPs/pull/1511", When<ScaleShows>,
       OnMachine<MachineFault::kRawMaximum>},
      {"maximum-constant", "S05", kSoftmax, "a constant, 10, is subtracted in place of the row maximum",
       "a constant in place of the row maximum", "https://github.com/HabanaAI/vllm-fork/issues/275", When<AnyKeys>,
       OnMachine<MachineFault::kConstantMaximum>},
      {"maximum-missing", "S05", kSoftmax, "no maximum is subtracted before the exponential", "no row maximum", "",
       When<AnyKeys>, OnMachine<MachineFault::kZeroMaximum>},
      {"p-e4m3", "S07", kSoftmax, "P is rounded to e4m3, where small probabilities become 0 that the row sum counts",
       "P in e4m3", "https://github.com/ROCm/FlyDSL/pull/1020", When<AnyKeys>,
       OnMachine<MachineFault::kProbabilitiesE4m3>},
      {"scores-fp16", "S08", kSoftmax, "scores are accumulated to fp16 instead of fp32", "fp16 scores",
       "https://github.com/ggml-org/llama.cpp/pull/13991", When<Fp16ScoresShow>, OnMachine<MachineFault::kScoresFp16>},
      {"o-fp16", "S08", kSoftmax, "O is kept in fp16 between tiles instead of fp32", "O accumulated in fp16",
       "https://github.com/ggml-org/llama.cpp/pull/9166", When<Fp16OutputShows>, OnMachine<MachineFault::kOutputFp16>},
      {"scale-missing", "S09", kSoftmax, "scores are not multiplied by the softmax scale", "softmax scale 1",
       "https://github.com/Dao-AILab/flash-attention/issues/1359", When<ScaleShows>, ScaleMissing},
      {"scale-of-head-dim", "S09", kSoftmax, "the softmax scale is 1 / head_dim instead of its root",
       "softmax scale 1 / head_dim", "https://github.com/Dao-AILab/flash-attention/issues/1359",
       When<HeadDimScaleShows>, ScaleOfHeadDim},
      {"scale-twice", "S09", kSoftmax, "the softmax scale is applied twice", "the softmax scale applied twice",
       "https://github.com/Dao-AILab/flash-attention/issues/1359", When<ScaleShows>, ScaleTwice},
      {"p-truncated", "S10", kSoftmax, "P is rounded toward zero instead of to nearest", "P truncated",
       "https://github.com/google/highway/pull/1962", When<AnyKeys>, OnMachine<MachineFault::kProbabilitiesTruncated>},
      {"o-truncated", "S10", kSoftmax, "O is rounded toward zero instead of to nearest", "O truncated",
       "https://github.com/google/highway/pull/1962", When<AnyKeys>, OnMachine<MachineFault::kOutputTruncated>},
      {"l-sums-rounded-p", "S11", kSoftmax, "the row sum adds up P after its rounding", "a row sum of the rounded P",
       "", When<AnyKeys>, OnMachine<MachineFault::kSumOfRoundedProbabilities>},
      {"l-lane-lost", "S12", kSoftmax, "the row sum misses one of four lanes", "a row sum of three lanes in four", "",
       When<AnyKeys>, OnMachine<MachineFault::kLaneLost>},
      {"l-shuffle-missing", "S12", kSoftmax, "the last shuffle of the row sum is missing: half of the lanes count",
       "a row sum of half the lanes", "", When<OtherLanesShow>, OnMachine<MachineFault::kShuffleMissing>},
      {"log2e-missing", "S13", kSoftmax, "2^x is taken of natural exponents: the factor log2(e) is missing",
       "powers of 2 without log2(e)", "", When<AnyKeys>, OnMachine<MachineFault::kLog2eMissing>},
      {"log2e-twice", "S13", kSoftmax, "e^x is taken of exponents that already contain log2(e)",
       "log2(e) applied twice", "", When<AnyKeys>, OnMachine<MachineFault::kLog2eTwice>},
      {"not-divided", "S14", kSoftmax, "O is not divided by the row sum", "O without its division by the row sum", "",
       When<AnyKeys>, OnMachine<MachineFault::kNotDivided>},
  };
}

}  // namespace bitflash::verify
