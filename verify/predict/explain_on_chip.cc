#include "verify/predict/explain_on_chip.h"

#include <algorithm>

#include "sim/block.h"
#include "sim/operands.h"
#include "sim/runs.h"
#include "sim/stream.h"
#include "verify/cases/tensor_letter.h"

namespace bitflash::verify {
namespace {

using sim::Space;
using sim::TensorId;
using sim::Tile;

// Remembers every tile that an instruction touches.
class WatchingBlock : public sim::Block {
 public:
  WatchingBlock(const sim::BlockSpec& spec, sim::Ledger& ledger, Spans& spans)
      : Block(spec, ledger, spans, 1, 1, sim::Loops::kByRun) {}

  std::vector<Tile> tiles;  // each tensor once per space, the largest

 private:
  void See(const Tile& tile) {
    for (Tile& seen : tiles) {
      if (seen.tensor != tile.tensor || seen.space != tile.space || seen.format != tile.format) continue;
      if (tile.bytes() > seen.bytes()) seen = tile;
      return;
    }
    tiles.push_back(tile);
  }
  void DoFill(const Tile& tile, float) override { See(tile); }
  void DoCopy(const Tile& to, const sim::GlobalTile&) override { See(to); }
  void DoMma(const Tile& D, const Tile& A, const Tile& B, bool, bool) override { See(A), See(B), See(D); }
};

// Runs the first block of the launch with number `wanted`.
class WatchingStream : public sim::Stream {
 public:
  explicit WatchingStream(size_t wanted) : wanted_(wanted) {}
  void Launch(const sim::LaunchSpec& spec, const Body& body) override {
    if (wanted_-- != 0 || spec.blocks.empty()) return;
    sim::Ledger ledger;
    sim::Block::Spans spans;
    WatchingBlock block(spec.block, ledger, spans);
    const sim::BlockRun& run = spec.blocks.front();
    body(block, run.first, run.keys);
    tiles = block.tiles;
  }
  std::vector<Tile> tiles;

 private:
  size_t wanted_;
};

// Partial outputs are on chip what O is, and the row statistics share one line.
std::string_view OnChipLetter(TensorId tensor) {
  if (tensor == TensorId::kOPartial) return Letter(TensorId::kO);
  const bool statistics =
      tensor == TensorId::kM || tensor == TensorId::kL || tensor == TensorId::kLse || tensor == TensorId::kBlockTable;
  return statistics ? "m, l" : Letter(tensor);
}

}  // namespace

OnChip WatchOnChip(const KernelCost& side, const data::Attention& attention) {
  WatchingStream stream(side.main_launch);
  const sim::Kernel& kernel = sim::FindKernel(side.kernel);
  kernel.Run(stream, attention, side.tiling, kernel.recipe);

  OnChip result;
  for (const Tile& tile : stream.tiles) {
    // Row vectors come first in the kernel's text but last in the explanation.
    if (tile.cols == 1) continue;
    const bool streamed = tile.space == Space::kShared && (tile.tensor == TensorId::kK || tile.tensor == TensorId::kV);
    const int64_t copies = streamed ? side.tiling.stages : 1;
    result.tiles.push_back(
        {OnChipLetter(tile.tensor), tile.space, tile.format, tile.rows, tile.cols, copies, tile.bytes() * copies});
  }
  result.tiles.push_back({"m, l", Space::kRegister, data::Format::kFp32, side.tiling.Br, 2, 1,
                          side.tiling.Br * 2 * data::StorageBytes(data::Format::kFp32)});
  std::stable_sort(result.tiles.begin(), result.tiles.end(),
                   [](const OnChipTile& a, const OnChipTile& b) { return a.space < b.space; });

  const sim::LaunchCount& launch = side.count.launches[side.main_launch];
  result.shared_bytes = launch.resources.shared_bytes;
  result.register_bytes = launch.resources.threads * launch.resources.registers_per_thread * 4;
  result.occupancy = launch.occupancy;
  result.full_row_rows = std::min(side.tiling.Br, sim::QueryRows(attention, side.tiling));
  result.full_row_bytes = result.full_row_rows * attention.seqlen_k * data::StorageBytes(data::Format::kFp32);
  return result;
}

TileLoop CountLoop(const KernelCost& side, const data::Attention& attention) {
  const auto visit = [&](const data::Attention& a) {
    TileLoop loop;
    loop.Tr = sim::QueryTileCount(a, side.tiling);
    for (int64_t i = 0; i < loop.Tr; ++i) {
      const sim::QueryTile queries = sim::QueryTileAt(a, side.tiling, i);
      const int64_t tiles = sim::KeyTiles(a, side.tiling, queries, sim::Order::kAscending).tiles();
      loop.Tc = std::max(loop.Tc, tiles);
      loop.tiles += tiles;
    }
    loop.tiles *= sim::Heads(a, side.tiling);
    return loop;
  };
  TileLoop loop = visit(attention);
  data::Attention full = attention;
  full.mask = data::Mask::Full();
  loop.tiles_full = visit(full).tiles;
  return loop;
}

}  // namespace bitflash::verify
