#include "sim/time/schedule.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>
#include <limits>
#include <vector>

namespace bitflash::sim {
namespace {

constexpr double kLag = 1e-4;  // between the blocks of an SM, of their length

// Of a block, in tiles.
double WorkOf(const SmModel& model, const BlockGroup& group) {
  return static_cast<double>(group.tiles) + model.masked_tiles * static_cast<double>(group.masked) + model.block_tiles;
}

// A place in the order of dispatch.
class Cursor {
 public:
  explicit Cursor(const LaunchWork& work) : work_(&work) { SkipEmpty(); }

  bool done() const { return pass_ == work_->passes.size(); }
  int64_t block() const { return block_; }
  const BlockGroup& group() const { return work_->orders[pass().order][group_]; }

  // Past `blocks` blocks, or to the end; returns the work of what it passed.
  double Advance(int64_t blocks, const SmModel& model) {
    double passed = 0;
    while (blocks > 0 && !done()) {
      const std::vector<BlockGroup>& groups = work_->orders[pass().order];
      const int64_t heads = pass().heads_inside ? pass().heads : 1;
      const int64_t before = blocks;
      size_t n = group_;
      int64_t at = at_;
      while (blocks > 0 && n < groups.size()) {
        const int64_t in_group = groups[n].blocks * heads, here = std::min(blocks, in_group - at);
        passed += static_cast<double>(here) * WorkOf(model, groups[n]);
        at += here, blocks -= here;
        if (at == in_group) at = 0, ++n;
      }
      group_ = n, at_ = at, block_ += before - blocks;
      SkipEmpty();
    }
    return passed;
  }

  int64_t head() const { return work_->heads.At(counted_head()); }

  // Blocks of this head before this one.
  int64_t of_head() const {
    int64_t before = pass().heads_inside ? at_ / pass().heads : at_;
    for (size_t g = 0; g < group_; ++g) before += work_->orders[pass().order][g].blocks;
    for (size_t n = 0; n < pass_; ++n) {
      const Pass& earlier = work_->passes[n];
      if (counted_head() < earlier.first || counted_head() >= earlier.first + earlier.heads) continue;
      for (const BlockGroup& group : work_->orders[earlier.order]) before += group.blocks;
    }
    return before;
  }

 private:
  const Pass& pass() const { return work_->passes[pass_]; }
  int64_t counted_head() const { return pass().first + (pass().heads_inside ? at_ % pass().heads : head_); }

  // From the end of an order to its next head, or the next pass.
  void SkipEmpty() {
    while (!done() && group_ == work_->orders[pass().order].size()) {
      group_ = 0;
      if (work_->orders[pass().order].empty() || pass().heads_inside || ++head_ >= pass().heads) head_ = 0, ++pass_;
    }
  }

  const LaunchWork* work_;
  size_t pass_ = 0, group_ = 0;
  int64_t head_ = 0, at_ = 0;  // at_: in the group
  int64_t block_ = 0;
};

struct Resident {
  double finish = 0;  // of the SM's progress
  int64_t slot = 0;
};

struct Sm {
  int64_t alike = 1;  // SMs that it stands for
  size_t residents = 0;
  double progress = 0;  // tiles that each resident has advanced, since the start
};

// Which of some numbers is the least, the first of equal ones; any of them may change.
class Least {
 public:
  explicit Least(size_t count) : leaves_(std::bit_ceil(count)), values_(leaves_, kNone), winners_(2 * leaves_) {
    for (size_t n = 0; n < leaves_; ++n) winners_[leaves_ + n] = static_cast<uint32_t>(n);
    for (size_t n = leaves_; n-- > 1;) winners_[n] = Better(n);
  }

  static constexpr double kNone = std::numeric_limits<double>::infinity();

  size_t first() const { return winners_[1]; }
  double operator[](size_t n) const { return values_[n]; }
  void Set(size_t n, double value) {
    values_[n] = value;
    // What wins so far stays in registers, without a branch that nobody can predict.
    auto winner = static_cast<uint32_t>(n);
    for (size_t node = leaves_ + n; node > 1; node /= 2) {
      const uint32_t other = winners_[node ^ 1];
      const double there = values_[other];
      const bool loses = (there < value) | (!(value < there) & (other < winner));
      winner = loses ? other : winner;
      value = loses ? there : value;
      winners_[node / 2] = winner;
    }
  }

