#include "sim/time/work.h"

#include <utility>

namespace bitflash::sim {
namespace {

void Append(std::vector<BlockGroup>& groups, const BlockGroup& group) {
  if (group.blocks == 0) return;
  if (!groups.empty() && groups.back().tiles == group.tiles && groups.back().masked == group.masked) {
    groups.back().blocks += group.blocks;
  } else {
    groups.push_back(group);
  }
}

BlockGroup OneBlock(const KeyRuns& keys) {
  BlockGroup block{keys.tiles(), 0, 1};
  for (const KeyRun& run : keys) block.masked += run.first.masked ? run.count : 0;
  return block;
}

// Takes the launches apart without running a block.
class WorkStream : public Stream {
 public:
  WorkStream(const Kernel& kernel, const Attention& a, const Tiling& t) : kernel_(kernel), a_(a), t_(t) {}

  void Launch(const LaunchSpec& spec, const Body&) override {
    if (!spec.keys) {  // all blocks are alike, in whatever order
      launches_.push_back(OnePass(std::string(spec.name), 1, {{1, 0, spec.grid.blocks()}}));
      return;
    }
    Dispatch dispatch = DispatchOf(kernel_, spec, a_, t_);
    LaunchWork& launch = launches_.emplace_back();
    launch.name = spec.name;
    launch.passes = std::move(dispatch.passes);
    launch.heads = dispatch.heads;
    launch.fixed_shares = dispatch.fixed_shares;
    // Without a mask the blocks of a run have as many tiles as its first one, but for a shorter last part.
    const bool full = a_.mask.kind == data::Mask::Kind::kFull;
    std::vector<BlockGroup> blocks;
    if (!dispatch.block_per_tile) {
      for (const BlockRun& run : spec.blocks) {
        const BlockGroup first = OneBlock(run.keys);
        int64_t total = 0;
        for (const KeyRun& keys : run.keys) total += keys.total;
        const bool alike = run.count == 1 || (total == run.count * first.tiles && (full || total == 0));
        for (int64_t n = 0; n < run.count; ++n) blocks.push_back(alike ? first : OneBlock(spec.keys(run.at(n))));
      }
    }
    for (const std::vector<int32_t>& order : dispatch.orders) {
      std::vector<BlockGroup>& groups = launch.orders.emplace_back();
      for (const int32_t block : order) {
        if (!dispatch.block_per_tile) {
          Append(groups, blocks[static_cast<size_t>(block)]);
          continue;
        }
        for (const KeyRun& run : spec.keys(dispatch.blocks[static_cast<size_t>(block)])) {
          Append(groups, {1, run.first.masked ? 1 : 0, run.count});
        }
      }
    }
  }

  std::vector<LaunchWork>& launches() { return launches_; }

 private:
  const Kernel& kernel_;
  const Attention& a_;
  const Tiling& t_;
  std::vector<LaunchWork> launches_;
};

// A sum over all blocks.
template <class Of>
int64_t SumOf(const LaunchWork& work, Of of) {
  int64_t sum = 0;
  for (const Pass& pass : work.passes) {
    for (const BlockGroup& group : work.orders[pass.order]) sum += pass.heads * group.blocks * of(group);
  }
  return sum;
}

}  // namespace

int64_t LaunchWork::blocks() const {
  return SumOf(*this, [](const BlockGroup&) { return int64_t{1}; });
}
int64_t LaunchWork::tiles() const {
  return SumOf(*this, [](const BlockGroup& group) { return group.tiles; });
}
int64_t LaunchWork::masked_tiles() const {
  return SumOf(*this, [](const BlockGroup& group) { return group.masked; });
}

LaunchWork OnePass(std::string name, int64_t heads, std::vector<BlockGroup> groups) {
  return {
      .name = std::move(name), .orders = {std::move(groups)}, .passes = {{.heads = heads}}, .heads = {.heads = heads}};
}

std::vector<LaunchWork> WorkOf(const Kernel& kernel, const Attention& attention, const Tiling& tiling) {
  WorkStream stream(kernel, attention, tiling);
  kernel.Run(stream, attention, tiling, kernel.recipe);
  return std::move(stream.launches());
}

}  // namespace bitflash::sim
