#include "sim/time/work.h"

#include <algorithm>

namespace bitflash::sim {
namespace {

// Takes the launches apart without running a block.
class WorkStream : public Stream {
 public:
  explicit WorkStream(Order dispatch) : dispatch_(dispatch) {}

  void Launch(const LaunchSpec& spec, const Body&) override {
    LaunchWork& launch = launches_.emplace_back(LaunchWork{std::string(spec.name), spec.heads, {}});
    if (!spec.keys) {
      launch.heads = 1;
      launch.head = {{1, 0, spec.grid.blocks()}};
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
  WorkStream stream(kernel.dispatch);
  kernel.Run(stream, attention, tiling, kernel.recipe);
  return std::move(stream.launches());
}

}  // namespace bitflash::sim
