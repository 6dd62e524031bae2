#include "sim/l2/schedule.h"

#include <algorithm>
#include <array>
#include <map>
#include <string_view>
#include <tuple>

#include "sim/ceil_div.h"
#include "sim/operands.h"
#include "sim/runs.h"

namespace bitflash::sim::l2 {
namespace {

// The loops over a launch's blocks, named by what they count.
enum class Axis : uint8_t {
  kTile,         // query tiles, ascending
  kTileReverse,  // query tiles, descending: causal blocks with most keys first
  kColumn,       // BlockIndex::j
  kSplit,        // parts of the keys
  kHead,         // heads of one sequence
  kSequence,
};

// Fastest first. FlashAttention-2's blockIdx is (query tile, sequence, head), csrc/flash_attn/src/flash_fwd_kernel.h;
// ours are in gpu/*.cuh.
std::vector<Axis> Order(std::string_view kernel, std::string_view launch) {
  using enum Axis;
  if (launch == "fa2_forward" && kernel == "pytorch-fa2") return {kTile, kSequence, kHead};
  if (launch == "fa2_forward") return {kTileReverse, kHead, kSequence};
  if (launch == "fa2_splitkv") return {kTile, kSplit, kHead, kSequence};
  if (launch == "split_kv_decode") return {kSplit, kHead, kSequence, kTile};
  if (launch == "standard_softmax") return {kColumn, kTile, kHead, kSequence};
  if (launch == "standard_output") return {kColumn, kTileReverse, kHead, kSequence};
  return {kTile, kHead, kSequence};
}

// FlashAttention-3's scheduler for causal and local masks: heads whose K and V fill 32 MiB together form a section;
// inside it the query tile with most keys of every head comes first (hopper/tile_scheduler.hpp of
// Dao-AILab/flash-attention 0251105, DynamicPersistentTileScheduler; hopper/flash_fwd_launch_template.h).
void LongestFirst(Schedule& s, const Attention& a, const Tiling& t, int64_t tiles) {
  constexpr int64_t kSectionBytes = int64_t{32} << 20;
  const int64_t kv_bytes = a.seqlen_k * (a.head_dim + a.head_dim_v) * data::StorageBytes(a.format);
  int64_t section = 1;
  while (kv_bytes > 0 && 2 * section * kv_bytes <= kSectionBytes) section *= 2;
  if (!t.pack_gqa) section *= a.group();
  const int64_t heads = Heads(a, t);
  for (int64_t first = 0; first < heads; first += section) {
    const int64_t here = std::min(section, heads - first);
    for (int64_t i = tiles - 1; i >= 0; --i) {
      for (int64_t h = 0; h < here; ++h)
        s.order.push_back({static_cast<int32_t>(first + h), static_cast<int32_t>(i), 0});
    }
  }
}

void Nested(Schedule& s, const std::vector<Axis>& axes, const Attention& a, const Tiling& t) {
  std::map<std::tuple<int64_t, int64_t, int64_t>, int32_t> ordinal;
  int64_t tiles = 0, columns = 0, splits = 0;
  for (size_t n = 0; n < s.blocks.size(); ++n) {
    const BlockIndex& b = s.blocks[n];
    ordinal[{b.i, b.j, b.split}] = static_cast<int32_t>(n);
    tiles = std::max(tiles, b.i + 1), columns = std::max(columns, b.j + 1), splits = std::max(splits, b.split + 1);
  }
  const int64_t per_sequence = t.pack_gqa ? a.heads_kv : a.heads_q;
  const auto extent = [&](Axis axis) {
    switch (axis) {
      case Axis::kTile:
      case Axis::kTileReverse:
        return tiles;
      case Axis::kColumn:
        return columns;
      case Axis::kSplit:
        return splits;
      case Axis::kHead:
        return per_sequence;
      case Axis::kSequence:
        return a.batch;
    }
    return int64_t{1};
  };
  std::array<int64_t, 6> at{};
  const auto emit = [&] {
    const int64_t i = std::find(axes.begin(), axes.end(), Axis::kTileReverse) != axes.end()
                          ? tiles - 1 - at[static_cast<int>(Axis::kTileReverse)]
                          : at[static_cast<int>(Axis::kTile)];
    const auto found = ordinal.find({i, at[static_cast<int>(Axis::kColumn)], at[static_cast<int>(Axis::kSplit)]});
    if (found == ordinal.end()) return;
    const int64_t head = at[static_cast<int>(Axis::kSequence)] * per_sequence + at[static_cast<int>(Axis::kHead)];
    s.order.push_back({static_cast<int32_t>(head), found->second, 0});
  };
  for (;;) {
    emit();
    size_t n = 0;
    while (n < axes.size() && ++at[static_cast<int>(axes[n])] == extent(axes[n])) at[static_cast<int>(axes[n++])] = 0;
    if (n == axes.size()) return;
  }
}

}  // namespace

Schedule ScheduleOf(const Kernel& kernel, const LaunchSpec& launch, const Attention& a, const Tiling& t) {
  Schedule s;
  for (const BlockRun& run : launch.blocks) {
    for (int64_t n = 0; n < run.count; ++n) s.blocks.push_back(run.at(n));
  }
  const bool masked = a.mask.kind != data::Mask::Kind::kFull;
  if (launch.name == "fa3_forward" && kernel.name == "fa3" && masked) {
    std::ranges::sort(s.blocks, {}, &BlockIndex::i);
    LongestFirst(s, a, t, static_cast<int64_t>(s.blocks.size()));
    return s;
  }
  Nested(s, Order(kernel.name, launch.name), a, t);
  // Persistent: fixed shares without a mask; with one, cuDNN's blocks are taken to draw the next tile from a counter
  // (fixed shares would move twenty times the bytes that were counted).
  if (launch.name == "fa3_forward") s.round_robin = !masked;
  if (launch.name == "standard_scores") {
    // Key tiles fastest (gpu/standard_scores.cuh, standard_scores_hopper.cuh); with TMA one persistent block an SM.
    s.block_per_tile = true;
    s.round_robin = t.tma;
    std::vector<Work> tiles;
    for (const Work& work : s.order) {
      const int64_t count = launch.keys(s.blocks[static_cast<size_t>(work.block)]).tiles();
      for (int64_t j = 0; j < count; ++j) tiles.push_back({work.head, work.block, static_cast<int32_t>(j)});
    }
    s.order = std::move(tiles);
  }
  if (launch.name == "standard_softmax") s.together = 16;
  return s;
}

}  // namespace bitflash::sim::l2
