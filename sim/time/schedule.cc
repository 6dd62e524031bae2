#include "sim/time/schedule.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <queue>

namespace bitflash::sim {
namespace {

// How sharply a shared rate begins to bind: of two equal demands the sum takes 2^(1/4), 19 %, longer than either.
constexpr double kSharpness = 4;

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
      const int64_t here = std::min(blocks, in_group() - at_);
      passed += static_cast<double>(here) * WorkOf(model, group());
      at_ += here, block_ += here, blocks -= here;
      if (at_ == in_group()) {
        at_ = 0, ++group_;
        SkipEmpty();
      }
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
  int64_t in_group() const { return group().blocks * (pass().heads_inside ? pass().heads : 1); }

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
  Placement placement;
};

struct Sm {
  std::vector<Resident> residents;
  double progress = 0;  // tiles that each resident has advanced, since the start
  double since = 0;     // undilated clocks at which `progress` was right
};

class Simulation {
 public:
  Simulation(const SmModel& model, const std::function<void(const Placement&)>& visit)
      : model_(model), visit_(visit), sms_(static_cast<size_t>(model.sms)) {}

  // Runs what is left behind `start`; returns the clocks that it took.
  double Run(const Cursor& start, bool fixed_shares) {
    const auto slots = static_cast<int64_t>(model_.tile_cycles.size());
    // With fixed shares every slot has a cursor of its own.
    next_.assign(fixed_shares ? static_cast<size_t>(slots * model_.sms) : 1, start);
    // Blocks spread over the SMs before any of them gets a second.
    for (int64_t slot = 0; slot < slots; ++slot) {
      for (int64_t sm = 0; sm < model_.sms; ++sm) {
        if (fixed_shares) next_[Own(sm, slot)].Advance(slot * model_.sms + sm, model_);
        Start(sm, slot);
      }
    }
    for (int64_t sm = 0; sm < model_.sms; ++sm) Enter(sm);
    while (!queue_.empty()) {
      const auto [clocks, sm] = queue_.top();
      queue_.pop();
      AdvanceTo(clocks);
      Sm& s = sms_[static_cast<size_t>(sm)];
      Leave(s);
      const auto done =
          std::ranges::min_element(s.residents, {}, [](const Resident& resident) { return resident.finish; });
      s.progress = done->finish;
      done->placement.end = now_;
      if (visit_) visit_(done->placement);
      const int64_t slot = done->placement.slot;
      s.residents.erase(done);
      Start(sm, slot);
      Enter(sm);
    }
    return now_;
  }

  // Clocks for one tile while every slot is busy, all SMs together.
  double FullTile() const {
    const double tiles_per_clock = static_cast<double>(model_.sms) / model_.tile_cycles.back();
    return Dilation(tiles_per_clock) / tiles_per_clock;
  }

 private:
  size_t Own(int64_t sm, int64_t slot) const {
    return next_.size() == 1 ? 0 : static_cast<size_t>(slot * model_.sms + sm);
  }

  // Gives the slot its next block, if there is one.
  void Start(int64_t sm, int64_t slot) {
    Cursor& next = next_[Own(sm, slot)];
    if (next.done()) return;
    Sm& s = sms_[static_cast<size_t>(sm)];
    // The blocks of an SM start one after another and end so: of the next ones, few all go to different SMs.
    const double lag = kLag * static_cast<double>(slot);
    const BlockGroup& group = next.group();
    Placement placement{.block = next.block(), .tiles = group.tiles, .sm = sm, .slot = slot, .begin = now_};
    if (visit_) placement.head = next.head(), placement.of_head = next.of_head();
    s.residents.push_back({s.progress + WorkOf(model_, group) * (1 + lag), placement});
    next.Advance(static_cast<int64_t>(next_.size()), model_);
  }

  // Tiles that one resident of the SM advances by in a clock, before dilation.
  double Rate(const Sm& s) const {
    const size_t r = s.residents.size();
    return 1 / (static_cast<double>(r) * model_.tile_cycles[r - 1]);
  }

  // The SM's tiles count towards the demand from here on, and its next event is in the queue.
  void Enter(int64_t sm) {
    Sm& s = sms_[static_cast<size_t>(sm)];
    if (s.residents.empty()) return;
    s.since = clocks_;
    tiles_per_clock_ += 1 / model_.tile_cycles[s.residents.size() - 1];
    double finish = s.residents.front().finish;
    for (const Resident& resident : s.residents) finish = std::min(finish, resident.finish);
    queue_.push({clocks_ + std::max(0.0, finish - s.progress) / Rate(s), sm});
  }
  void Leave(Sm& s) {
    s.progress += (clocks_ - s.since) * Rate(s);
    tiles_per_clock_ -= 1 / model_.tile_cycles[s.residents.size() - 1];
  }

  // By how much the memory stretches clocks while this many tiles a clock are asked for.
  double Dilation(double tiles_per_clock) const {
    const auto power = [](double x) { return std::pow(x, kSharpness); };
    return std::pow(1 + power(tiles_per_clock * model_.l2_cycles) + power(tiles_per_clock * model_.hbm_cycles),
                    1 / kSharpness);
  }

  void AdvanceTo(double clocks) {
    if (clocks <= clocks_) return;
    if (tiles_per_clock_ != dilated_for_) {
      dilated_for_ = tiles_per_clock_;
      dilation_ = Dilation(tiles_per_clock_);
    }
    now_ += (clocks - clocks_) * dilation_;
    clocks_ = clocks;
  }

  struct Event {
    double clocks = 0;
    int64_t sm = 0;
    bool operator>(const Event& other) const { return clocks != other.clocks ? clocks > other.clocks : sm > other.sm; }
  };

  const SmModel& model_;
  const std::function<void(const Placement&)>& visit_;
  std::vector<Sm> sms_;
  std::vector<Cursor> next_;                                              // one for all slots, or one for each
  std::priority_queue<Event, std::vector<Event>, std::greater<>> queue_;  // every SM with residents once
  double clocks_ = 0;                                                     // before dilation: the order of events
  double now_ = 0;                                                        // after it
  double tiles_per_clock_ = 0;
  double dilated_for_ = -1, dilation_ = 1;
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
  schedule.cycles = simulation.Run(start, work.fixed_shares) + skipped;
  return schedule;
}

}  // namespace bitflash::sim
