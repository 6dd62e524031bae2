// Which block runs where and when: blocks go to the SM that has room first, as the hardware hands them out, or in fixed
// shares, and share it. What makes the last wave, blocks of different lengths and grids smaller than the GPU cost time.
#ifndef BITFLASH_SIM_TIME_SCHEDULE_H_
#define BITFLASH_SIM_TIME_SCHEDULE_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "sim/time/work.h"

namespace bitflash::sim {

struct SmModel {
  int64_t sms = 0;
  // tile_cycles[r - 1]: clocks of an SM for each tile while r blocks share it. A block then advances by one tile in
  // r times as many. Its size is the number of blocks that an SM holds.
  std::vector<double> tile_cycles;
  double block_tiles = 0;   // what a block costs beside its tiles, in tiles
  double masked_tiles = 0;  // what a masked tile costs more, in tiles
  // Clocks of the GPU for each tile if only L2, or only HBM, were slow. They slow down all SMs alike while the tiles
  // in flight ask for more than they deliver.
  double l2_cycles = 0;
  double hbm_cycles = 0;
};

struct Placement {
  int64_t block = 0;    // position in the order of dispatch
  int64_t head = 0;     // of Heads(attention, tiling), and ...
  int64_t of_head = 0;  // ... its how-many-th block
  int64_t tiles = 0;
  int64_t sm = 0;
  int64_t slot = 0;  // of the SM
  double begin = 0;  // clocks from the start of the first block
  double end = 0;
};

struct Schedule {
  double cycles = 0;  // until the last block has finished
  double full = 0;    // the same work with every slot of every SM busy until the end
};

// Long launches repeat themselves: what lies more than this many blocks a slot before the end is not simulated one by
// one but charged at the rate of a full GPU, unless `visit` wants to see every block.
inline constexpr int64_t kBlocksPerSlot = 8;

// Costs O(blocks log SMs), without `visit` of at most kBlocksPerSlot blocks a slot. Placements come in the order in
// which blocks finish.
Schedule Simulate(const LaunchWork& work, const SmModel& model,
                  const std::function<void(const Placement&)>& visit = nullptr);

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_TIME_SCHEDULE_H_
