#include "verify/predict/tune.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <tuple>
#include <utility>

#include "data/error.h"
#include "sim/l2/predict.h"

namespace bitflash::verify {
namespace {

using sim::Limit;
using sim::Tiling;

constexpr int64_t kWgmmaRows[] = {64, 128, 192, 256}, kMmaRows[] = {16, 32, 64, 128, 256};
constexpr int64_t kWgmmaKeys[] = {32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256};
constexpr int64_t kMmaKeys[] = {16, 32, 64, 96, 128, 192, 256};
constexpr int64_t kWarps[] = {1, 2, 4, 8, 16};
constexpr int64_t kStages[] = {1, 2, 3, 4};
constexpr int64_t kSplits[] = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128};
constexpr int64_t kPartKeys[] = {128, 256, 512, 1024, 2048, 4096, 8192, 16384};

// What is tried of one choice: the user's value alone, else the grid's.
template <size_t N>
std::vector<int64_t> Values(const std::optional<int64_t>& fixed, const int64_t (&grid)[N]) {
  return fixed ? std::vector<int64_t>{*fixed} : std::vector<int64_t>(std::begin(grid), std::end(grid));
}

// Parts of the keys, by number or by length. A kernel with parts of a fixed length tries lengths unless the user chose
// a number; lengths beyond the sequence are the whole of it once.
std::vector<Tiling> Parts(const TuneInput& in, const Tiling& t) {
  std::vector<Tiling> all;
  const sim::Kernel& kernel = *in.kernel;
  const int64_t keys = in.attention.seqlen_k;
  if (kernel.fixed_parts && !in.fixed.splits) {
    for (const int64_t part_keys : Values(in.fixed.part_keys, kPartKeys)) {
      const int64_t whole = (part_keys + t.Bc - 1) / t.Bc * t.Bc;
      all.push_back(t);
      all.back().splits = 1, all.back().part_keys = in.fixed.part_keys ? part_keys : whole;
      if (whole >= keys) break;
    }
  } else if (kernel.splits_keys) {
    for (const int64_t splits : Values(in.fixed.splits, kSplits)) {
      if (!in.fixed.splits && splits > 1 && splits * t.Bc > keys) break;  // a part would have no tile
      all.push_back(t);
      all.back().splits = splits, all.back().part_keys = 0;
    }
  } else {
    all.push_back(t);
  }
  return all;
}

// Warps of a tile: each takes at least the rows of one matrix instruction; a warpgroup takes 64, or two share them.
std::vector<int64_t> WarpsOf(const TuneInput& in, int64_t Br) {
  if (in.fixed.warps) return {*in.fixed.warps};
  std::vector<int64_t> warps;
  if (in.kernel->mma == sim::MmaInstruction::kWgmma) {
    warps = {Br / 16, Br / 8};
  } else {
    for (const int64_t w : kWarps) {
      if (w * 16 <= Br) warps.push_back(w);
    }
  }
  std::erase_if(warps, [](int64_t w) { return w > 16; });
  return warps;
}

size_t MainLaunch(const sim::Count& count) {
  const auto most = std::ranges::max_element(count.launches, {},
                                             [](const sim::LaunchCount& launch) { return launch.ledger.matrix_flops; });
  return static_cast<size_t>(most - count.launches.begin());
}

int64_t Both(const sim::Traffic& traffic) { return traffic.read + traffic.write; }

// Times that agree to three digits are the same time.
double ThreeDigits(double seconds) {
  if (seconds <= 0) return 0;
  const double unit = std::pow(10, std::floor(std::log10(seconds)) - 2);
  return std::round(seconds / unit) * unit;
}

std::array<double, sim::kLimitCount> SecondsByLimit(const sim::TimeEstimate& time) {
  std::array<double, sim::kLimitCount> sum{};
  for (const sim::LaunchTime& launch : time.launches) {
    for (size_t n = 0; n < sum.size(); ++n) sum[n] += launch.part[n];
  }
  return sum;
}

// Of the candidate, feasible or not, that `is` holds for.
template <class Is>
TunePlace PlaceOf(const TuneResult& result, const Is& is) {
  TunePlace place;
  const auto found = std::ranges::find_if(result.ranked, is);
  if (found == result.ranked.end()) {
    place.rank = static_cast<size_t>(std::ranges::find_if(result.rejected, is) - result.rejected.begin());
    return place;
  }
  place.rank = static_cast<size_t>(found - result.ranked.begin());
  const sim::TimeEstimate &first = result.ranked.front().time, &own = found->time;
  place.slowdown = own.seconds / first.seconds - 1;
  place.verdict = place.rank == 0                 ? TuneVerdict::kFirst
                  : place.slowdown <= kTuneMargin ? TuneVerdict::kWithin
                                                  : TuneVerdict::kSlower;
  if (place.rank == 0) return place;
  const auto ours = SecondsByLimit(own), best = SecondsByLimit(first);
  for (size_t n = 0; n < ours.size(); ++n) {
    if (ours[n] - best[n] > place.because_seconds) {
      place.because_seconds = ours[n] - best[n];
      place.because = static_cast<Limit>(n);
    }
  }
  return place;
}

// What is read again is the same for any number of stages, as long as as many blocks fit an SM.
class KnownRereads {
 public:
  explicit KnownRereads(const TuneInput& in) : in_(in) {}

