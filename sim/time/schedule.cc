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

// The blocks of a launch in the order of dispatch.
class Dispatch {
 public:
  Dispatch(const LaunchWork& work, int64_t skipped_heads) : work_(work), head_(skipped_heads) {
    for (const BlockGroup& group : work.head) per_head_ += group.blocks;
    block_ = head_ * per_head_ - 1;
  }

  // False at the end.
  bool Next() {
    while (head_ < work_.heads) {
      if (group_ == work_.head.size()) {
        group_ = 0;
        ++head_;
      } else if (in_group_ == work_.head[group_].blocks) {
        in_group_ = 0;
        ++group_;
      } else {
        ++in_group_;
        ++block_;
        return true;
      }
    }
    return false;
  }
  int64_t block() const { return block_; }
  const BlockGroup& group() const { return work_.head[group_]; }

 private:
  const LaunchWork& work_;
  int64_t head_ = 0, per_head_ = 0, in_group_ = 0, block_ = -1;
  size_t group_ = 0;
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

  // Runs what `dispatch` has left; returns the clocks that it took.
  double Run(Dispatch& dispatch) {
    // Blocks spread over the SMs before any of them gets a second.
    const auto slots = static_cast<int64_t>(model_.tile_cycles.size());
    bool more = dispatch.Next();
    for (int64_t slot = 0; slot < slots && more; ++slot) {
      for (int64_t sm = 0; sm < model_.sms && more; ++sm) {
        Start(sm, slot, dispatch);
        more = dispatch.Next();
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
      if (more) {
        Start(sm, slot, dispatch);
        more = dispatch.Next();
      }
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
  void Start(int64_t sm, int64_t slot, const Dispatch& dispatch) {
    Sm& s = sms_[static_cast<size_t>(sm)];
    // The blocks of an SM start one after another and end so: of the next ones, few all go to different SMs.
    const double lag = kLag * static_cast<double>(slot);
    s.residents.push_back({s.progress + WorkOf(model_, dispatch.group()) * (1 + lag),
                           {dispatch.block(), dispatch.group().tiles, sm, slot, now_, 0}});
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
  double per_head = 0;
  for (const BlockGroup& group : work.head) per_head += static_cast<double>(group.blocks) * WorkOf(model, group);
  Simulation simulation(model, visit);
  const double full_tile = simulation.FullTile();

  int64_t skipped = 0;
  const int64_t most = kBlocksPerSlot * model.sms * static_cast<int64_t>(model.tile_cycles.size());
  if (!visit && blocks > most) skipped = (blocks - most) / (blocks / work.heads);
  Dispatch dispatch(work, skipped);
  Schedule schedule;
  schedule.full = per_head * static_cast<double>(work.heads) * full_tile;
  schedule.cycles = simulation.Run(dispatch) + static_cast<double>(skipped) * per_head * full_tile;
  return schedule;
}

}  // namespace bitflash::sim
