// FlashAttention-2, forward: one thread block computes Br rows of O of one head and keeps S and P in registers.
// Letters and order of steps: Dao 2023 (arXiv 2307.08691), Algorithm 1; key tiles from the last to the first, as the
// published CUDA kernel visits them.
#include <algorithm>

#include "sim/kernels/entries.h"
#include "sim/kernels/online_softmax.h"

namespace bitflash::sim {
namespace {

void Fa2Block(Block& b, const Attention& a, const Tiling& t, const Recipe& recipe, const Operands& g, int64_t i,
              const KeyRuns& keys) {
  const QueryTile queries = QueryTileAt(a, t, i);
  const int64_t d = PaddedDim(a.head_dim, a.format), dv = PaddedDim(a.head_dim_v, a.format);
  const Tile Qi = b.Shared(TensorId::kQ, a.format, t.Br, d);
  const Tile Kj = b.Shared(TensorId::kK, a.format, t.Bc, d, t.stages);
  const Tile Vj = a.v_is_in_k ? Kj : b.Shared(TensorId::kV, a.format, t.Bc, dv, t.stages);
  const Tile S = b.Registers(TensorId::kS, t.Br, t.Bc);
  const Tile P = b.Alias(S, TensorId::kP, a.format, t.Br, t.Bc);  // takes over S's registers as they are converted
  const Tile O = b.Registers(TensorId::kO, t.Br, dv);
  OnlineSoftmax softmax(b, t.Br);
  b.Fill(O, 0);

  b.Copy(Qi, Rows(g.Q, queries.rows));
  b.For(keys, [&](const KeyTile& j) {
    b.Copy(Kj, Rows(g.K, j.rows));
    b.MmaTransposed(S, Qi, Kj);  // S = Qi Kj^T
    softmax.Apply(b, a, recipe, S, O, queries, j);
    b.Convert(P, S);
    if (!a.v_is_in_k) b.Copy(Vj, Rows(g.V, j.rows));
    b.Mma(O, P, Vj);  // into the live O
  });

  softmax.Finish(b, a, recipe, O);
  const Tile Oe = b.Alias(O, TensorId::kO, a.format, t.Br, dv);
  // Out through Q's shared memory, so that the stores fill whole lines.
  const Tile Os = dv <= d ? b.Alias(Qi, TensorId::kO, a.format, t.Br, dv) : b.Shared(TensorId::kO, a.format, t.Br, dv);
  b.Convert(Oe, O);
  b.Copy(Os, Oe);
  b.Copy(Rows(g.O, queries.rows), Os);
  b.Copy(Rows(g.LSE, queries.rows), softmax.r);
}

void Run(Stream& stream, const Attention& a, const Tiling& t, const Recipe& recipe) {
  const Operands g = MakeOperands(a, t);
  LaunchSpec launch{
      .name = "fa2_forward",
      .grid = {QueryTileCount(a, t), t.pack_gqa ? a.heads_kv : a.heads_q, a.batch},
      .block = {.mma = MmaInstruction::kMmaSync, .warps = t.warps},
      .heads = Heads(a, t),
      .blocks = QueryBlocks(a, t, recipe.key_order),
      .keys = [&](const BlockIndex& at) { return KeyTiles(a, t, QueryTileAt(a, t, at.i), recipe.key_order); }};
  stream.Launch(launch,
                [&](Block& b, const BlockIndex& at, const KeyRuns& keys) { Fa2Block(b, a, t, recipe, g, at.i, keys); });
}

// The tiles of the published kernel, Dao-AILab/flash-attention 0251105,
// csrc/flash_attn/src/flash_fwd_launch_template.h, and PyTorch 2.11: chosen by head_dim, and on parts with about 100
// KiB of shared memory by the mask.
Tiling PublishedTiling(const Attention& a, const Gpu& gpu) {
  const int64_t d = std::max(a.head_dim, a.head_dim_v);
  const bool small_shared = gpu.arch == "sm86" || gpu.arch == "sm89";
  const bool causal = a.mask.kind == data::Mask::Kind::kCausal;
  // A decode step's query heads become rows of one tile.
  const bool pack = a.seqlen_q == 1 && a.group() > 1;
  const auto tile = [&](int64_t Br, int64_t Bc, int64_t warps) {
    return Tiling{.Br = Br, .Bc = Bc, .warps = warps, .pack_gqa = pack};
  };
  if (d <= 64) return tile(128, 128, 4);
  if (d <= 128 && small_shared && causal) return tile(64, 64, 4);
  if (d <= 96) return tile(128, 64, 4);
  if (d <= 128) return small_shared ? tile(128, 32, 4) : tile(128, 64, 4);
  if (d <= 192) return tile(128, 64, 8);
  if (d <= 256) {
    const bool big_tile = gpu.shared_bytes_per_block >= 131072 && gpu.shared_bytes_per_sm < 196608;
    return big_tile ? tile(128, 64, 8) : tile(64, 64, 4);
  }
  return tile(64, 32, 8);  // not published: what fits latent attention's 576 columns
}

// The published tile, smaller where this GPU's shared memory does not hold it.
Tiling DefaultTiling(const Attention& a, const Gpu& gpu) {
  Tiling t = PublishedTiling(a, gpu);
  const int64_t d = PaddedDim(a.head_dim, a.format), dv = PaddedDim(a.head_dim_v, a.format);
  const auto shared = [&] {
    const int64_t v_columns = a.v_is_in_k ? 0 : dv;
    const int64_t staging = dv > d ? t.Br * dv : 0;
    return (t.Br * d + t.Bc * (d + v_columns) + staging) * data::StorageBytes(a.format);
  };
  while (shared() > gpu.shared_bytes_per_block && t.Bc > 16) t.Bc /= 2;
  while (shared() > gpu.shared_bytes_per_block && t.Br > 16) t.Br /= 2;
  return t;
}

}  // namespace

Kernel Fa2Forward() {
  return {.name = "fa2",
          .title = "FlashAttention-2 forward",
          .source = "Dao 2023, arXiv 2307.08691, Algorithm 1",
          .summary = "one block per query tile; S and P stay in registers, O is written once",
          .min_arch = 80,
          .formats = {Format::kFp16, Format::kBf16},
          .DefaultTiling = DefaultTiling,
          .Run = Run};
}

}  // namespace bitflash::sim
