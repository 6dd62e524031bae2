#include "verify/predict/explain_sweep.h"

#include <algorithm>

#include "data/error.h"
#include "verify/predict/explain_contrast.h"

namespace bitflash::verify {
namespace {

constexpr int64_t kNothingReplayed = 0;  // closed forms only

// The shortest length in [1, LengthSweep::kLongest] for which `holds`, which is false up to some length and true from
// there on; empty when it never is. A problem too large to count (UsageError) is beyond every turning point: true.
template <class Predicate>
std::optional<int64_t> ShortestLength(const Predicate& holds) {
  const auto test = [&](int64_t seqlen) {
    try {
      return holds(seqlen);
    } catch (const data::UsageError&) {
      return true;
    }
  };
  // Counting costs time in proportion to the length, so the search comes from below.
  int64_t low = 0, high = 1;  // does not hold; to be asked
  while (!test(high)) {
    if (high == LengthSweep::kLongest) return std::nullopt;
    low = high;
    high *= 2;
  }
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (test(middle) ? high : low) = middle;
  }
  return high;
}

}  // namespace

LengthSweep SweepLengths(const Contrast& asked, data::Phase phase, const data::Gpu& gpu, bool fp32_scores) {
  const data::Attention& attention = asked.attention;
  const int64_t l2 = UsableL2(gpu);
  std::vector<int64_t> lengths{attention.seqlen_k};
  for (int64_t n = 128; n <= 131072; n *= 2) lengths.push_back(n);
  std::sort(lengths.begin(), lengths.end());
  lengths.erase(std::unique(lengths.begin(), lengths.end()), lengths.end());

  LengthSweep sweep;
  for (const int64_t n : lengths) {
    Contrast c;
    try {
      c = n == attention.seqlen_k ? asked : CountContrast(AtLength(attention, phase, n), gpu, fp32_scores);
    } catch (const data::UsageError&) {
      if (n <= attention.seqlen_k) throw;
      break;  // too large to count; longer ones have even more bytes
    }
    if (n != attention.seqlen_k) PredictHbm(c, gpu, kNothingReplayed);
    SweepPoint point;
    point.seqlen = n;
    point.standard_bytes = c.standard.hbm.compulsory;
    point.flash_bytes = c.flash.hbm.compulsory;
    point.score_bytes = c.standard.score_bytes;
    point.stored_bytes = c.standard.stored_bytes;
    point.scores_fit_l2 = point.stored_bytes <= l2;
    point.scores_in_hbm = c.scores_in_hbm();
    point.scores_stay_in_l2 = c.scores_stay_in_l2();
    point.score_share = c.score_share();
    point.floor_ratio = c.floor_ratio();
    point.blocks = c.flash.blocks;
    sweep.points.push_back(point);
  }

  const auto standard = [&](int64_t n) {
    const data::Attention a = AtLength(attention, phase, n);
    data::Validate(a);
    return CountCost(ChooseStandard(a, gpu, fp32_scores), a, gpu);
  };
  sweep.scores_exceed_operands = ShortestLength([&](int64_t n) {
    const KernelCost side = standard(n);
    return side.score_bytes > side.operand_bytes;
  });
  sweep.scores_leave_l2 = ShortestLength([&](int64_t n) { return standard(n).stored_bytes > l2; });
  sweep.scores_reach_hbm = ShortestLength([&](int64_t n) {
    Contrast c;
    c.standard = standard(n);
    PredictHbm(c.standard, AtLength(attention, phase, n), gpu, kNothingReplayed);
    return !c.scores_stay_in_l2();
  });
  // The parts of a split cache do not grow steadily with it, so decode has no such length.
  if (phase == data::Phase::kDecode) return sweep;
  sweep.blocks_fill_sms = ShortestLength([&](int64_t n) {
    const data::Attention a = AtLength(attention, phase, n);
    data::Validate(a);
    return CountCost(ChooseFlash(a, gpu), a, gpu).blocks >= gpu.sms;
  });
  return sweep;
}

}  // namespace bitflash::verify
