#include "verify/predict/explain.h"

#include <algorithm>
#include <cassert>

#include "data/error.h"
#include "verify/predict/explain_claims.h"
#include "verify/predict/explain_contrast.h"
#include "verify/predict/explain_on_chip.h"
#include "verify/predict/explain_sweep.h"

namespace bitflash::verify {
namespace {

using data::Attention;
using data::Phase;

int ArchNumber(const data::Gpu& gpu) { return gpu.arch.size() > 2 ? std::atoi(gpu.arch.c_str() + 2) : 0; }

// The other phase of the same layer. A prompt that a decoding token continues is one sequence.
Attention OtherPhase(const ExplainInput& input, Phase other) {
  const Attention& a = input.attention;
  Attention result;
  if (input.model) {
    const int64_t batch = other == Phase::kPrefill ? 1 : a.batch;
    result = data::ToAttention(*input.model, input.model->groups[input.group], other, batch, a.seqlen_k);
    result.format = a.format;
    if (input.mask) result.mask = *input.mask;
    if (other == Phase::kDecode) result = AtLength(result, other, a.seqlen_k);
  } else {
    result = AtLength(a, other, a.seqlen_k);
    if (other == Phase::kPrefill) result.batch = 1;
  }
  data::Validate(result);
  return result;
}

std::vector<GroupSummary> SummariseGroups(const Explanation& e) {
  std::vector<GroupSummary> groups;
  if (!e.input.model || e.input.model->groups.size() < 2) return groups;
  const Attention& asked = e.asked().attention;
  for (size_t g = 0; g < e.input.model->groups.size(); ++g) {
    const data::LayerGroup& group = e.input.model->groups[g];
    GroupSummary summary{group.name, group.layers, g == e.input.group, {}};
    if (summary.chosen) {
      summary.problem = e.asked();
    } else {
      Attention a = data::ToAttention(*e.input.model, group, e.phase, asked.batch, asked.seqlen_k);
      a.seqlen_q = asked.seqlen_q;
      a.format = asked.format;
      if (e.input.mask) a.mask = *e.input.mask;
      summary.problem = CountContrast(a, e.input.gpu, e.input.fp32_scores);
      PredictHbm(summary.problem, e.input.gpu, e.input.most_replayed);
    }
    groups.push_back(std::move(summary));
  }
  return groups;
}

Conclusion Judge(const Explanation& e) {
  const Contrast& c = e.asked();
  // A tenth: below it, no end-to-end measurement would tell the kernels apart.
  constexpr double kWorthNaming = 0.10;
  if (e.phase == Phase::kDecode) {
    if (c.scores_in_hbm_share() >= kWorthNaming) return Conclusion::kDecodeShare;
    return c.score_share() < kWorthNaming ? Conclusion::kDecodeElsewhere : Conclusion::kDecodeInL2;
  }
  if (c.scores_stay_in_l2()) return Conclusion::kScoresInL2;
  return c.floor_ratio() < 1 + kWorthNaming ? Conclusion::kSmallGain : Conclusion::kRemovesHbm;
}

}  // namespace

std::string_view Name(Bottleneck bottleneck) {
  switch (bottleneck) {
    case Bottleneck::kHbm:
      return "hbm";
    case Bottleneck::kTensor:
      return "tensor";
    case Bottleneck::kSpecial:
      return "special";
  }
  return "";
}

std::string_view Name(ClaimVerdict verdict) {
  switch (verdict) {
    case ClaimVerdict::kSupported:
      return "supported";
    case ClaimVerdict::kRefuted:
      return "refuted";
    case ClaimVerdict::kDepends:
      return "depends";
  }
  return "";
}

std::string_view Name(Conclusion conclusion) {
  switch (conclusion) {
    case Conclusion::kRemovesHbm:
      return "removes-hbm-traffic";
    case Conclusion::kScoresInL2:
      return "scores-fit-l2";
    case Conclusion::kSmallGain:
      return "small-gain";
    case Conclusion::kDecodeElsewhere:
      return "decode-gains-elsewhere";
    case Conclusion::kDecodeShare:
      return "decode-removes-a-share";
    case Conclusion::kDecodeInL2:
      return "decode-scores-fit-l2";
  }
  return "";
}

const Claim& Explanation::claim(std::string_view id) const {
  const auto found = std::find_if(claims.begin(), claims.end(), [&](const Claim& c) { return c.id == id; });
  assert(found != claims.end());
  return *found;
}

int64_t Explanation::layers() const {
  if (!input.model) return 1;
  int64_t sum = 0;
  for (const data::LayerGroup& group : input.model->groups) sum += group.layers;
  return sum;
}

Explanation Explain(const ExplainInput& input) {
  Explanation e;
  e.input = input;
  Attention& asked = e.input.attention;
  data::Validate(asked);
  if (asked.seqlen_k < 1) {
    throw data::UsageError("seqlen_k is 0: expected at least 1, there is no traffic to explain without a key");
  }
  if (ArchNumber(input.gpu) < 80 && asked.format == data::Format::kBf16) {
    asked.format = data::Format::kFp16;
    e.notes.push_back(ExplainNote::kBf16AsFp16);
  }
  if (ArchNumber(input.gpu) >= 100) e.notes.push_back(ExplainNote::kNoBlackwell);
  if (asked.softcap > 0) e.notes.push_back(ExplainNote::kSoftcap);

  e.phase = input.phase.value_or(asked.seqlen_q == 1 ? Phase::kDecode : Phase::kPrefill);
  const Phase other = e.phase == Phase::kPrefill ? Phase::kDecode : Phase::kPrefill;
  const Attention other_attention = OtherPhase(e.input, other);
  e.prefill = CountContrast(e.phase == Phase::kPrefill ? asked : other_attention, input.gpu, input.fp32_scores);
  e.decode = CountContrast(e.phase == Phase::kDecode ? asked : other_attention, input.gpu, input.fp32_scores);
  for (Contrast* contrast : {&e.prefill, &e.decode}) {
    PredictHbm(*contrast, input.gpu, input.most_replayed);
    EstimateTimes(*contrast, input.gpu);
  }
  if (ChooseFlash(asked, input.gpu).reduced) e.notes.push_back(ExplainNote::kTileReduced);

  e.l2_bytes = UsableL2(input.gpu);
  e.l2_is_effective = input.gpu.l2_bytes_effective.has_value();
  e.tensor_flops = TensorPeak(input.gpu, asked.format);
  e.ridge = e.tensor_flops / input.gpu.hbm_bytes_per_second;
  e.on_chip = WatchOnChip(e.asked().flash, asked);
  e.loop = CountLoop(e.asked().flash, asked);
  Attention unmasked = asked;
  unmasked.mask = data::Mask::Full();
  e.unmasked_score_bytes =
      CountCost(ChooseStandard(unmasked, input.gpu, input.fp32_scores), unmasked, input.gpu).score_bytes;
  e.sweep = SweepLengths(e.asked(), e.phase, input.gpu, input.fp32_scores);
  e.groups = SummariseGroups(e);
  e.conclusion = Judge(e);
  e.claims = CheckClaims(e);
  return e;
}

}  // namespace bitflash::verify
