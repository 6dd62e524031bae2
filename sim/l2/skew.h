// How the blocks of a launch get apart on their way through the keys, and which keys are read from DRAM again for it.
// For drift.h.
#ifndef BITFLASH_SIM_L2_SKEW_H_
#define BITFLASH_SIM_L2_SKEW_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "data/gpu.h"
#include "sim/dispatch.h"
#include "sim/l2/cache.h"
#include "sim/l2/stacks.h"
#include "sim/stream.h"

namespace bitflash::sim::l2 {

// What the replay takes from a launch beside its schedule. Bytes.
struct Shared {
  double kv_bytes = 0;      // of K and V, a key of one head
  double stream_bytes = 0;  // that all blocks read or write beside them: they pass through L2 once
  double capacity = 0;      // of the L2, without what is always in use
  double younger = 1;       // Build::younger
  double regions = 1;       // how many different keys are read at once while blocks that share them keep in step
  int64_t blocks_per_sm = 1;
};

// The schedule block by block: each has a pace, which changes when another one comes to its SM or leaves. What they
// read on the way is for Stacks.
class Skew {
 public:
  Skew(const Kernel& kernel, const LaunchSpec& spec, const Attention& attention, const Tiling& tiling,
       const data::Gpu& gpu, const CacheParameters& cache, const Shared& launch);

  // Of the slices that all blocks ask for, the share that is read from DRAM though it was read before.
  ByScale Replay();

  // What it took.
  int64_t reads() const { return stacks_.reads(); }
  int64_t blocks() const { return started_; }

 private:
  // The keys of a block, in slices, in the order of its visit.
  struct Walk {
    double at = 0, end = 0;
    double left() const { return end < at ? at - end : end - at; }
  };
  struct Resident {
    int64_t head = 0;  // of K and V
    Walk walk;
    double since = 0;     // when it was at walk.at
    double slowness = 1;  // on its part of the SM
    double pace = 0;      // ticks for a slice; 0 before it has a part
    int64_t next_own = 0;
    double end() const { return since + walk.left() * pace; }
  };
  struct Sm {
    int64_t residents = 0;
    double due = 0;      // when a block ends
    int32_t after = -1;  // the next SM that is due in the same tick
    int side = 0;        // the partition that is near
  };

  double SlicesOfHead() const;
  Walk WalkOf(int32_t block);
  Walk NewWalkOf(int32_t block) const;
  int SideOf(int64_t sm) const { return on_[static_cast<size_t>(sm)].side; }
  Resident* On(int64_t sm) { return &residents_[static_cast<size_t>(sm * launch_.blocks_per_sm)]; }
  void Start(int64_t sm, int64_t own, double now);
  void End(int64_t sm, double now);
  void Share(int64_t sm, double now);
  void MoveOn(int64_t sm, Resident& block, double now);

  const Kernel& kernel_;
  const LaunchSpec& spec_;
  const Attention& a_;
  const Tiling& t_;
  const Shared& launch_;
  const int partitions_;
  const int64_t sms_, group_, Bc_;
  const int64_t units_;  // of a partition
  const double unit_, keys_per_slice_;
  const double rate_;          // slices that an SM gets further in a tick
  std::vector<double> steps_;  // of one block for a slice, by residents and which of them it is: a triangle
  double passing_ = 0;         // slices of Q and O that pass for a block
  Stacks stacks_;
  Dispatch dispatch_;                       // as much as is played
  std::vector<std::optional<Walk>> walks_;  // by Dispatch::blocks, where blocks come more than once
  std::vector<DispatchedBlock> order_;
  std::vector<Resident> residents_;  // by SM, the oldest block first
  std::vector<Sm> on_;
  std::vector<int32_t> due_;  // by tick: the first SM
  int64_t busy_ = 0, next_ = 0, started_ = 0, blocks_ = 0;
};

}  // namespace bitflash::sim::l2

#endif  // BITFLASH_SIM_L2_SKEW_H_
