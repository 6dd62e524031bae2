// Launches of a kernel in order, as on a CUDA stream. A machine derives from Stream and decides what a launch does:
// count its blocks, or execute them.
#ifndef BITFLASH_SIM_STREAM_H_
#define BITFLASH_SIM_STREAM_H_

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "sim/block.h"
#include "sim/runs.h"

namespace bitflash::sim {

struct Grid {
  int64_t x = 1;
  int64_t y = 1;
  int64_t z = 1;
  int64_t blocks() const { return x * y * z; }
  bool operator==(const Grid&) const = default;
};

struct LaunchSpec {
  std::string_view name;
  Grid grid;                     // as the published kernel launches it
  bool persistent = false;       // blocks of this grid are shared out to one resident block per slot
  BlockSpec block;               // threads and matrix instruction
  int64_t heads = 1;             // batch x heads that run the same blocks: the multiplier of every run
  std::vector<BlockRun> blocks;  // the blocks of one head
  // The key tiles of one block; empty when the launch does not loop over keys.
  std::function<KeyRuns(const BlockIndex&)> keys;
};

class Stream {
 public:
  // What one block does; the runs are its key tiles.
  using Body = std::function<void(Block&, const BlockIndex&, const KeyRuns&)>;

  virtual ~Stream() = default;
  virtual void Launch(const LaunchSpec& spec, const Body& body) = 0;
};

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_STREAM_H_
