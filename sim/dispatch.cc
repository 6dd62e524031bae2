#include "sim/dispatch.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "sim/ceil_div.h"
#include "sim/operands.h"
#include "sim/runs.h"
#include "sim/splits.h"

namespace bitflash::sim {
namespace {

// The loops over the blocks of one head, named by what they count.
enum class Axis : uint8_t {
  kTile,         // query tiles, ascending
  kTileReverse,  // query tiles, descending: causal blocks with most keys first
  kColumn,       // BlockIndex::j
  kSplit,        // parts of the keys
};

// Fastest first; the heads come after them.
std::vector<Axis> AxesOf(std::string_view kernel, std::string_view launch) {
  using enum Axis;
  if (launch == "fa2_forward") return {kernel == "pytorch-fa2" ? kTile : kTileReverse};
  if (launch == "fa2_splitkv") return {kTile, kSplit};
  if (launch == "standard_softmax") return {kColumn, kTile};
  if (launch == "standard_output") return {kColumn, kTileReverse};
  return {kTile};
}

int64_t Coordinate(Axis axis, const BlockIndex& at) {
  switch (axis) {
    case Axis::kTile:
      return at.i;
    case Axis::kTileReverse:
      return -at.i;
    case Axis::kColumn:
      return at.j;
    case Axis::kSplit:
      return at.split;
  }
  return 0;
}

// Digit by digit, the fastest axis first: launches may have a million blocks of a head.
std::vector<int32_t> Sorted(const std::vector<BlockIndex>& blocks, const std::vector<Axis>& axes) {
  std::vector<int32_t> order(blocks.size()), next(blocks.size());
  for (size_t n = 0; n < order.size(); ++n) order[n] = static_cast<int32_t>(n);
  std::vector<size_t> first;
  for (const Axis axis : axes) {
    const auto at = [&](int32_t n) { return Coordinate(axis, blocks[static_cast<size_t>(n)]); };
    // Blocks come with ascending query tiles, so that most orders are there already.
    if (std::ranges::is_sorted(order, {}, at)) continue;
    const auto [low, high] = std::ranges::minmax(order, {}, at);
    const int64_t least = at(low);
    first.assign(static_cast<size_t>(at(high) - least) + 2, 0);
    for (const int32_t n : order) ++first[static_cast<size_t>(at(n) - least) + 1];
    for (size_t n = 1; n < first.size(); ++n) first[n] += first[n - 1];
    for (const int32_t n : order) next[first[static_cast<size_t>(at(n) - least)]++] = n;
    order.swap(next);
  }
  return order;
}

// Heads that take turns in fa3 (SectionHeads of gpu/fa3_forward.cu): every one of them has its next query tile before
// any has the one after. Without a mask few, so that their K and V stay in L2; with one more, so that short tiles are
// left to fill the gaps. Whole groups that share a KV head, and sections of one size where that costs at most half of
// it.
int64_t SectionOf(const Attention& a, const Tiling& t, int64_t heads) {
  const bool full = a.mask.kind == data::Mask::Kind::kFull;
  const int64_t group = t.pack_gqa ? 1 : a.group(), kv_heads = std::max<int64_t>(heads / group, 1);
  const int64_t kv_bytes = a.seqlen_k * (a.head_dim + a.head_dim_v) * data::StorageBytes(a.format);
  const int64_t fits = (int64_t{full ? 4 : 16} << 20) / std::max<int64_t>(kv_bytes, 1);
  const int64_t least = std::min(CeilDiv(full ? 2 : 4, group), kv_heads), most = std::clamp(fits, least, kv_heads);
  for (int64_t n = most; n >= (most + 1) / 2; --n) {
    if (kv_heads % n == 0) return n * group;
  }
  return most * group;
}

// Blocks come part by part, each with ascending query tiles. Over a prompt they are half a million for every head.
void ListTileByTile(const LaunchSpec& launch, int64_t parts, int64_t most, Dispatch& d) {
  const int64_t of_tile = std::max<int64_t>(1, parts * launch.heads);
  const int64_t tiles = most / of_tile + 1;  // the last one in part, or not needed
  for (const BlockRun& run : launch.blocks) {
    for (int64_t n = 0; n < run.count; ++n) {
      const BlockIndex block = run.at(n);
      if (block.i >= tiles) break;
      const auto tile = static_cast<size_t>(block.i);
      if (d.orders.size() <= tile) d.orders.resize(tile + 1);
      d.orders[tile].push_back(static_cast<int32_t>(d.blocks.size()));
      d.blocks.push_back(block);
    }
  }
  for (size_t tile = 0; tile < d.orders.size(); ++tile) d.passes.push_back({0, launch.heads, false, tile});
}

}  // namespace

bool IsBlockPerTile(const LaunchSpec& launch) { return launch.name == "standard_scores"; }

// gridDim is (parts, heads, query tiles).
bool IsTileByTile(const LaunchSpec& launch) { return launch.name == "split_kv_decode"; }

Dispatch DispatchOf(const Kernel& kernel, const LaunchSpec& launch, const Attention& a, const Tiling& t, int64_t most) {
  Dispatch d;
  const bool masked = a.mask.kind != data::Mask::Kind::kFull;
  const int64_t heads = launch.heads;
  // FlashAttention-2's blockIdx is (query tile, sequence, head): csrc/flash_attn/src/flash_fwd_kernel.h.
  d.heads = {heads, a.batch, launch.name == "fa2_forward" && kernel.name == "pytorch-fa2"};
  if (IsTileByTile(launch)) {
    ListTileByTile(launch, SplitParts(a, t), most, d);
    return d;
  }
  int64_t blocks = 0;
  for (const BlockRun& run : launch.blocks) blocks += run.count;
  d.blocks.reserve(static_cast<size_t>(blocks));
  for (const BlockRun& run : launch.blocks) {
    for (int64_t n = 0; n < run.count; ++n) d.blocks.push_back(run.at(n));
  }
  if (kernel.name == "fa3") {
    d.orders.push_back(Sorted(d.blocks, {masked ? Axis::kTileReverse : Axis::kTile}));
    const int64_t section = SectionOf(a, t, heads);
    for (int64_t first = 0; first < heads; first += section) {
      d.passes.push_back({first, std::min(section, heads - first), true, 0});
    }
    d.fixed_shares = !masked;
    return d;
  }
  d.orders.push_back(Sorted(d.blocks, AxesOf(kernel.name, launch.name)));
  d.passes.push_back({0, heads, false, 0});
  // cuDNN's persistent blocks draw the next tile from a counter, with a mask or without: each tile begins when the next
  // of all before it ends, not when that of its own share does (data/golden/l2/*_tiles.csv).
  if (IsBlockPerTile(launch)) {
    // Key tiles fastest (gpu/standard_scores.cuh, standard_scores_hopper.cuh); with TMA one persistent block an SM.
    d.block_per_tile = true;
    d.fixed_shares = t.tma;
  }
  return d;
}

std::vector<DispatchedBlock> InOrder(const Dispatch& d, const LaunchSpec& launch, size_t most) {
  std::vector<int32_t> tiles;
  if (d.block_per_tile) {
    for (const BlockIndex& block : d.blocks) tiles.push_back(static_cast<int32_t>(launch.keys(block).tiles()));
  }
  std::vector<DispatchedBlock> all;
  all.reserve(std::min(most, d.blocks.size() * static_cast<size_t>(launch.heads)));
  const auto append = [&](const Pass& pass, int64_t n, int32_t block) {
    const auto head = static_cast<int32_t>(d.heads.At(pass.first + n));
    const int32_t of_block = d.block_per_tile ? tiles[static_cast<size_t>(block)] : 1;
    for (int32_t tile = 0; tile < of_block; ++tile) all.push_back({head, block, tile});
  };
  for (const Pass& pass : d.passes) {
    const std::vector<int32_t>& order = d.orders[pass.order];
    if (pass.heads_inside) {
      for (size_t at = 0; at < order.size() && all.size() < most; ++at) {
        for (int64_t n = 0; n < pass.heads; ++n) append(pass, n, order[at]);
      }
    } else {
      for (int64_t n = 0; n < pass.heads && all.size() < most; ++n) {
        for (size_t at = 0; at < order.size() && all.size() < most; ++at) append(pass, n, order[at]);
      }
    }
  }
  if (all.size() > most) all.resize(most);
  return all;
}

}  // namespace bitflash::sim
