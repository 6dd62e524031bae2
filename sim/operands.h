// The global matrices of one head, as the kernels address them.
#ifndef BITFLASH_SIM_OPERANDS_H_
#define BITFLASH_SIM_OPERANDS_H_

#include "sim/recipe.h"
#include "sim/tile.h"
#include "sim/tiling.h"

namespace bitflash::sim {

// Q and O have seqlen_q rows, or seqlen_q * group when query heads are packed (Tiling::pack_gqa).
// K and V belong to a KV head and are shared by the blocks that read them; the others move once unless a kernel says
// otherwise with With(matrix, reuse).
struct Operands {
  GlobalMatrix Q, K, V, O, LSE;
  GlobalMatrix S, P;        // [rows, seqlen_k], `standard` only
  GlobalMatrix m, l;        // [rows, 1], fp32: row statistics in HBM, `fa1`; one column a part for split keys
  GlobalMatrix OPartial;    // fp32 outputs of the parts side by side, split keys only
  GlobalMatrix BlockTable;  // [pages, 1], 4 bytes an entry, `split-kv` with pages only
};

Operands MakeOperands(const Attention& a, const Tiling& t);

// Heads that run the same blocks: batch x heads_q, or batch x heads_kv when query heads are packed.
int64_t Heads(const Attention& a, const Tiling& t);

// Columns of a tile that holds `head_dim` columns: a multiple of 16, or of 32 for 8-bit formats, because a matrix
// instruction is 32 bytes deep (PTX ISA: m16n8k16 and k16 wgmma of 16-bit formats, k32 of 8-bit ones).
int64_t PaddedDim(int64_t head_dim, Format format);

// softmax_scale * log2(e): exponentials are taken to base 2.
float ScaleLog2(const Attention& a, const Recipe& recipe);

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_OPERANDS_H_
