// When the query tiles of recorded launches ended (gpu/probes/tile_watch.cc), beside the schedule that the model takes:
// the order in which tiles begin, who begins the next one, and how much SMs differ in speed.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <iterator>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "data/attention_testing.h"
#include "sim/l2/builds.h"
#include "sim/l2/parameters.h"
#include "sim/l2/predict.h"
#include "sim/nsight_csv.h"

namespace bitflash::sim::l2 {
namespace {

struct RecordedLaunch {
  std::string id;
  const Kernel* kernel = nullptr;
  Attention attention;
  Tiling tiling;
  std::vector<std::vector<double>> ends;  // by head and tile, microseconds
};

const data::Gpu& Gpu() {
  static const data::Gpu gpu = data::LoadGpu("h100");
  return gpu;
}

std::vector<RecordedLaunch> ReadLaunches() {
  std::vector<RecordedLaunch> launches;
  for (const NsightRow& row : ReadNsight("l2/h100-80gb-hbm3_tiles.csv")) {
    const std::string& kernel = row.at("kernel");
    if (Number(row, "head") == 0) {
      RecordedLaunch& launch = launches.emplace_back();
      launch.id = kernel + "/" + row.at("case");
      launch.kernel = &FindKernel(kernel == "cudnn" ? "cudnn-9.19-sm90" : kernel);
      launch.attention = ProblemOf(row, data::ParseMask(row.at("mask")));
      launch.tiling = ResolveTiling(*launch.kernel, launch.attention, Gpu(), {});
      REQUIRE(launch.tiling.Br == Number(row, "tile_rows"));
    }
    std::vector<double>& ends = launches.back().ends.emplace_back();
    const std::string& text = row.at("ends_us");
    for (size_t at = 0; at < text.size();) {
      size_t length = 0;
      ends.push_back(std::stod(text.substr(at), &length));
      at += length;
    }
  }
  return launches;
}

// When the model's blocks end, likewise; by its coarse clock.
std::vector<std::vector<double>> ModelEnds(const RecordedLaunch& launch) {
  const Count count = CountKernel(*launch.kernel, launch.attention, launch.tiling, Gpu());
  std::vector<std::vector<double>> ends(launch.ends.size(), std::vector<double>(launch.ends.front().size()));
  PredictOptions options;
  options.mode = Mode::kExact;
  options.observer = [&](const Event& event) {
    ends[static_cast<size_t>(event.head)][static_cast<size_t>(event.block.i)] = 1e6 * event.seconds;
  };
  Predict(*launch.kernel, launch.attention, launch.tiling, Gpu(), count, options);
  return ends;
}

using Tiles = std::vector<std::pair<size_t, size_t>>;  // head and tile, as they begin

// Heads one after another, with FlashAttention-2 the same head of every sequence before the next (dispatch.cc).
Tiles Ascending(const RecordedLaunch& launch) {
  Tiles tiles;
  const auto batch = static_cast<size_t>(launch.attention.batch);
  const size_t heads = launch.ends.size();
  for (size_t n = 0; n < heads; ++n) {
    const size_t head = launch.kernel->name == "pytorch-fa2" ? n % batch * (heads / batch) + n / batch : n;
    for (size_t tile = 0; tile < launch.ends[head].size(); ++tile) tiles.emplace_back(head, tile);
  }
  return tiles;
}

Tiles Descending(const RecordedLaunch& launch) {
  Tiles tiles = Ascending(launch);
  for (auto& [head, tile] : tiles) tile = launch.ends[head].size() - 1 - tile;
  return tiles;
}

int64_t Slots(const RecordedLaunch& launch) {
  return Gpu().sms *
         CountKernel(*launch.kernel, launch.attention, launch.tiling, Gpu()).launches[0].occupancy.blocks_per_sm;
}

double Median(std::vector<double> values) {
  std::ranges::sort(values);
  return values.at(values.size() / 2);
}

// How long tiles took per key, if they began in this order, each in the slot that was free first (`counter`) or in that
// of the tile `slots` before; relative to their median, without the first of every slot. And the slot of each.
struct Durations {
  std::vector<double> relative;
  std::vector<size_t> slot;
  // The middle of the distances from the median: ends that were seen late do not count.
  double spread() const {
    std::vector<double> distance;
    for (const double r : relative) distance.push_back(std::abs(r));
    return Median(distance);
  }
  // One sigma of the slots' medians.
  double slot_sigma(size_t slots) const {
    std::vector<std::vector<double>> of_slot(slots);
    for (size_t n = 0; n < slot.size(); ++n) of_slot[slot[n]].push_back(relative[n]);
    std::vector<double> medians;
    for (const auto& some : of_slot) {
      if (!some.empty()) medians.push_back(Median(some));
    }
    const double mean = std::accumulate(medians.begin(), medians.end(), 0.0) / static_cast<double>(medians.size());
    double squares = 0;
    for (const double m : medians) squares += (m - mean) * (m - mean);
    return std::sqrt(squares / static_cast<double>(medians.size()));
  }
};

Durations DurationsOf(const RecordedLaunch& launch, const Tiles& tiles, bool counter) {
  const auto slots = static_cast<size_t>(Slots(launch));
  std::vector<double> ends;
  for (const auto& [head, tile] : tiles) ends.push_back(launch.ends[head][tile]);
  std::vector<size_t> by_end(ends.size()), slot(ends.size());
  std::iota(by_end.begin(), by_end.end(), size_t{0});
  if (counter) std::ranges::stable_sort(by_end, {}, [&](size_t n) { return ends[n]; });
  Durations d;
  std::iota(slot.begin(), slot.begin() + static_cast<std::ptrdiff_t>(std::min(slots, slot.size())), size_t{0});
  const bool masked = launch.attention.mask.kind != data::Mask::Kind::kFull;
  for (size_t n = slots; n < ends.size(); ++n) {
    slot[n] = slot[by_end[n - slots]];
    if (tiles[n].second < 8 && masked) continue;  // short ones: their beginning and end count
    const double keys = masked ? static_cast<double>(tiles[n].second + 2) : 1;
    d.relative.push_back((ends[n] - ends[by_end[n - slots]]) / keys);
    d.slot.push_back(slot[n]);
  }
  const double median = Median(d.relative);
  for (double& r : d.relative) r = r / median - 1;
  return d;
}

TEST_CASE("tiles begin in ascending order, each when the first of all slots is free") {
  const std::vector<RecordedLaunch> launches = ReadLaunches();
  REQUIRE(launches.size() == 8);
  int not_fixed = 0, not_descending = 0;
  for (const RecordedLaunch& launch : launches) {
    CAPTURE(launch.id);
    const Tiles tiles = Ascending(launch);
    const double as_taken = DurationsOf(launch, tiles, true).spread();
    const double fixed = DurationsOf(launch, tiles, false).spread();
    const double descending = DurationsOf(launch, Descending(launch), true).spread();
    std::printf("  %-52s tiles take the same within %5.2f %%; with fixed shares %6.2f, descending %6.2f\n",
                launch.id.c_str(), 100 * as_taken, 100 * fixed, 100 * descending);
    CHECK(as_taken < 0.05);
    CHECK(as_taken < 1.1 * fixed);  // as good while blocks are nearly in step
    CHECK(as_taken < descending);
    not_fixed += 2 * as_taken < fixed, not_descending += 3 * as_taken < descending;
  }
  CHECK(not_fixed >= 5);
  CHECK(not_descending >= 6);
}

TEST_CASE("SMs differ in speed: cuDNN's as much as the model has it, and most of what its tiles differ in") {
  const double model = SpeedSpreadOf(MmaInstruction::kWgmma).sm / std::sqrt(12.0);  // of equal distribution
  for (const RecordedLaunch& launch : ReadLaunches()) {
    if (launch.kernel->name == "pytorch-fa2") continue;
    CAPTURE(launch.id);
    const double sigma = DurationsOf(launch, Ascending(launch), true).slot_sigma(static_cast<size_t>(Slots(launch)));
    std::printf("  %-52s SMs differ by %.2f %% (one sigma), in the model %.2f\n", launch.id.c_str(), 100 * sigma,
                100 * model);
    CHECK(sigma > model / 3);
    CHECK(sigma < 2 * model);
  }
}

TEST_CASE("the model's tiles end when the recorded ones did, up to the speed of the clock") {
  for (const RecordedLaunch& launch : ReadLaunches()) {
    if (launch.attention.seqlen_k > 12'000) continue;  // the short ones: a second
    CAPTURE(launch.id);
    const std::vector<std::vector<double>> model = ModelEnds(launch);
    double n = 0, x = 0, y = 0, xx = 0, xy = 0, last = 0;
    const auto all = [&](auto use) {
      for (size_t head = 0; head < model.size(); ++head) {
        for (size_t tile = 0; tile < model[head].size(); ++tile) use(model[head][tile], launch.ends[head][tile]);
      }
    };
    all([&](double a, double b) { n += 1, x += a, y += b, xx += a * a, xy += a * b, last = std::max(last, b); });
    const double slope = (n * xy - x * y) / (n * xx - x * x), offset = (y - slope * x) / n;
    double squares = 0;
    all([&](double a, double b) { squares += std::pow(offset + slope * a - b, 2); });
    const double sigma = std::sqrt(squares / n) / last;
    std::printf("  %-52s model and recording differ by %.2f %% of the launch (one sigma)\n", launch.id.c_str(),
                100 * sigma);
    CHECK(sigma < (launch.kernel->name == "pytorch-fa2" ? 0.03 : 0.01));  // two blocks share an SM
  }
}

// How far apart those of 132 SMs stand, in the order in which blocks fill them, that get one block in the place of two.
std::vector<size_t> GapsOfSingles(const std::vector<int64_t>& sm_of_block) {
  std::map<int64_t, std::pair<size_t, int>> sms;  // first block, blocks
  for (size_t n = 0; n < sm_of_block.size(); ++n) ++sms.try_emplace(sm_of_block[n], n, 0).first->second.second;
  std::vector<size_t> singles;
  for (const auto& entry : sms) {
    if (entry.second.second == 1) singles.push_back(entry.second.first);
  }
  std::ranges::sort(singles);
  std::vector<size_t> gaps;
  for (size_t n = 1; n < singles.size(); ++n) gaps.push_back(singles[n] - singles[n - 1]);
  return gaps;
}

TEST_CASE("a grid that leaves slots empty leaves them all over the GPU") {
  constexpr size_t kBlocks = 256;  // 264 would fill it
  std::vector<int64_t> recorded, model(kBlocks, -1);
  for (const NsightRow& row : ReadNsight("l2/h100-80gb-hbm3_placement.csv")) {
    if (row.at("blocks") == std::to_string(kBlocks)) recorded.push_back(Number(row, "sm"));
  }
  const Kernel& kernel = FindKernel("pytorch-fa2");
  const Attention a = data::PlainAttention(1, 32, 32, 256, 2048, 128);  // 4 query tiles, 2 parts of the keys
  const Tiling t = ResolveTiling(kernel, a, Gpu(), {});
  REQUIRE(t.splits == 2);
  PredictOptions options;
  options.mode = Mode::kExact;
  options.observer = [&](const Event& event) {
    if (event.launch == 0) model.at(static_cast<size_t>(event.slot)) = event.sm;
  };
  Predict(kernel, a, t, Gpu(), CountKernel(kernel, a, t, Gpu()), options);
  for (const std::vector<int64_t>& placed : {recorded, model}) {
    REQUIRE(placed.size() == kBlocks);
    const std::vector<size_t> gaps = GapsOfSingles(placed);
    CHECK(gaps.size() == 7);
    CHECK(std::ranges::count_if(gaps, [](size_t gap) { return gap >= 14 && gap <= 18; }) >= 5);
  }
}

TEST_CASE("24 of an H100's 132 SMs are faster where a CPC's share limits: the scores of one query") {
  std::vector<double> us;
  for (const NsightRow& row : ReadNsight("l2/h100-80gb-hbm3_scores.csv"))
    us.push_back(std::stod(row.at("us_per_tile")));
  REQUIRE(std::ssize(us) == Gpu().sms);
  const double all = Median(us);
  std::vector<double> fast;
  std::ranges::copy_if(us, std::back_inserter(fast), [&](double t) { return t < 0.85 * all; });
  CHECK(fast.size() == 24);
  const Attention a = data::PlainAttention(1, 32, 8, 1, 131072, 128);
  const Kernel& kernel = FindKernel("standard");
  const Build build = BuildOf(kernel, "standard_scores", a, ResolveTiling(kernel, a, Gpu(), {}), Gpu());
  std::printf("  24 SMs are %.2f times as fast as the others, in the model %.2f\n", all / Median(fast),
              build.roomy_cpc);
  CHECK(std::abs(all / Median(fast) / build.roomy_cpc - 1) < 0.05);
}

}  // namespace
}  // namespace bitflash::sim::l2
