// PyTorch 2.x scaled_dot_product_attention with the FLASH_ATTENTION backend: its build of FlashAttention-2, recipe by
// recipe. Rules re-stated from PyTorch's and Dao-AILab/flash-attention's sources (commit 0251105,
// csrc/flash_attn/src/{softmax.h,flash_fwd_kernel.h,flash_fwd_launch_template.h}, flash_api.cpp) and confirmed bit by
// bit with outputs recorded on an H200.
//
// With few blocks the keys are split between blocks, which write normalised fp32 outputs and their log-sum-exps; a
// second launch combines them.
#include <algorithm>
#include <cmath>

#include "sim/ceil_div.h"
#include "sim/kernels/entries.h"
#include "sim/kernels/online_softmax.h"
#include "sim/splits.h"

namespace bitflash::sim {
namespace {

// head_dim of the compiled kernel that takes the problem.
int64_t KernelDim(const Attention& a) {
  for (const int64_t d : {32, 64, 96, 128, 192}) {
    if (std::max(a.head_dim, a.head_dim_v) <= d) return d;
  }
  return 256;
}

void SplitBlock(Block& b, const Attention& a, const Tiling& t, const Recipe& recipe, const Operands& g,
                const BlockIndex& at, const KeyRuns& keys) {
  const QueryTile queries = QueryTileAt(a, t, at.i);
  const int64_t d = PaddedDim(a.head_dim, a.format), dv = PaddedDim(a.head_dim_v, a.format);
  Recipe part = recipe;
  part.empty_row = Recipe::EmptyRow::kOneAndMinusInf;
  const GlobalMatrix Q = With(g.Q, at.split == 0 ? Reuse::kOnce : Reuse::kAgain);
  const Tile Qi = b.Shared(TensorId::kQ, a.format, t.Br, d);
  const Tile Kj = b.Shared(TensorId::kK, a.format, t.Bc, d);
  const Tile Vj = a.v_is_in_k ? Kj : b.Shared(TensorId::kV, a.format, t.Bc, dv);
  const Tile S = b.Registers(TensorId::kS, t.Br, t.Bc);
  const Tile P = b.Alias(S, TensorId::kP, a.format, t.Br, t.Bc);
  const Tile O = b.Registers(TensorId::kO, t.Br, dv);
  OnlineSoftmax softmax(b, t.Br);
  b.Fill(O, 0);
  b.Copy(Qi, Rows(Q, queries.rows));
  b.For(keys, [&](const KeyTile& j) {
    b.Copy(Kj, Rows(g.K, j.rows));
    b.MmaTransposed(S, Qi, Kj);
    softmax.Apply(b, a, part, S, O, queries, j);
    b.Convert(P, S);
    if (!a.v_is_in_k) b.Copy(Vj, Rows(g.V, j.rows));
    b.Mma(O, P, Vj);
  });
  softmax.Finish(b, a, part, O);
  b.Copy(Part(g.OPartial, queries.rows, {at.split * a.head_dim_v, a.head_dim_v}), O);
  b.Copy(Part(g.m, queries.rows, {at.split, 1}), softmax.r);
}

// One row: O = sum of O_c exp(LSE_c - LSE), parts in ascending order.
void CombineBlock(Block& b, const Attention& a, const Operands& g, Range row, int64_t threads) {
  const int64_t parts = g.m.cols;
  const Tile w = b.Shared(TensorId::kM, Format::kFp32, 1, parts);
  const Tile Oc = b.Registers(TensorId::kO, 1, a.head_dim_v), O = b.Registers(TensorId::kO, 1, a.head_dim_v);
  const Tile lse = b.RowVector(1, 1);
  b.Fill(O, 0);
  // A part's log-sum-exps of eight rows share a sector; a block with four rows fetches it for them alone.
  GlobalMatrix lse_parts = g.m;
  lse_parts.readers = KernelDim(a) % 128 == 0 ? 2 : 1;
  b.Copy(w, Rows(lse_parts, row));
  b.CombineLogSumExp(lse, w, threads);
  b.For(Slices({0, parts}, 1), [&](const Range& part) {
    b.Copy(Oc, Part(g.OPartial, row, {part.begin * a.head_dim_v, a.head_dim_v}));
    b.FmaColumn(O, Oc, w, part.begin);
  });
  b.CopyConvert(Rows(g.O, row), O);
  b.Copy(Rows(g.LSE, row), lse);
}

void Run(Stream& stream, const Attention& a, const Tiling& t, const Recipe& recipe) {
  if (t.splits == 1) {
    Fa2Forward().Run(stream, a, t, recipe);
    return;
  }
  const int64_t parts = SplitParts(a, t), rows = QueryRows(a, t);
  const int64_t per_sequence = t.pack_gqa ? a.heads_kv : a.heads_q;
  const Operands g = SplitOperands(a, t);

  stream.Launch({.name = "fa2_splitkv",
                 .grid = {QueryTileCount(a, t), parts, per_sequence * a.batch},
                 .block = {.mma = MmaInstruction::kMmaSync, .warps = t.warps},
                 .heads = Heads(a, t),
                 .blocks = SplitBlocks(a, t, recipe.key_order),
                 .keys = [&](const BlockIndex& at) { return PartKeys(a, t, at, recipe.key_order); }},
                [&](Block& b, const BlockIndex& at, const KeyRuns& keys) { SplitBlock(b, a, t, recipe, g, at, keys); });

  // 128 threads take 4, 8 or 16 rows; the threads of a row share its parts.
  const int64_t d = KernelDim(a);
  const int64_t rows_per_block = d % 128 == 0 ? 4 : d % 64 == 0 ? 8 : 16;
  int64_t most_parts = 2;
  while (most_parts < t.splits) most_parts *= 2;
  const int64_t threads = std::min(128 / rows_per_block, most_parts);
  stream.Launch({.name = "fa2_splitkv_combine",
                 .grid = {CeilDiv(rows * Heads(a, t), rows_per_block), 1, 1},
                 .block = {.warps = 4},
                 .heads = Heads(a, t),
                 .blocks = {{{}, {.i = 1}, rows, {}}}},
                [&](Block& b, const BlockIndex& at, const KeyRuns&) {
                  CombineBlock(b, a, g, {at.i, 1}, threads);
                });
}

// FlashAttention's num_splits_heuristic as PyTorch calls it: with twice the number of SMs.
int64_t Splits(int64_t blocks, int64_t slots, int64_t key_tiles) {
  if (static_cast<float>(blocks) >= 0.8f * static_cast<float>(slots)) return 1;
  const int64_t most = std::min({int64_t{128}, slots, key_tiles});
  // A number of splits counts only if its parts differ in length from those of one split fewer.
  const auto eligible = [&](int64_t n) { return n == 1 || CeilDiv(key_tiles, n) != CeilDiv(key_tiles, n - 1); };
  const auto efficiency = [&](int64_t n) {
    const float waves = static_cast<float>(blocks * n) / static_cast<float>(slots);
    return waves / std::ceil(waves);
  };
  float best = 0;
  for (int64_t n = 1; n <= most; ++n) {
    if (eligible(n)) best = std::max(best, efficiency(n));
  }
  for (int64_t n = 1; n <= most; ++n) {
    if (eligible(n) && efficiency(n) >= 0.85 * static_cast<double>(best)) return n;
  }
  return 1;
}

Tiling DefaultTiling(const Attention& a, const Gpu& gpu) {
  Tiling t = Fa2Forward().DefaultTiling(a, gpu);
  const int64_t Bc = KernelDim(a) <= 64 ? 256 : KernelDim(a) <= 128 ? 128 : 64;
  const int64_t query_tiles = CeilDiv(QueryRows(a, t), 64);
  const int64_t splits = Splits(Heads(a, t) * query_tiles, 2 * gpu.sms, CeilDiv(a.seqlen_k, Bc));
  if (splits > 1) t = {.Br = 64, .Bc = Bc, .warps = 4, .splits = splits, .pack_gqa = t.pack_gqa};
  return t;
}

std::vector<GlobalMatrix> Scratch(const Attention& a, const Tiling& t) {
  if (t.splits == 1) return {};
  const Operands g = SplitOperands(a, t);
  return {g.OPartial, g.m};
}

}  // namespace

Kernel PytorchFa2() {
  return {.name = "pytorch-fa2",
          .title = "PyTorch 2.11 SDPA, FLASH_ATTENTION backend",
          .source = "Dao-AILab/flash-attention as PyTorch builds it; recorded on an H200",
          .summary = "FlashAttention-2 with an unfused exponent; few blocks: the keys are split and combined",
          .min_arch = 80,
          .formats = {Format::kFp16, Format::kBf16},
          .DefaultTiling = DefaultTiling,
          .Run = Run,
          .recipe = {.name = "pytorch-fa2",
                     .scale_log2 = Recipe::ScaleLog2::kFromDouble,
                     .key_order = Order::kDescending,
                     .exponent = Recipe::Exponent::kUnfused,
                     .rescale = Recipe::Rescale::kDifference,
                     .exponential = Recipe::Exponential::kExp2f,
                     .row_sum = Recipe::RowSum::kFirstFused,
                     .quad_sum = Recipe::QuadSum::kAcross,
                     .reciprocal = Recipe::Reciprocal::kIeee,
                     .empty_row = Recipe::EmptyRow::kOneAndPlusInf,
                     .log_sum_exp = Recipe::LogSumExp::kFastLog},
          .max_head_dim = 256,
          .splits_keys = true,
          .Scratch = Scratch};
}

}  // namespace bitflash::sim
