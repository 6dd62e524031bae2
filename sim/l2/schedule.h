// In which order the blocks of a launch start, and on which SM: what the grid, the scheduler of the GPU and persistent
// kernels decide.
#ifndef BITFLASH_SIM_L2_SCHEDULE_H_
#define BITFLASH_SIM_L2_SCHEDULE_H_

#include <cstdint>
#include <vector>

#include "sim/kernels/kernels.h"
#include "sim/stream.h"

namespace bitflash::sim::l2 {

// One block: head `head` of Heads(attention, tiling), the block-th of the launch's blocks of one head. A launch that
// gives every key tile a block of its own (the scores of standard attention) also has a tile.
struct Work {
  int32_t head = 0;
  int32_t block = 0;
  int32_t tile = 0;
};

struct Schedule {
  std::vector<Work> order;         // as blocks start
  std::vector<BlockIndex> blocks;  // Work::block is an index into these
  bool round_robin = false;        // persistent, fixed: slot s takes order[s], order[s + slots], ...
  bool block_per_tile = false;     // Work::tile counts
  int64_t together = 1;            // rows of this many consecutive blocks move as one: shorter simulation, same bytes
};

// Rules are re-stated from the kernels' sources; README.md lists them.
Schedule ScheduleOf(const Kernel& kernel, const LaunchSpec& launch, const Attention& attention, const Tiling& tiling);

}  // namespace bitflash::sim::l2

#endif  // BITFLASH_SIM_L2_SCHEDULE_H_
