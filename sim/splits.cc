#include "sim/splits.h"

#include "sim/ceil_div.h"

namespace bitflash::sim {
namespace {

// Key tiles of every part but the last.
int64_t TilesPerPart(const Attention& a, const Tiling& t) {
  return t.part_keys > 0 ? t.part_keys / t.Bc : CeilDiv(CeilDiv(a.seqlen_k, t.Bc), t.splits);
}

// The key tiles of part `split` of the whole sequence.
Range PartTiles(const Attention& a, const Tiling& t, int64_t split) {
  const int64_t tiles = TilesPerPart(a, t);
  return {split * tiles, tiles};
}

}  // namespace

int64_t SplitParts(const Attention& a, const Tiling& t) {
  const int64_t tiles = CeilDiv(a.seqlen_k, t.Bc);
  return tiles == 0 ? 0 : CeilDiv(tiles, TilesPerPart(a, t));
}

int64_t KeysPerPart(const Attention& a, const Tiling& t) { return t.Bc * TilesPerPart(a, t); }

KeyRuns PartKeys(const Attention& a, const Tiling& t, const BlockIndex& at, Order order) {
  return KeyTiles(a, t, QueryTileAt(a, t, at.i), order, PartTiles(a, t, at.split));
}

std::vector<BlockRun> SplitBlocks(const Attention& a, const Tiling& t, Order order) {
  std::vector<BlockRun> blocks;
  const bool one_tile = QueryTileCount(a, t) == 1;
  for (int64_t split = 0; split < SplitParts(a, t); ++split) {
    const BlockIndex index{.split = split};
    if (one_tile) {  // a decode step: like parts are one run. The first leads to no other, for it alone pays for Q.
      AppendBlocks(blocks, index, {.split = split == 0 ? 0 : 1}, PartKeys(a, t, index, order));
      continue;
    }
    for (BlockRun run : QueryBlocks(a, t, order, PartTiles(a, t, split))) {
      run.first.split = split;
      blocks.push_back(run);
    }
  }
  return blocks;
}

Operands SplitOperands(const Attention& a, const Tiling& t) {
  Operands g = MakeOperands(a, t);
  g.m.cols = g.l.cols = SplitParts(a, t);
  g.OPartial.cols = SplitParts(a, t) * a.head_dim_v;
  return g;
}

}  // namespace bitflash::sim
