#include "sim/time/work.h"

#include <algorithm>
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
    LaunchWork& launch = launches_.emplace_back();
    launch.name = spec.name;
    if (IsTileByTile(spec)) return FillTileByTile(spec, launch);
    Dispatch dispatch = DispatchOf(kernel_, spec, a_, t_);
    launch.passes = std::move(dispatch.passes);
    launch.heads = dispatch.heads;
    launch.fixed_shares = dispatch.fixed_shares;
    std::vector<BlockGroup> blocks;
    if (!dispatch.block_per_tile) {
      blocks.reserve(dispatch.blocks.size());
      for (const BlockRun& run : spec.blocks) {
        ForAlike(spec, run, [&](int64_t, int64_t count, const BlockGroup& block) {
          blocks.insert(blocks.end(), static_cast<size_t>(count), block);
        });
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
  // The blocks of a run: visit(first, count, what each of them does) for those that are alike.
  template <class Visit>
  void ForAlike(const LaunchSpec& spec, const BlockRun& run, const Visit& visit) const {
    const BlockGroup first = OneBlock(run.keys);
    int64_t total = 0;
    for (const KeyRun& keys : run.keys) total += keys.total;
    // Without a mask the blocks of a run have as many tiles as its first one, but for a shorter last part.
    using Kind = data::Mask::Kind;
    const bool full = a_.mask.kind == Kind::kFull;
    if (run.count == 1 || (total == run.count * first.tiles && (full || total == 0))) {
      return visit(int64_t{0}, run.count, first);
    }
    // Under a causal mask neither where a query tile's keys end nor where its masked ones begin ever decreases from one
    // query tile to the next. So where two have as many of both, those between do, too; under a window they need not.
    const bool ends_only = (a_.mask.kind == Kind::kCausal || a_.mask.kind == Kind::kCausalTopLeft) && run.step.j == 0 &&
                           run.step.split == 0;
    BlockGroup before = first;
    visit(int64_t{0}, int64_t{1}, first);
    for (int64_t n = 1, alike = 1; n < run.count;) {
      // Twice as many at once for as long as they are alike, and one by one when not.
      const int64_t at = ends_only ? std::min(run.count, n + alike) - 1 : n;
      const BlockGroup group = OneBlock(spec.keys(run.at(at)));
      const bool same = group.tiles == before.tiles && group.masked == before.masked;
      if (!same && at > n) {
        alike = 1;
        continue;
      }
      visit(n, at + 1 - n, group);
      alike = same ? 2 * (at + 1 - n) : 1;
      n = at + 1;
      before = group;
    }
  }

  // The orders of query tiles without a list of all their blocks, of which a prompt has half a million for every head.
  void FillTileByTile(const LaunchSpec& spec, LaunchWork& launch) const {
    struct Alike {
      BlockGroup block;
      int64_t end = 0;  // query tiles before it
    };
    std::vector<Alike> alike;   // part by part
    std::vector<size_t> parts;  // where each is in `alike`: at the query tile that it has come to
    int64_t part = -1, tiles = 0;
    const auto append = [&](const BlockIndex& last, const BlockGroup& block) {
      if (last.split != part) parts.push_back(alike.size()), part = last.split;
      alike.push_back({block, last.i + 1});
      tiles = std::max(tiles, last.i + 1);
    };
    for (const BlockRun& run : spec.blocks) {
      ForAlike(spec, run, [&](int64_t first, int64_t count, const BlockGroup& block) {
        if (run.step.split == 0) return append(run.at(first + count - 1), block);
        for (int64_t n = first; n < first + count; ++n) append(run.at(n), block);
      });
    }
    launch.heads = {spec.heads, a_.batch, false};
    launch.orders.resize(static_cast<size_t>(tiles));
    for (int64_t tile = 0; tile < tiles; ++tile) {
      for (size_t& at : parts) {
        while (alike[at].end <= tile) ++at;
        Append(launch.orders[static_cast<size_t>(tile)], alike[at].block);
      }
      launch.passes.push_back({0, spec.heads, false, static_cast<size_t>(tile)});
    }
  }

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