  const sim::l2::Rereads& Of(const Tiling& tiling, const sim::Count& count) {
    Known asked{tiling, {}, {}};
    asked.tiling.stages = 1;
    for (const sim::LaunchCount& launch : count.launches) asked.blocks_per_sm.push_back(launch.occupancy.blocks_per_sm);
    // Tilings that differ in their stages alone are tried one after another, or not far from it.
    for (auto known = known_.rbegin(); known != known_.rend(); ++known) {
      if (known->tiling == asked.tiling && known->blocks_per_sm == asked.blocks_per_sm) return known->rereads;
    }
    asked.rereads = sim::l2::RereadsOf(*in_.kernel, in_.attention, tiling, in_.gpu, count);
    return known_.emplace_back(std::move(asked)).rereads;
  }

 private:
  struct Known {
    Tiling tiling;                       // with one stage
    std::vector<int64_t> blocks_per_sm;  // by launch
    sim::l2::Rereads rereads;
  };
  const TuneInput& in_;
  std::vector<Known> known_;
};

}  // namespace

std::string_view Name(TuneVerdict verdict) {
  switch (verdict) {
    case TuneVerdict::kFirst:
      return "first";
    case TuneVerdict::kWithin:
      return "within";
    case TuneVerdict::kSlower:
      return "slower";
    case TuneVerdict::kInfeasible:
      return "infeasible";
  }
  return "";
}

std::optional<Tiling> ReferenceTiling(const TuneInput& in) {
  const sim::TilingChoice& fixed = in.fixed;
  if (in.kernel->Published == nullptr || fixed.Br || fixed.Bc || fixed.warps || fixed.stages) return std::nullopt;
  const sim::PublishedTile tile = in.kernel->Published(in.attention, in.gpu);
  Tiling t = sim::ResolveTiling(*in.kernel, in.attention, in.gpu, fixed);
  t.Br = tile.Br, t.Bc = tile.Bc, t.warps = tile.warps, t.stages = tile.stages;
  return t;
}

std::vector<Tiling> TuneGrid(const TuneInput& in) {
  const bool wgmma = in.kernel->mma == sim::MmaInstruction::kWgmma;
  const Tiling published = sim::ResolveTiling(*in.kernel, in.attention, in.gpu, in.fixed);
  std::vector<Tiling> grid = {published};
  const std::optional<Tiling> reference = ReferenceTiling(in);
  if (reference && *reference != published) grid.push_back(*reference);
  const std::vector<int64_t> rows = wgmma ? Values(in.fixed.Br, kWgmmaRows) : Values(in.fixed.Br, kMmaRows);
  const std::vector<int64_t> keys = wgmma ? Values(in.fixed.Bc, kWgmmaKeys) : Values(in.fixed.Bc, kMmaKeys);
  for (const int64_t Br : rows) {
    for (const int64_t Bc : keys) {
      for (const int64_t warps : WarpsOf(in, Br)) {
        for (const int64_t stages : Values(in.fixed.stages, kStages)) {
          Tiling t = published;
          t.Br = Br, t.Bc = Bc, t.warps = warps, t.stages = stages;
          for (const Tiling& candidate : Parts(in, t)) {
            if (candidate != published && candidate != reference) grid.push_back(candidate);
          }
        }
      }
    }
  }
  return grid;
}

TuneResult Tune(const TuneInput& in, const std::function<void(int64_t, int64_t)>& progress) {
  data::Validate(in.attention);
  const std::vector<Tiling> grid = TuneGrid(in);
  const std::optional<Tiling> reference = ReferenceTiling(in);
  TuneResult result;
  KnownRereads known(in);
  int64_t done = 0;
  for (const Tiling& tiling : grid) {
    const bool published = &tiling == &grid.front(), is_reference = tiling == reference;
    try {
      TuneCandidate candidate{.tiling = tiling, .published = published, .reference = is_reference};
      candidate.count = sim::CountKernel(*in.kernel, in.attention, tiling, in.gpu);
      const sim::l2::Rereads& rereads = known.Of(tiling, candidate.count);
      candidate.time = sim::EstimateTime(*in.kernel, in.attention, tiling, in.gpu, candidate.count, &rereads);
      candidate.main_launch = MainLaunch(candidate.count);
      candidate.hbm_bytes = sim::l2::Predict(*in.kernel, in.attention, tiling, in.gpu, candidate.count,
                                             {.mode = sim::l2::Mode::kClosedForm, .rereads = &rereads})
                                .total.hbm_bytes();
      candidate.requested_bytes = Both(sim::Sum(candidate.count.total.l2_to_sm));
      result.ranked.push_back(std::move(candidate));
    } catch (const data::UsageError& error) {
      result.rejected.push_back({tiling, published, is_reference, error.what()});
    }
    if (progress) progress(++done, static_cast<int64_t>(grid.size()));
  }
  if (result.ranked.empty()) throw data::UsageError(result.rejected.front().reason);
  const auto key = [](const TuneCandidate& c) {
    return std::tuple(ThreeDigits(c.time.seconds), c.hbm_bytes, c.requested_bytes, c.time.seconds);
  };
  std::ranges::stable_sort(result.ranked, {}, key);
  result.published = PlaceOf(result, [](const auto& candidate) { return candidate.published; });
  if (reference) result.reference = PlaceOf(result, [](const auto& candidate) { return candidate.reference; });
  return result;
}

}  // namespace bitflash::verify