 private:
  uint32_t Better(size_t node) const {
    const uint32_t left = winners_[2 * node], right = winners_[2 * node + 1];
    return values_[right] < values_[left] ? right : left;
  }

  const size_t leaves_;
  std::vector<double> values_;
  std::vector<uint32_t> winners_;  // of the subtree below each node of a complete binary tree
};

class Simulation {
 public:
  Simulation(const SmModel& model, const std::function<void(const Placement&)>& visit)
      : model_(model),
        visit_(visit),
        slots_(model.tile_cycles.size()),
        sms_(static_cast<size_t>(model.sms)),
        residents_(sms_.size() * slots_),
        placements_(visit ? residents_.size() : 0),
        sharing_(slots_ + 1),
        due_(sms_.size()) {}

  // Runs what is left behind `start`; returns the clocks that it took.
  double Run(const Cursor& start, bool fixed_shares) {
    // With fixed shares every slot has a cursor of its own.
    next_.assign(fixed_shares ? residents_.size() : 1, start);
    return Run(fixed_shares);
  }

  // The same for so many blocks with as much work each. SMs then do the same at the same time, and at the end the first
  // ones have a block more: two of them stand for all.
  double RunAlike(int64_t blocks, double work) {
    const int64_t sms = model_.sms, more = blocks % sms;
    sms_.resize(2);
    sms_[0].alike = more, sms_[1].alike = sms - more;
    left_ = {more > 0 ? blocks / sms + 1 : 0, blocks / sms};
    work_ = work;
    return Run(false);
  }

  // Clocks for one tile while every slot is busy, all SMs together.
  double FullTile() const {
    const double tiles_per_clock = static_cast<double>(model_.sms) / model_.tile_cycles.back();
    return Dilation(tiles_per_clock) / tiles_per_clock;
  }

 private:
  double Run(bool fixed_shares) {
    // Blocks spread over the SMs before any of them gets a second.
    for (size_t slot = 0; slot < slots_; ++slot) {
      for (size_t sm = 0; sm < sms_.size(); ++sm) {
        if (fixed_shares) next_[Own(sm, slot)].Advance(static_cast<int64_t>(slot * sms_.size() + sm), model_);
        Start(sm, slot);
      }
    }
    for (size_t sm = 0; sm < sms_.size(); ++sm) {
      sharing_[sms_[sm].residents] += sms_[sm].alike;
      Enter(sm);
    }
    Dilate();
    for (size_t sm = due_.first(); due_[sm] < Least::kNone; sm = due_.first()) {
      if (const double clocks = due_[sm]; clocks > clocks_) {
        now_ += (clocks - clocks_) * dilation_;
        clocks_ = clocks;
      }
      const size_t before = sms_[sm].residents;
      End(sm);
      if (sms_[sm].residents != before) {
        sharing_[before] -= sms_[sm].alike, sharing_[sms_[sm].residents] += sms_[sm].alike;
        Dilate();
      }
      Enter(sm);
    }
    return now_;
  }

  size_t Own(size_t sm, size_t slot) const { return next_.size() == 1 ? 0 : slot * sms_.size() + sm; }
  Resident* On(size_t sm) { return &residents_[sm * slots_]; }

  // Gives the slot its next block, if there is one.
  void Start(size_t sm, size_t slot) {
    if (next_.empty()) {
      if (left_[sm]-- > 0) Reside(sm, slot, work_);
      return;
    }
    Cursor& next = next_[Own(sm, slot)];
    if (next.done()) return;
    const BlockGroup& group = next.group();
    if (visit_) {
      placements_[sm * slots_ + slot] = {.block = next.block(),
                                         .head = next.head(),
                                         .of_head = next.of_head(),
                                         .tiles = group.tiles,
                                         .sm = static_cast<int64_t>(sm),
                                         .slot = static_cast<int64_t>(slot),
                                         .begin = now_};
    }
    Reside(sm, slot, WorkOf(model_, group));
    next.Advance(static_cast<int64_t>(next_.size()), model_);
  }

  void Reside(size_t sm, size_t slot, double work) {
    Sm& s = sms_[sm];
    // The blocks of an SM start one after another and end so: of the next ones, few all go to different SMs.
    const double lag = kLag * static_cast<double>(slot);
    On(sm)[s.residents++] = {s.progress + work * (1 + lag), static_cast<int64_t>(slot)};
  }

