// Launches of a kernel in order, as on a CUDA stream. A machine derives from Stream and decides what a launch does:
// count its blocks, or execute them.
#ifndef BITFLASH_SIM_STREAM_H_
#define BITFLASH_SIM_STREAM_H_

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "sim/block.h"

namespace bitflash::sim {

struct Grid {
  int64_t x = 1;
  int64_t y = 1;
  int64_t z = 1;
  int64_t blocks() const { return x * y * z; }
  bool operator==(const Grid&) const = default;
};

// Which part of the problem one thread block works on, within one head of one sequence.
struct BlockIndex {
  int64_t i = 0;      // query tile
  int64_t j = 0;      // key tile or column tile, for kernels whose grid has one
  int64_t split = 0;  // part of the keys
};

// `count` blocks from `first` on that a counting machine cannot tell apart. An executing machine steps through them:
// the n-th block of the run has index first with `n * step` added.
struct BlockRun {
  BlockIndex first;
  BlockIndex step;
  int64_t count = 1;
};

struct LaunchSpec {
  std::string_view name;
  Grid grid;                     // as the published kernel launches it
  BlockSpec block;               // threads and matrix instruction
  int64_t heads = 1;             // batch x heads that run the same blocks: the multiplier of every run
  std::vector<BlockRun> blocks;  // the blocks of one head
};

class Stream {
 public:
  using Body = std::function<void(Block&, const BlockIndex&)>;

  virtual ~Stream() = default;
  virtual void Launch(const LaunchSpec& spec, const Body& body) = 0;
};

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_STREAM_H_
