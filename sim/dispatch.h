// In which order the blocks of a launch start: what the grid, the scheduler of the GPU and persistent kernels decide.
// The bytes behind the L2 (sim/l2) and the times (sim/time) follow from the same order.
#ifndef BITFLASH_SIM_DISPATCH_H_
#define BITFLASH_SIM_DISPATCH_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "sim/kernels/kernels.h"
#include "sim/stream.h"

namespace bitflash::sim {

// Some blocks for some heads, Dispatch::orders[order] for heads [first, first + heads).
struct Pass {
  int64_t first = 0, heads = 1;
  bool heads_inside = false;  // one block for every head, then the next block; otherwise one head after another
  size_t order = 0;
};

// Which head is the n-th that passes count: an index into Heads(attention, tiling).
struct HeadOrder {
  int64_t heads = 1, sequences = 1;
  bool sequences_fastest = false;  // the first head of every sequence, then the second of every sequence, ...

  int64_t At(int64_t n) const { return sequences_fastest ? n % sequences * (heads / sequences) + n / sequences : n; }
};

struct Dispatch {
  std::vector<BlockIndex> blocks;            // of one head
  std::vector<std::vector<int32_t>> orders;  // indices into `blocks`
  std::vector<Pass> passes;                  // one after another: every block of every head once
  HeadOrder heads;
  bool fixed_shares = false;    // persistent: slot s takes the blocks s, s + slots, ...; otherwise the next free slot
                                // takes the next block
  bool block_per_tile = false;  // every key tile of these blocks is a block of its own, in order
};

// Rules are re-stated from the kernels' sources; README.md of sim/l2 lists them.
// Who needs the first `most` blocks only may get a list without later query tiles.
Dispatch DispatchOf(const Kernel& kernel, const LaunchSpec& launch, const Attention& attention, const Tiling& tiling,
                    int64_t most = INT64_MAX);

// Dispatch::block_per_tile.
bool IsBlockPerTile(const LaunchSpec& launch);

// The parts of a query tile for all heads, then the next query tile: orders[n] has the parts of query tile n.
bool IsTileByTile(const LaunchSpec& launch);

// One block: head `head` of Heads(attention, tiling), Dispatch::blocks[block], and with Dispatch::block_per_tile the
// tile-th of its key tiles.
struct DispatchedBlock {
  int32_t head = 0, block = 0, tile = 0;
};

// All of them, or the first `most`, as they start.
std::vector<DispatchedBlock> InOrder(const Dispatch& dispatch, const LaunchSpec& launch, size_t most = SIZE_MAX);

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_DISPATCH_H_