  // The first of the SM's blocks ends, and the next one comes.
  void End(size_t sm) {
    Sm& s = sms_[sm];
    Resident* const first = On(sm);
    Resident* const done = std::min_element(first, first + s.residents,
                                            [](const Resident& a, const Resident& b) { return a.finish < b.finish; });
    s.progress = done->finish;
    const auto slot = static_cast<size_t>(done->slot);
    if (visit_) {
      Placement& placement = placements_[sm * slots_ + slot];
      placement.end = now_;
      visit_(placement);
    }
    std::copy(done + 1, first + s.residents, done);
    --s.residents;
    Start(sm, slot);
  }

  // From here on the SM's next event is known.
  void Enter(size_t sm) {
    Sm& s = sms_[sm];
    if (s.residents == 0) return due_.Set(sm, Least::kNone);
    double finish = On(sm)->finish;
    for (size_t n = 1; n < s.residents; ++n) finish = std::min(finish, On(sm)[n].finish);
    const double cycles = static_cast<double>(s.residents) * model_.tile_cycles[s.residents - 1];
    due_.Set(sm, clocks_ + std::max(0.0, finish - s.progress) * cycles);
  }

  // By how much the memory stretches clocks while this many tiles a clock are asked for. The fourth power is how
  // sharply a shared rate begins to bind: of two equal demands the sum takes 2^(1/4), 19 %, longer than either.
  double Dilation(double tiles_per_clock) const {
    const auto fourth = [](double x) { return x * x * (x * x); };
    return std::sqrt(
        std::sqrt(1 + fourth(tiles_per_clock * model_.l2_cycles) + fourth(tiles_per_clock * model_.hbm_cycles)));
  }

  void Dilate() {
    double tiles_per_clock = 0;
    for (size_t r = 1; r <= slots_; ++r) {
      tiles_per_clock += static_cast<double>(sharing_[r]) / model_.tile_cycles[r - 1];
    }
    dilation_ = Dilation(tiles_per_clock);
  }

  const SmModel& model_;
  const std::function<void(const Placement&)>& visit_;
  const size_t slots_;  // of an SM
  std::vector<Sm> sms_;
  std::vector<Resident> residents_;    // by SM, in the order in which they came
  std::vector<Placement> placements_;  // by SM and slot, for `visit`
  std::vector<Cursor> next_;           // one for all slots, or one for each; none where all blocks are alike
  std::vector<int64_t> left_;          // by SM: blocks that are alike, ...
  double work_ = 0;                    // ... and the work of each
  std::vector<int64_t> sharing_;       // how many SMs have so many residents
  Least due_;                          // by SM: undilated clocks of its next event
  double clocks_ = 0;                  // before dilation: the order of events
  double now_ = 0;                     // after it
  double dilation_ = 1;
};

}  // namespace

Schedule Simulate(const LaunchWork& work, const SmModel& model, const std::function<void(const Placement&)>& visit) {
  assert(model.sms > 0 && !model.tile_cycles.empty());
  const int64_t blocks = work.blocks();
  if (blocks == 0) return {};
  Simulation simulation(model, visit);
  const double full_tile = simulation.FullTile();
  const auto slots = static_cast<int64_t>(model.tile_cycles.size()) * model.sms;
  const int64_t most = kBlocksPerSlot * slots;
  Cursor start(work);
  // Whole shares, so that the slots' next blocks stay theirs.
  const double skipped =
      !visit && blocks > most ? start.Advance((blocks - most) / slots * slots, model) * full_tile : 0;
  const double all = static_cast<double>(work.tiles()) + model.masked_tiles * static_cast<double>(work.masked_tiles()) +
                     model.block_tiles * static_cast<double>(blocks);
  Schedule schedule;
  schedule.full = all * full_tile;
  const bool alike = !visit && model.sms > 1 && (!work.fixed_shares || model.tile_cycles.size() == 1) &&
                     work.orders.size() == 1 && work.orders.front().size() == 1;
  const int64_t left = blocks > most ? blocks - (blocks - most) / slots * slots : blocks;
  schedule.cycles = skipped + (alike ? simulation.RunAlike(left, WorkOf(model, work.orders.front().front()))
                                     : simulation.Run(start, work.fixed_shares));
  return schedule;
}

}  // namespace bitflash::sim
