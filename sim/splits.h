// Splitting the keys of a head between blocks: which tiles each part takes. Shared by the kernels that do it.
#ifndef BITFLASH_SIM_SPLITS_H_
#define BITFLASH_SIM_SPLITS_H_

#include <vector>

#include "sim/operands.h"
#include "sim/runs.h"

namespace bitflash::sim {

// Parts of Tiling::part_keys keys, or equal numbers of key tiles; the last one may have fewer. This many hold at least
// one tile: rounding up can leave the last of Tiling::splits without any.
int64_t SplitParts(const Attention& a, const Tiling& t);

// Keys of every part but the last, which may have fewer; 0 without keys, unless Tiling::part_keys says it.
int64_t KeysPerPart(const Attention& a, const Tiling& t);

// The key tiles of one block.
KeyRuns PartKeys(const Attention& a, const Tiling& t, const BlockIndex& at, Order order);

// The blocks of one head.
std::vector<BlockRun> SplitBlocks(const Attention& a, const Tiling& t, Order order);

// split_kv_decode: with TMA, 64 rows are multiplied by wgmma, which rounds as mma.sync does (sim/tensor_core.cc).
inline bool MultipliesByWarpgroup(const Tiling& t) { return t.tma && t.Br % 64 == 0 && t.warps * 16 == t.Br; }

// The operands with one column of m and l and one O for every part.
Operands SplitOperands(const Attention& a, const Tiling& t);

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_SPLITS_H_
