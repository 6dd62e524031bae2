// The exact mode: blocks run on SMs in the order of their schedule, and every granule they ask for is looked up in the
// cache at the moment they ask.
#ifndef BITFLASH_SIM_L2_MACHINE_H_
#define BITFLASH_SIM_L2_MACHINE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "data/gpu.h"
#include "sim/count.h"
#include "sim/l2/cache.h"
#include "sim/l2/layout.h"
#include "sim/stream.h"

namespace bitflash::sim::l2 {

// One tile that a block moved, as a time model or a trace wants it.
struct Event {
  int launch = 0;
  int64_t sm = 0, slot = 0;  // slot: which of the blocks that are resident on the whole GPU
  int32_t head = 0;
  BlockIndex block;
  double seconds = 0;  // since the launch began; by the machine's coarse clock, which decides order, not speed
  TensorId tensor = TensorId::kQ;
  bool write = false;
  int64_t hit_bytes = 0, fabric_bytes = 0, dram_bytes = 0;  // of the tile, where they were found
};
using Observer = std::function<void(const Event&)>;

struct MachineOptions {
  double capacity = 1;  // of the L2's: what is left open by its blurred edge
  uint64_t seed = 1;    // homes of granules, sides of SMs, small differences in speed
  Observer observer;    // called in order of time within a launch; may be empty
};

// What a launch moved. Bytes.
struct LaunchTraffic {
  int64_t dram_read = 0, dram_write = 0;
  int64_t earlier_write = 0;  // of dram_write: what was dirty before the call, CacheParameters::dirty_at_start
  int64_t before_write = 0;   // between the launch before and this one, in neither dram_write
  int64_t fabric = 0;         // between the partitions of the L2
  int64_t read_misses = 0;    // every level that a read misses counts
  int64_t dirty_at_end = 0;   // written by this call's launches so far and still only in L2
  int64_t moves = 0;          // tiles
};

// Launches follow one another; what one leaves in the cache the next one finds.
class Machine final : public Stream {
 public:
  Machine(const Kernel& kernel, const Attention& attention, const Tiling& tiling, const data::Gpu& gpu,
          const Count& count, MachineOptions options);
  ~Machine() override;

  void Launch(const LaunchSpec& spec, const Body& body) override;

  // Before every launch the cache is emptied, as a profiler does it: a little of its own stays dirty.
  void set_flush_between(bool flush) { flush_between_ = flush; }

  const std::vector<LaunchTraffic>& launches() const { return launches_; }

 private:
  class Run;
  void Empty();

  const Kernel& kernel_;
  const Attention& a_;
  const Tiling t_;
  const data::Gpu& gpu_;
  const Count& count_;
  const MachineOptions options_;
  const CacheParameters parameters_;
  const Layout layout_;
  std::unique_ptr<Cache> cache_;
  std::vector<LaunchTraffic> launches_;
  bool flush_between_ = false;
};

}  // namespace bitflash::sim::l2

#endif  // BITFLASH_SIM_L2_MACHINE_H_
