#include "sim/l2/stacks.h"

#include <algorithm>
#include <cmath>

namespace bitflash::sim::l2 {
namespace {

// Ticks between two reads of one slice by which nothing is lost: the first of them waits for DRAM, and the other comes
// near meanwhile (fitted to the DRAM reads of the recorded rows that are not held out).
constexpr int32_t kTogether = 3;

constexpr int kFraction = 20;  // bits of a time's fraction
constexpr double kFixed = int64_t{1} << kFraction;

constexpr int32_t kFirstTick = 8;  // the ticks before, kNever is one of them, are further away than kTogether

constexpr size_t kWidest = 2;  // of kScales: what is found with it is found with all of them

// The share of lines that are out of L2 when `load` of its capacity was touched since they were: a set has room for
// `granules` of those that hashes send there.
double Missed(double load, double granules) {
  constexpr double kLast = 5, kSteps = 64;  // of the normal distribution, in sigmas, and its table
  static const std::vector<double> kTable = [] {
    std::vector<double> table;
    for (double x = -kLast; x <= kLast; x += 1 / kSteps) table.push_back(0.5 * std::erfc(-x / std::sqrt(2.0)));
    return table;
  }();
  if (load <= 0) return 0;
  const double sigmas = (load - 1) * std::sqrt(granules / load);
  if (sigmas < -kLast) return 0;
  const auto at = static_cast<size_t>((sigmas + kLast) * kSteps + 0.5);
  return at < kTable.size() ? kTable[at] : 1;
}

}  // namespace

Stacks::Stacks(const CacheParameters& cache, int64_t heads, int64_t slices_per_head, int64_t units)
    : slices_(slices_per_head),
      of_home_(kUnit),
      of_copy_(cache.partitions == 1 ? 0 : kUnit),
      deepest_(2 * units * kUnit),
      first_of_head_(static_cast<size_t>(heads), -1) {
  for (int64_t depth = 0; depth <= deepest_; depth += kDepthStep) {
    const double load = static_cast<double>(2 * depth) / static_cast<double>(deepest_);
    ByScale& missed = missed_.emplace_back();
    for (size_t n = 0; n < missed.size(); ++n) {
      missed[n] = Missed(load * kScales[n], static_cast<double>(cache.set_granules));
    }
  }
}

void Stacks::Read(const Stretch& s) {
  int32_t& first = first_of_head_[static_cast<size_t>(s.head)];
  if (first < 0) {
    first = static_cast<int32_t>(lines_.size());
    lines_.resize(lines_.size() + static_cast<size_t>(2 * slices_));
  }
  // So many middles lie before each of the two places.
  const auto before_from = static_cast<int32_t>(s.from + 0.5), before_to = static_cast<int32_t>(s.to + 0.5);
  if (before_from == before_to) return;
  const bool up = before_to > before_from;
  const int32_t slice = up ? before_from : before_from - 1;
  const int32_t count = up ? before_to - before_from : before_from - before_to;
  const double on_the_way = up ? slice + 0.5 - s.from : s.from - (slice + 0.5);
  const double begin = kFirstTick + s.begin + on_the_way * s.pace;
  ticks_ = std::max(ticks_, static_cast<size_t>(begin + count * s.pace) + 2);
  reads_ += count;
  rows_.push_back({static_cast<uint64_t>(begin * kFixed), static_cast<uint64_t>(s.pace * kFixed),
                   static_cast<uint32_t>(first + s.side + 2 * slice), up ? 2 : -2, count});
}

void Stacks::Pass(int side, double time, double units) {
  const size_t tick = kFirstTick + static_cast<size_t>(time);
  if (newest_[0].size() <= tick) {
    for (auto& newest : newest_) newest.resize(tick + tick / 2 + 64);
  }
  const auto near = static_cast<int32_t>(units * kUnit);
  newest_[static_cast<size_t>(side)][tick] += near;
  if (of_copy_ > 0) newest_[static_cast<size_t>(1 - side)][tick] += near / 2;
}

// The lines that are read, sorted by tick, and where those of each tick end.
std::pair<std::vector<uint32_t>, std::vector<uint32_t>> Stacks::Sorted() const {
  std::vector<uint32_t> lines(static_cast<size_t>(reads_)), ends(ticks_ + 1);
  for (const Row& row : rows_) {
    uint64_t time = row.begin;
    for (int32_t n = 0; n < row.count; ++n, time += row.pace) ++ends[(time >> kFraction) + 1];
  }
  for (size_t tick = 1; tick <= ticks_; ++tick) ends[tick] += ends[tick - 1];
  for (const Row& row : rows_) {
    uint64_t time = row.begin;
    uint32_t line = row.line;
    for (int32_t n = 0; n < row.count; ++n, time += row.pace, line += static_cast<uint32_t>(row.step)) {
      lines[ends[time >> kFraction]++] = line;
    }
  }
  return {std::move(lines), std::move(ends)};
}

Stacks::Again Stacks::Replay(double half) {
  for (auto& newest : newest_) newest.resize(std::max(newest.size(), ticks_));
  known_.assign(lines_.size() / 2, 0);
  const auto [lines, ends] = Sorted();
  Again again;
  const uint32_t* begin = lines.data();
  for (size_t tick = kFirstTick; tick < ticks_; ++tick) {
    const uint32_t* const end = lines.data() + ends[tick];
    PlayTick(static_cast<int32_t>(tick), begin, end);
    begin = end;
    if (static_cast<double>(tick - kFirstTick) < half) again.until_half = again_;
  }
  again.in_all = again_;
  return again;
}

void Stacks::PlayTick(int32_t tick, const uint32_t* begin, const uint32_t* end) {
  Line* const lines = lines_.data();
  const std::array<int32_t*, 2> newest = {newest_[0].data(), newest_[1].data()};
  const int32_t of_home = of_home_, of_copy = of_copy_;
  for (const uint32_t* at = begin; at != end; ++at) {
    Line& line = lines[*at];
    if (line.copy == tick) continue;  // another block of this side reads it now
    if (tick - line.copy > kTogether) ComeBack(*at, tick);
    int32_t* const of_side = newest[*at & 1];
    of_side[line.home] -= of_home;
    of_side[line.copy] -= of_copy;
    of_side[tick] += of_home + of_copy;
    line = {tick, tick};
  }
}

// How much of the side was touched since `touched`, of what was touched in the same tick the half. kUnit.
int64_t Stacks::DepthOf(int32_t touched, int32_t now, int side) {
  int32_t& out = out_[static_cast<size_t>(side)];
  if (touched <= out) return deepest_;
  const int32_t* const newest = newest_[static_cast<size_t>(side)].data();
  int32_t depth = 0, tick = now;
  for (; tick - 4 >= touched; tick -= 4) {
    depth += newest[tick] + newest[tick - 1] + newest[tick - 2] + newest[tick - 3];
    if (depth < deepest_) continue;
    out = tick - 4;
    return deepest_;
  }
  while (tick > touched) depth += newest[tick--];
  if (depth >= deepest_) out = touched;
  return std::min<int64_t>(depth + (newest[touched] + kUnit) / 2, deepest_);
}

// A slice is read that was not in use: counts it, and notes that the other side looks at what is at home there.
void Stacks::ComeBack(uint32_t at, int32_t tick) {
  const int side = static_cast<int>(at & 1);
  const Line& line = lines_[at];
  const ByScale& home = MissedAt(DepthOf(line.home, tick, side));
  uint8_t& known = known_[at / 2];
  const bool before = known != 0;
  known = 1;
  ByScale missed = home;
  if (of_copy_ > 0) {
    // Half of the lines are at home here, of the others there may be a copy.
    const ByScale& copy = line.copy == line.home ? home : MissedAt(DepthOf(line.copy, tick, side));
    if (copy[kWidest] == 0) return;  // and all the more at home
    Line& there = lines_[at ^ 1];
    const ByScale& found = MissedAt(DepthOf(there.home, tick, 1 - side));
    for (size_t n = 0; n < missed.size(); ++n) missed[n] = (home[n] + copy[n] * found[n]) / 2;
    if (copy[0] > 0.5) {
      Newest(1 - side, there.home) -= of_home_;
      Newest(1 - side, tick) += of_home_;
      there.home = tick;
    }
  }
  if (!before) return;
  for (size_t n = 0; n < missed.size(); ++n) again_[n] += missed[n];
}

}  // namespace bitflash::sim::l2
