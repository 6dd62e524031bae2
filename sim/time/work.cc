#include "sim/time/work.h"

#include <algorithm>

namespace bitflash::sim {
namespace {

// Which query tiles of a head start first. A causal mask makes the last ones the longest: our kernels start with them
// (gpu/fa2_forward.cuh, gpu/standard_output*.cuh), and so do FlashAttention-3's scheduler and, by its times, cuDNN's.
// PyTorch's FlashAttention-2 starts with the first (csrc/flash_attn/src/flash_fwd_launch_template.h).
Order DispatchOf(const Kernel& kernel) {
  for (const std::string_view descending : {"fa2", "fa3", "standard", "cudnn-9.19-sm90"}) {
    if (kernel.name == descending) return Order::kDescending;
  }
  return Order::kAscending;
}

// Takes the launches apart without running a block.
class WorkStream : public Stream {
 public:
  explicit WorkStream(Order dispatch) : dispatch_(dispatch) {}

  void Launch(const LaunchSpec& spec, const Body&) override {
    LaunchWork& launch = launches_.emplace_back(LaunchWork{std::string(spec.name), spec.heads, {}});
    if (!spec.keys) {
      // As many heads of one block, so that the schedule may skip most of a long list.
      launch.heads = spec.grid.blocks();
      launch.head = {{1, 0, 1}};
      return;
    }
    for (const BlockRun& run : spec.blocks) {
      for (int64_t n = 0; n < run.count; ++n) {
        Append(launch.head, run.count == 1 ? run.keys : spec.keys(run.at(n)));
      }
    }
    // A grid with as many blocks as tiles computes each tile in a block of its own.
    if (spec.grid.blocks() == launch.tiles() && launch.tiles() != launch.blocks()) {
      const int64_t masked = launch.masked_tiles() / spec.heads;
      launch.head = {{1, 0, launch.tiles() / spec.heads - masked}, {1, 1, masked}};
    }
    if (dispatch_ == Order::kDescending) std::reverse(launch.head.begin(), launch.head.end());
  }

  std::vector<LaunchWork>& launches() { return launches_; }

 private:
  static void Append(std::vector<BlockGroup>& groups, const KeyRuns& keys) {
    int64_t masked = 0;
    for (const KeyRun& run : keys) masked += run.first.masked ? run.count : 0;
    const int64_t tiles = keys.tiles();
    if (!groups.empty() && groups.back().tiles == tiles && groups.back().masked == masked) {
      ++groups.back().blocks;
    } else {
      groups.push_back({tiles, masked, 1});
    }
  }

  const Order dispatch_;
  std::vector<LaunchWork> launches_;
};

}  // namespace

int64_t LaunchWork::blocks() const {
  int64_t sum = 0;
  for (const BlockGroup& group : head) sum += group.blocks;
  return heads * sum;
}

int64_t LaunchWork::tiles() const {
  int64_t sum = 0;
  for (const BlockGroup& group : head) sum += group.tiles * group.blocks;
  return heads * sum;
}

int64_t LaunchWork::masked_tiles() const {
  int64_t sum = 0;
  for (const BlockGroup& group : head) sum += group.masked * group.blocks;
  return heads * sum;
}

std::vector<LaunchWork> WorkOf(const Kernel& kernel, const Attention& attention, const Tiling& tiling) {
  WorkStream stream(DispatchOf(kernel));
  kernel.Run(stream, attention, tiling, kernel.recipe);
  return std::move(stream.launches());
}

}  // namespace bitflash::sim
