// What a launch has to do, block by block in the order in which a GPU starts them: the input of the schedule.
#ifndef BITFLASH_SIM_TIME_WORK_H_
#define BITFLASH_SIM_TIME_WORK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "sim/dispatch.h"
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
  std::string name;                             // as in LaunchCount
  std::vector<std::vector<BlockGroup>> orders;  // Dispatch::orders with the work of their blocks
  std::vector<Pass> passes;                     // over them, one after another
  HeadOrder heads;
  bool fixed_shares = false;  // as Dispatch has it

  int64_t blocks() const;
  int64_t tiles() const;
  int64_t masked_tiles() const;
};

// Blocks of one order, each for every one of `heads` heads.
LaunchWork OnePass(std::string name, int64_t heads, std::vector<BlockGroup> groups);

// The launches of the kernel in order. Costs a call of KeyTiles per query tile; nothing is counted.
std::vector<LaunchWork> WorkOf(const Kernel& kernel, const Attention& attention, const Tiling& tiling);

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_TIME_WORK_H_
