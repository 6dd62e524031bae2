// FlashAttention, forward: the first version. Keys and values are the outer loop, so O and the row statistics travel to
// HBM and back once per key tile.
// Letters and order of steps: Dao et al. 2022 (arXiv 2205.14135), Algorithm 1. O is kept in HBM in the input format, as
// the algorithm writes it. One block per head.
#include <algorithm>
#include <limits>

#include "sim/kernels/entries.h"
#include "sim/operands.h"
#include "sim/runs.h"

namespace bitflash::sim {
namespace {

// Line 2 of the algorithm: O = 0, l = 0, m = -inf in HBM.
void InitBlock(Block& b, const Attention& a, const Tiling& t, const Operands& g, int64_t i) {
  const QueryTile queries = QueryTileAt(a, t, i);
  const Tile O = b.Registers(TensorId::kO, t.Br, PaddedDim(a.head_dim_v, a.format), a.format);
  const Tile m = b.RowVector(t.Br), l = b.RowVector(t.Br);
  b.Fill(O, 0);
  b.Fill(m, -std::numeric_limits<float>::infinity());
  b.Fill(l, 0);
  b.Copy(Rows(g.O, queries.rows), O);
  b.Copy(Rows(g.m, queries.rows), m);
  b.Copy(Rows(g.l, queries.rows), l);
}

void Fa1Block(Block& b, const Attention& a, const Tiling& t, const Recipe& recipe, const Operands& g) {
  const int64_t d = PaddedDim(a.head_dim, a.format), dv = PaddedDim(a.head_dim_v, a.format);
  const float scale_log2 = ScaleLog2(a, recipe);
  // Every key tile reads and writes these again.
  const GlobalMatrix Q_hbm = With(g.Q, Reuse::kShared), O_hbm = With(g.O, Reuse::kShared);
  const GlobalMatrix m_hbm = With(g.m, Reuse::kShared), l_hbm = With(g.l, Reuse::kShared);
  const Tile Kj = b.Shared(TensorId::kK, a.format, t.Bc, d);
  const Tile Vj = a.v_is_in_k ? Kj : b.Shared(TensorId::kV, a.format, t.Bc, dv);
  const Tile Qi = b.Shared(TensorId::kQ, a.format, t.Br, d);
  const Tile S = b.Registers(TensorId::kS, t.Br, t.Bc);
  const Tile P = b.Alias(S, TensorId::kP, a.format, t.Br, t.Bc);
  const Tile O = b.Registers(TensorId::kO, t.Br, dv);
  const Tile Oe = b.Alias(O, TensorId::kO, a.format, t.Br, dv);
  const Tile m = b.RowVector(t.Br), l = b.RowVector(t.Br), m_new = b.RowVector(t.Br), l_tile = b.RowVector(t.Br);
  const Tile c = b.RowVector(t.Br), r = b.RowVector(t.Br);

  b.For(AllKeyTiles(a, t), [&](const KeyTile& j) {
    b.Copy(Kj, Rows(g.K, j.rows));
    if (!a.v_is_in_k) b.Copy(Vj, Rows(g.V, j.rows));
    b.For(QueryTilesOf(a, t, j), [&](const QueryTile& i) {
      b.Copy(Qi, Rows(Q_hbm, i.rows));
      b.Copy(Oe, Rows(O_hbm, i.rows));
      b.Copy(m, Rows(m_hbm, i.rows));
      b.Copy(l, Rows(l_hbm, i.rows));
      b.Convert(O, Oe);
      b.MmaTransposed(S, Qi, Kj);
      if (a.softcap > 0) b.Softcap(S, static_cast<float>(a.scale()), static_cast<float>(a.softcap));
      b.Mask(S, i, j);
      b.RowMax(m_new, S, m);
      b.FiniteOrZero(c, m_new);
      b.Sub(r, m, c);
      b.Mul(r, r, scale_log2);
      b.Exp2(r, r, recipe);
      b.Mul(c, c, -scale_log2);
      b.FmaRows(S, scale_log2, c);
      b.Exp2(S, S, recipe);
      b.Fill(l_tile, 0);
      b.AddToLanes(l_tile, S);
      b.SumQuad(l_tile, recipe);
      // O = (l r O + P V) / l_new: the stored O is normalised, so it is weighted by the old sum first.
      b.MulRows(l, r);
      b.MulRows(O, l);
      b.Add(l, l_tile);
      b.Convert(P, S);
      b.Mma(O, P, Vj);
      b.Invert(r, l, recipe);
      b.MulRows(O, r);
      b.Convert(Oe, O);
      b.Copy(Rows(O_hbm, i.rows), Oe);
      b.Copy(Rows(m_hbm, i.rows), m_new);
      b.Copy(Rows(l_hbm, i.rows), l);
    });
  });
}

void Run(Stream& stream, const Attention& a, const Tiling& t, const Recipe& recipe) {
  const Operands g = MakeOperands(a, t);
  const int64_t heads = Heads(a, t);
  LaunchSpec init{.name = "fa1_init",
                  .grid = {QueryTileCount(a, t), a.heads_q, a.batch},
                  .block = {.warps = t.warps},
                  .heads = heads,
                  .blocks = WholeRows(a, t)};
  stream.Launch(init, [&](Block& b, const BlockIndex& at, const KeyRuns&) { InitBlock(b, a, t, g, at.i); });

  LaunchSpec forward{.name = "fa1_forward",
                     .grid = {1, a.heads_q, a.batch},
                     .block = {.warps = t.warps},
                     .heads = heads,
                     .blocks = {{}}};
  stream.Launch(forward, [&](Block& b, const BlockIndex&, const KeyRuns&) { Fa1Block(b, a, t, recipe, g); });
}

// The paper's rule, line 1 of the algorithm: Bc = ceil(M / 4d), Br = min(Bc, d) with M the on-chip elements; cut to
// multiples of 16 for the matrix instruction and to what 8 warps' registers hold.
Tiling DefaultTiling(const Attention& a, const Gpu& gpu) {
  const int64_t d = PaddedDim(std::max(a.head_dim, a.head_dim_v), a.format);
  const int64_t on_chip = gpu.shared_bytes_per_block / data::StorageBytes(a.format);
  const int64_t by_paper = std::clamp<int64_t>(on_chip / (4 * d) / 16 * 16, 16, 1024);
  Tiling t{.Br = std::min({by_paper, d, int64_t{128}}), .Bc = by_paper, .warps = 8};
  // Words of S and O that a thread holds: (Br Bc + Br d) / 256.
  const auto words = [&] { return t.Br * (t.Bc + d) / 256 + kRegisterOverhead; };
  while (words() > 255 && t.Bc > 16) t.Bc -= 16;
  return t;
}

std::vector<GlobalMatrix> Scratch(const Attention& a, const Tiling& t) {
  const Operands g = MakeOperands(a, t);
  return {g.m, g.l};
}

}  // namespace

Kernel Fa1Forward() {
  return {.name = "fa1",
          .title = "FlashAttention forward, the first version",
          .source = "Dao et al. 2022, arXiv 2205.14135, Algorithm 1",
          .summary = "key tiles outside, query tiles inside: S and P never reach HBM, O travels once per key tile",
          .min_arch = 75,
          .formats = {Format::kFp16, Format::kBf16},
          .DefaultTiling = DefaultTiling,
          .Run = Run,
          .keys_outside = true,
          .packs_heads = false,
          .Scratch = Scratch};
}

}  // namespace bitflash::sim
