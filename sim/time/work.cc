#include "sim/time/work.h"

#include <algorithm>
#include <numeric>

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
      launch.head = {{1, spec.grid.blocks()}};
      return;
    }
    for (const BlockRun& run : spec.blocks) {
      for (int64_t n = 0; n < run.count; ++n) {
        Append(launch.head, (run.count == 1 ? run.keys : spec.keys(run.at(n))).tiles(), 1);
      }
    }
    // A grid with as many blocks as tiles computes each tile in a block of its own.
    if (spec.grid.blocks() == launch.tiles() && launch.tiles() != launch.blocks()) {
      launch.head = {{1, launch.tiles() / spec.heads}};
    }
    if (dispatch_ == Order::kDescending) std::reverse(launch.head.begin(), launch.head.end());
  }

  std::vector<LaunchWork>& launches() { return launches_; }

 private:
  static void Append(std::vector<BlockGroup>& groups, int64_t tiles, int64_t blocks) {
    if (!groups.empty() && groups.back().tiles == tiles) {
      groups.back().blocks += blocks;
    } else {
      groups.push_back({tiles, blocks});
    }
  }

  const Order dispatch_;
  std::vector<LaunchWork> launches_;
};

}  // namespace

int64_t LaunchWork::blocks() const {
  return heads * std::accumulate(head.begin(), head.end(), int64_t{0},
                                 [](int64_t sum, const BlockGroup& group) { return sum + group.blocks; });
}

int64_t LaunchWork::tiles() const {
  return heads * std::accumulate(head.begin(), head.end(), int64_t{0}, [](int64_t sum, const BlockGroup& group) {
           return sum + group.tiles * group.blocks;
         });
}

std::vector<LaunchWork> WorkOf(const Kernel& kernel, const Attention& attention, const Tiling& tiling) {
  WorkStream stream(kernel.dispatch);
  kernel.Run(stream, attention, tiling, kernel.recipe);
  return std::move(stream.launches());
}

}  // namespace bitflash::sim
