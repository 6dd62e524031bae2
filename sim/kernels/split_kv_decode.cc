// Flash-decoding: the keys are split between blocks, which write unnormalised partial outputs with their m and l; a
// second launch combines them. Dao, Haziza, Massa, Sizov 2023, "Flash-Decoding for long-context inference".
// The query heads of a KV head are rows of one tile, so K and V are read once for the whole group.
#include <algorithm>
#include <limits>

#include "sim/ceil_div.h"
#include "sim/kernels/entries.h"
#include "sim/kernels/online_softmax.h"
#include "sim/splits.h"

namespace bitflash::sim {
namespace {

constexpr int64_t kPartKeys = 1024;  // by default: the bits of a sequence then depend on no GPU and no neighbour

// K or V. TMA brings slices of keys whole, beyond 128 columns half a tile, and of a page no more than it has.
GlobalMatrix Loaded(const Attention& a, const Tiling& t, const GlobalMatrix& m) {
  if (!t.tma) return m;
  int64_t rows = a.head_dim <= 128 || MultipliesByWarpgroup(t) ? t.Bc : std::max<int64_t>(1, t.Bc / 2);
  if (t.page_size > 0) rows = std::min(rows, t.page_size);
  return InBoxes(m, {rows, 128 / data::StorageBytes(m.format), m.cols});
}

// Sequences of one part need no second launch.
bool IsWhole(const Attention& a, const Tiling& t) { return SplitParts(a, t) == 1; }

// What CombineBlock makes of a single part: its weight is 1, or 0 for a row without keys, whose O and l are 0.
void FinishWhole(Block& b, const Attention& a, const Recipe& recipe, const Operands& g, Range rows, const Tile& O,
                 const OnlineSoftmax& softmax) {
  const Tile zero = b.RowVector(O.rows), r = b.RowVector(O.rows);
  b.Fill(zero, 0);
  b.FmaRows(O, 1, zero);  // -0 becomes +0
  b.Invert(r, softmax.l, recipe);
  b.MulRows(O, r);
  b.CopyConvert(Rows(g.O, rows), O);
  b.LogSumExp(r, softmax.m, softmax.l, static_cast<float>(a.scale()), recipe);
  b.Copy(Rows(g.LSE, rows), r);
}

void SplitBlock(Block& b, const Attention& a, const Tiling& t, const Recipe& recipe, const Operands& g,
                const BlockIndex& at, const KeyRuns& keys) {
  const QueryTile queries = QueryTileAt(a, t, at.i);
  const int64_t d = PaddedDim(a.head_dim, a.format), dv = PaddedDim(a.head_dim_v, a.format);
  // Every part reads the queries again.
  const GlobalMatrix Q = With(g.Q, at.split == 0 ? Reuse::kOnce : Reuse::kAgain);
  const GlobalMatrix K = Loaded(a, t, g.K), V = Loaded(a, t, g.V);
  const Tile Qi = b.Shared(TensorId::kQ, a.format, t.Br, d);
  const Tile Kj = b.Shared(TensorId::kK, a.format, t.Bc, d, t.stages);
  const Tile Vj = a.v_is_in_k ? Kj : b.Shared(TensorId::kV, a.format, t.Bc, dv, t.stages);
  const Tile S = b.Registers(TensorId::kS, t.Br, t.Bc);
  const Tile P = b.Alias(S, TensorId::kP, a.format, t.Br, t.Bc);
  const Tile O = b.Registers(TensorId::kO, t.Br, dv);
  OnlineSoftmax softmax(b, t.Br);
  b.Fill(O, 0);

  b.Copy(Qi, Rows(Q, queries.rows));
  b.For(keys, [&](const KeyTile& j) {
    if (t.page_size > 0) b.LoadIndices(Rows(g.BlockTable, Pages(t, j.rows)));
    b.Copy(Kj, Rows(K, j.rows));
    b.MmaTransposed(S, Qi, Kj);
    softmax.Apply(b, a, recipe, S, O, queries, j);
    b.Convert(P, S);
    if (!a.v_is_in_k) b.Copy(Vj, Rows(V, j.rows));
    b.Mma(O, P, Vj);
  });

  b.SumQuad(softmax.l, recipe);
  if (IsWhole(a, t)) return FinishWhole(b, a, recipe, g, queries.rows, O, softmax);
  const Range part{at.split, 1};
  b.Copy(Part(g.OPartial, queries.rows, {at.split * a.head_dim_v, a.head_dim_v}), O);
  b.Copy(Part(g.m, queries.rows, part), softmax.m);
  b.Copy(Part(g.l, queries.rows, part), softmax.l);
}

// One row: O = sum of w_c O_c / sum of w_c l_c with w_c = 2^((m_c - max m) scale log2 e). Four groups of threads take a
// contiguous quarter of the parts each, in ascending order; then the four sums are added in order.
void CombineBlock(Block& b, const Attention& a, const Recipe& recipe, const Operands& g, Range row,
                  int64_t row_blocks) {
  constexpr int64_t kGroups = 4;
  const int64_t parts = g.m.cols;
  const Tile w = b.Shared(TensorId::kM, Format::kFp32, 1, parts), l = b.Shared(TensorId::kL, Format::kFp32, 1, parts);
  const Tile Oc = b.Registers(TensorId::kO, 1, a.head_dim_v);
  const Tile O = b.Registers(TensorId::kO, 1, a.head_dim_v), Og = b.Registers(TensorId::kO, 1, a.head_dim_v);
  const Tile M = b.RowVector(1, 1), L = b.RowVector(1, 1), Lg = b.RowVector(1, 1), r = b.RowVector(1, 1);
  b.Fill(M, -std::numeric_limits<float>::infinity());
  // Each of the blocks of a row reads its m and l.
  b.Copy(w, Rows(Packed(g.m, row_blocks), row));
  b.Copy(l, Rows(Packed(g.l, row_blocks), row));
  b.RowMax(M, w, M);
  b.FiniteOrZero(M, M);
  b.SubRows(w, M);
  b.MulScalar(w, ScaleLog2(a, recipe));
  b.Exp2(w, w, recipe);
  b.Mul(l, l, w);
  for (int64_t group = 0; group < kGroups; ++group) {
    const int64_t quarter = CeilDiv(parts, kGroups);
    const int64_t begin = std::min(parts, group * quarter);
    b.Fill(Og, 0);
    b.Fill(Lg, 0);
    b.For(Slices({begin, std::min(quarter, parts - begin)}, 1), [&](const Range& part) {
      b.Copy(Oc, Part(g.OPartial, row, {part.begin * a.head_dim_v, a.head_dim_v}));
      b.FmaColumn(Og, Oc, w, part.begin);
      b.AddColumn(Lg, l, part.begin);
    });
    if (group == 0) {
      b.Move(O, Og);
      b.Move(L, Lg);
    } else {
      b.Add(O, Og);
      b.Add(L, Lg);
    }
  }
  b.Invert(r, L, recipe);
  b.MulRows(O, r);
  b.CopyConvert(Rows(g.O, row), O);
  b.LogSumExp(r, M, L, static_cast<float>(a.scale()), recipe);
  b.Copy(Rows(g.LSE, row), r);
}

void Run(Stream& stream, const Attention& a, const Tiling& t, const Recipe& recipe) {
  const int64_t parts = SplitParts(a, t);
  const int64_t rows = QueryRows(a, t);
  const int64_t heads_per_sequence = t.pack_gqa ? a.heads_kv : a.heads_q;
  const Operands g = SplitOperands(a, t);
  const bool wgmma = MultipliesByWarpgroup(t);

  stream.Launch({.name = "split_kv_decode",
                 .grid = {QueryTileCount(a, t), parts, heads_per_sequence * a.batch},
                 .block = {.mma = wgmma ? MmaInstruction::kWgmma : MmaInstruction::kMmaSync,
                           .warps = t.warps,
                           .threads = wgmma ? 32 * t.warps + 32 : 0},
                 .heads = Heads(a, t),
                 .blocks = SplitBlocks(a, t, Order::kAscending),
                 .keys = [&](const BlockIndex& at) { return PartKeys(a, t, at, Order::kAscending); }},
                [&](Block& b, const BlockIndex& at, const KeyRuns& keys) { SplitBlock(b, a, t, recipe, g, at, keys); });
  if (IsWhole(a, t)) return;
  stream.Launch({.name = "split_kv_combine",
                 .grid = {rows, heads_per_sequence, a.batch},
                 .block = {.warps = t.row_blocks > 1 ? 4 : 2},  // many rows fit the SMs together
                 .heads = Heads(a, t),
                 .blocks = {{{}, {.i = 1}, rows, {}}}},
                [&](Block& b, const BlockIndex& at, const KeyRuns&) {
                  CombineBlock(b, a, recipe, g, {at.i, 1}, t.row_blocks);
                });
}

// The problems that gpu/split_kv_hopper.cu takes.
bool LoadsByTma(const Attention& a, const Gpu& gpu) {
  return gpu.arch == "sm90" && data::StorageBytes(a.format) == 2 && a.head_dim == a.head_dim_v &&
         a.head_dim % 64 == 0 && a.head_dim <= 256 && !a.v_is_in_k && a.softcap == 0;
}

// The tile of the CUDA kernel: one warp, for no two warps then wait for one another, with as few rows as hold the
// queries; on sm90 a warpgroup for more than 16. 32 rows of O beyond 128 columns do not fit the registers of a warp.
Tiling DefaultTiling(const Attention& a, const Gpu& gpu) {
  Tiling t{.Br = 16, .Bc = 64, .warps = 1, .pack_gqa = a.group() > 1};
  const int64_t d = PaddedDim(a.head_dim, a.format), dv = a.v_is_in_k ? 0 : PaddedDim(a.head_dim_v, a.format);
  const int64_t columns = std::max(a.head_dim, a.head_dim_v);
  if (columns > 256) t = {.Br = 64, .Bc = 64, .warps = 8, .stages = 2, .pack_gqa = t.pack_gqa};  // latent attention
  t.tma = LoadsByTma(a, gpu);
  if (QueryRows(a, t) > t.Br && t.tma) {
    t.Br = 64, t.warps = 4;
  } else if (QueryRows(a, t) > t.Br && columns <= 128) {
    t.Br = 32;
  }
  const auto shared = [&] { return (t.Br * d + t.stages * t.Bc * (d + dv)) * data::StorageBytes(a.format); };
  while (shared() > gpu.shared_bytes_per_block && t.stages > 1) --t.stages;
  while (shared() > gpu.shared_bytes_per_block && t.Bc > 16) t.Bc /= 2;
  while (shared() > gpu.shared_bytes_per_block && t.Br > 16) t.Br /= 2;
  // The combine kernel keeps m and l of all parts of a row in shared memory: beyond 29 million keys on an H200, parts
  // grow.
  t.part_keys = kPartKeys;
  while (CeilDiv(a.seqlen_k, t.part_keys) > gpu.shared_bytes_per_block / 8) t.part_keys *= 2;
  // A block for every 32 columns where the rows alone leave SMs idle (gpu/split_kv_decode.cu).
  if (a.batch * a.heads_q * a.seqlen_q < 2 * gpu.sms) t.row_blocks = CeilDiv(a.head_dim_v, 32);
  return t;
}

// FlashAttention-2's split kernel, which also packs grouped heads into rows.
PublishedTile Published(const Attention& a, const Gpu&) {
  const int64_t d = std::max(a.head_dim, a.head_dim_v);
  return {.by = "FlashAttention-2",
          .source = "flash_fwd_launch_template.h, run_mha_fwd_splitkv_dispatch",
          .Br = 64,
          .Bc = d <= 64    ? 256
                : d <= 128 ? 128
                           : 64,
          .warps = 4};
}

std::vector<GlobalMatrix> Scratch(const Attention& a, const Tiling& t) {
  const Operands g = SplitOperands(a, t);
  return {g.OPartial, g.m, g.l};
}

}  // namespace

Kernel SplitKvDecode() {
  return {
      .name = "split-kv",
      .title = "Split-KV decode (flash-decoding) and combine",
      .source = "Dao, Haziza, Massa, Sizov 2023, Flash-Decoding for long-context inference",
      .summary =
          "the keys are split between blocks, so that one query keeps the whole GPU busy; partial outputs are combined",
      .min_arch = 80,
      .formats = {Format::kFp16, Format::kBf16},
      .DefaultTiling = DefaultTiling,
      .Run = Run,
      .own_tile = "so that no two warps wait for one another, and that bits depend neither on the batch nor on the GPU",
      .Published = Published,
      .splits_keys = true,
      .fixed_parts = true,
      .pages = true,
      .Scratch = Scratch};
}

}  // namespace bitflash::sim
