#include "sim/l2/skew.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "sim/l2/parameters.h"

namespace bitflash::sim::l2 {
namespace {

// Reads of a slice by a block that are replayed: at least, if there are so many; of so many heads, if those are more;
// and at most. What is left of a longer launch goes on as the second half of them did.
constexpr double kLeastReads = 6e3, kHeads = 4, kMostReads = 1.2e5;
constexpr double kMostBlocks = 48e3;  // where they are shorter than a slice

// Ticks in which all blocks together, each at a place of its own, would ask for as much as a partition holds.
constexpr double kTicks = 2;

constexpr double kTiny = 1e-9;  // of a slice: where rounding ends

// Slices of a quarter of a head at most, and so small that one from each of the regions in flight takes a quarter.
int64_t UnitsOf(const Attention& a, const Shared& launch, const CacheParameters& cache) {
  const double head = static_cast<double>(a.seqlen_k) * launch.kv_bytes * cache.partitions;
  return std::llround(std::clamp(4 * std::max(launch.capacity / head, launch.regions), 24.0, 200.0));
}

}  // namespace

Skew::Skew(const Kernel& kernel, const LaunchSpec& spec, const Attention& a, const Tiling& t, const data::Gpu& gpu,
           const CacheParameters& cache, const Shared& launch)
    : kernel_(kernel),
      spec_(spec),
      a_(a),
      t_(t),
      launch_(launch),
      partitions_(cache.partitions),
      sms_(gpu.sms),
      group_(t.pack_gqa ? 1 : a.group()),
      Bc_(t.Bc),
      units_(UnitsOf(a, launch, cache)),
      unit_(launch.capacity / static_cast<double>(partitions_ * units_)),
      keys_per_slice_(unit_ * partitions_ / launch.kv_bytes),
      rate_(static_cast<double>(units_) / kTicks / static_cast<double>(sms_)),
      stacks_(cache, a.batch * a.heads_kv, static_cast<int64_t>(static_cast<double>(a.seqlen_k) / keys_per_slice_) + 1,
              units_),
      residents_(static_cast<size_t>(sms_ * launch.blocks_per_sm)),
      on_(static_cast<size_t>(sms_)) {
  for (int64_t sm = 0; sm < sms_; ++sm) {
    on_[static_cast<size_t>(sm)].side = partitions_ == 1 ? 0 : kSidesOfGpcs[GpcOf(sm, sms_)];
  }
  double all = 0, weight = 1;
  for (int64_t residents = 1; residents <= launch.blocks_per_sm; ++residents, weight *= launch.younger) {
    all += weight;
    double part = all / rate_;  // its part of the SM, turned over
    for (int64_t n = 0; n < residents; ++n, part /= launch.younger) steps_.push_back(part);
  }
}

ByScale Skew::Replay() {
  const double of_head = SlicesOfHead();
  const double all = of_head * static_cast<double>(spec_.heads);
  for (const BlockRun& run : spec_.blocks) blocks_ += run.count * spec_.heads;
  passing_ = launch_.stream_bytes / static_cast<double>(blocks_) / unit_;
  const double of_block = std::max(all, 1.0) / static_cast<double>(blocks_);
  const double most =
      std::min({std::max(kLeastReads, kHeads * of_head), kMostReads, kMostBlocks * std::max(of_block, kTiny)});
  // As many blocks as that takes, and those that are at work when it is done.
  const auto most_blocks = static_cast<size_t>(2 * most / of_block) + 2 * residents_.size();
  dispatch_ = DispatchOf(kernel_, spec_, a_, t_, static_cast<int64_t>(most_blocks));
  order_ = InOrder(dispatch_, spec_, most_blocks);
  if (order_.size() > dispatch_.blocks.size()) walks_.resize(dispatch_.blocks.size());

  for (int64_t n = 0; n < static_cast<int64_t>(residents_.size()); ++n) Start(n % sms_, n, 0);
  for (int64_t sm = 0; sm < sms_; ++sm) Share(sm, 0);
  double asked = 0, half_asked = 0;
  size_t tick = 0, half = 0;
  while (busy_ > 0 && asked < most) {
    while (tick < due_.size() && due_[tick] >= 0) {
      const int32_t sm = due_[tick];
      due_[tick] = on_[static_cast<size_t>(sm)].after;
      End(sm, on_[static_cast<size_t>(sm)].due);
    }
    ++tick;
    asked += static_cast<double>(busy_) * rate_;
    if (half == 0 && asked >= most / 2) half_asked = asked, half = tick;
  }
  for (int64_t sm = 0; sm < sms_; ++sm) {
    for (int64_t n = 0; n < on_[static_cast<size_t>(sm)].residents; ++n) {
      MoveOn(sm, On(sm)[n], static_cast<double>(tick));
    }
  }
  const auto [until_half, in_all] = stacks_.Replay(static_cast<double>(half));
  ByScale shares{};
  for (size_t n = 0; n < shares.size() && asked > 0; ++n) {
    const double rate = asked > half_asked ? (in_all[n] - until_half[n]) / (asked - half_asked) : 0;
    shares[n] = (in_all[n] + rate * std::max(0.0, all - asked)) / all;
  }
  return shares;
}

// All that the blocks of one head ask for.
double Skew::SlicesOfHead() const {
  int64_t keys = 0;
  for (const BlockRun& blocks : spec_.blocks) {
    for (const KeyRun& run : blocks.keys) keys += run.total * run.first.rows.count;
  }
  return static_cast<double>(keys) / keys_per_slice_;
}

Skew::Walk Skew::WalkOf(int32_t block) {
  if (walks_.empty()) return NewWalkOf(block);
  std::optional<Walk>& walk = walks_[static_cast<size_t>(block)];
  return walk ? *walk : walk.emplace(NewWalkOf(block));
}

Skew::Walk Skew::NewWalkOf(int32_t block) const {
  const KeyRuns runs = spec_.keys(dispatch_.blocks[static_cast<size_t>(block)]);
  const Range keys = runs.keys();
  const double first = static_cast<double>(keys.begin) / keys_per_slice_;
  const double last = static_cast<double>(keys.begin + keys.count) / keys_per_slice_;
  const bool down = runs.tiles() > 0 && 2 * runs.begin()->first.j * Bc_ > 2 * keys.begin + keys.count;
  return down ? Walk{last, first} : Walk{first, last};
}

// Gives the SM its next block, as its youngest, if there is one.
void Skew::Start(int64_t sm, int64_t own, double now) {
  for (;; own += static_cast<int64_t>(residents_.size())) {
    const int64_t next = dispatch_.fixed_shares ? own : next_++;
    if (next >= static_cast<int64_t>(order_.size())) return;
    stacks_.Pass(SideOf(sm), now, passing_);
    const DispatchedBlock& work = order_[static_cast<size_t>(next)];
    const Walk walk = WalkOf(work.block);
    const int64_t number = started_++;
    if (walk.left() < kTiny) continue;
    const double slowness = 1 + kSpeedSpread * (Uniform(1, static_cast<uint64_t>(number)) - 0.5);
    On(sm)[on_[static_cast<size_t>(sm)].residents++] = {
        work.head / group_, walk, now, slowness, 0, own + static_cast<int64_t>(residents_.size())};
    return;
  }
}

// A block ends, and the next one comes.
void Skew::End(int64_t sm, double now) {
  int64_t& residents = on_[static_cast<size_t>(sm)].residents;
  Resident* const first = On(sm);
  const auto block = std::min_element(first, first + residents,
                                      [](const Resident& a, const Resident& b) { return a.end() < b.end(); });
  MoveOn(sm, *block, now);
  const int64_t own = block->next_own;
  std::move(block + 1, first + residents, block);
  --residents;
  --busy_;
  Start(sm, own, now);
  Share(sm, now);
}

// The SM among its blocks; notes when the first of them ends.
void Skew::Share(int64_t sm, double now) {
  Sm& on = on_[static_cast<size_t>(sm)];
  if (on.residents == 0) return;
  ++busy_;
  const double* const steps = &steps_[static_cast<size_t>(on.residents * (on.residents - 1) / 2)];
  for (int64_t n = 0; n < on.residents; ++n) {
    Resident& block = On(sm)[n];
    const double pace = steps[n] * block.slowness;
    if (pace != block.pace && block.pace > 0) MoveOn(sm, block, now);
    block.pace = pace;
    on.due = n == 0 ? block.end() : std::min(on.due, block.end());
  }
  on.due = std::max(on.due, now);
  const auto tick = static_cast<size_t>(on.due);
  if (due_.size() <= tick) due_.resize(tick + tick / 2 + 64, -1);
  on.after = due_[tick];
  due_[tick] = static_cast<int32_t>(sm);
}

// The block, to where it is now.
void Skew::MoveOn(int64_t sm, Resident& block, double now) {
  const double by = std::min(block.walk.left(), (now - block.since) / block.pace);
  if (by > 0) {
    const double to = block.walk.end < block.walk.at ? block.walk.at - by : block.walk.at + by;
    stacks_.Read({block.head, SideOf(sm), block.walk.at, to, block.since, block.pace});
    block.walk.at = to;
  }
  block.since = now;
}

}  // namespace bitflash::sim::l2
