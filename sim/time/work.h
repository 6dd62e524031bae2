// What a launch has to do, block by block in the order in which a GPU starts them: the input of the schedule.
#ifndef BITFLASH_SIM_TIME_WORK_H_
#define BITFLASH_SIM_TIME_WORK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "sim/kernels/kernels.h"

namespace bitflash::sim {

// Consecutive blocks with the same number of key tiles.
struct BlockGroup {
  int64_t tiles = 0;   // of a block
  int64_t masked = 0;  // those of them in which the mask hides something
  int64_t blocks = 0;
};

// Work is measured in tiles of keys. A launch without a loop over keys has one tile a block, and so has one whose
// blocks are single tiles.
struct LaunchWork {
  std::string name;              // as in LaunchCount
  int64_t heads = 1;             // how often the list repeats, one head after another
  std::vector<BlockGroup> head;  // in the order of dispatch

  int64_t blocks() const;
  int64_t tiles() const;
  int64_t masked_tiles() const;
};

// The launches of the kernel in order. Costs a call of KeyTiles per query tile; nothing is counted.
std::vector<LaunchWork> WorkOf(const Kernel& kernel, const Attention& attention, const Tiling& tiling);

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_TIME_WORK_H_
