// Reads of slices of keys, played in the order of time against least recently used replacement: how many of them go to
// DRAM again. For drift.h.
#ifndef BITFLASH_SIM_L2_STACKS_H_
#define BITFLASH_SIM_L2_STACKS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "sim/l2/cache.h"
#include "sim/l2/drift.h"

namespace bitflash::sim::l2 {

// A part of a block's way through its keys, at one pace. Places in slices of the head, times in ticks.
struct Stretch {
  int64_t head = 0;  // of K and V
  int side = 0;      // the partition that is near to the block
  double from = 0, to = 0;
  double begin = 0;  // when it is at `from`
  double pace = 1;   // ticks for a slice
};

class Stacks {
 public:
  // A partition holds `units`. Of a slice, each partition is home to one.
  Stacks(const CacheParameters& cache, int64_t heads, int64_t slices_per_head, int64_t units);

  // Stretches in any order. A slice counts as read when its middle is.
  void Read(const Stretch& stretch);

  // What passes through once and pushes others out: all of it on the block's side, half of it is at home on the other.
  void Pass(int side, double time, double units);

  // Slices that are read from DRAM though they were read before, until `half` and in all. Costs a few nanoseconds for
  // each read, and more for the first reader of a slice after a while.
  struct Again {
    ByScale until_half{}, in_all{};
  };
  Again Replay(double half);

  int64_t reads() const { return reads_; }

 private:
  // The reads of a stretch: times in ticks in fixed point, the line of the first, and how far it is to the next.
  struct Row {
    uint64_t begin = 0, pace = 0;
    uint32_t line = 0;
    int32_t step = 2, count = 0;
  };
  // Of a slice on one side: the half that is at home there, and the copy of the other half. The ticks in which they
  // were touched last.
  struct Line {
    int32_t home = kNever, copy = kNever;
  };
  static constexpr int32_t kNever = 0;

  std::pair<std::vector<uint32_t>, std::vector<uint32_t>> Sorted() const;
  void PlayTick(int32_t tick, const uint32_t* begin, const uint32_t* end);
  void ComeBack(uint32_t at, int32_t tick);
  int64_t DepthOf(int32_t touched, int32_t now, int side);
  const ByScale& MissedAt(int64_t depth) const { return missed_[static_cast<size_t>(depth / kDepthStep)]; }
  int32_t& Newest(int side, int32_t tick) { return newest_[static_cast<size_t>(side)][static_cast<size_t>(tick)]; }

  // A unit in fixed point: integers add up in any order, and so in vector registers.
  static constexpr int32_t kUnit = 256;
  static constexpr int32_t kDepthStep = kUnit / 4;

  const int64_t slices_;
  const int32_t of_home_, of_copy_;     // kUnit of a line; nothing is a copy in a single partition
  const int64_t deepest_;               // kUnit: nothing further down is ever found
  std::vector<ByScale> missed_;         // by depth, kDepthStep
  std::vector<int32_t> first_of_head_;  // its lines
  std::vector<Line> lines_;             // of a slice, two: one a side
  std::vector<uint8_t> known_;          // by slice: it was read before
  std::vector<Row> rows_;
  int64_t reads_ = 0;
  size_t ticks_ = 1;
  std::array<std::vector<int32_t>, 2> newest_;     // by side and tick: what was touched last in it, kUnit
  std::array<int32_t, 2> out_ = {kNever, kNever};  // by side: what was touched then or before is deepest_ down. What
                                                   // is touched again only moves up, so nothing comes nearer again.
  ByScale again_{};
};

}  // namespace bitflash::sim::l2

#endif  // BITFLASH_SIM_L2_STACKS_H_
