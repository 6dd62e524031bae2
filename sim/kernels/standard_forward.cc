// Standard attention: three launches with S and P in HBM between them. The baseline that savings are measured against.
// The eight transfers of Dao et al. 2022 (arXiv 2205.14135), Algorithm 0: read Q, read K, write S | read S, write P |
// read P, read V, write O. Key tiles that the mask hides from a whole query tile are skipped in all three.
#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

#include "sim/ceil_div.h"
#include "sim/kernels/entries.h"
#include "sim/operands.h"
#include "sim/runs.h"

namespace bitflash::sim {
namespace {

constexpr int64_t kSlice = 64;           // columns of Q and K in shared memory at a time: 128 bytes of a 16-bit format
constexpr int64_t kOutputColumns = 128;  // columns of O that one block computes
constexpr int64_t kSoftmaxThreads = 128;
constexpr int64_t kRegisterRow = 8192;  // longest row that a softmax block holds in registers: 64 words a thread

// --- Loads by TMA, as gpu/standard_*_hopper.cuh ask for them --------------------------------------------------------
// Q and K: the rows of the tile and kSlice columns, a box each (standard_scores_hopper.cuh). P and V: kStepKeys keys at
// a time as far as there are any, P with the rows of the query tile; V with all columns that a block may compute, 64 or
// kOutputColumns, in boxes of 64, whether V has them or not (OutputShared and its loop in standard_output_hopper.cuh,
// LaunchOutput in standard_hopper.cu).
constexpr int64_t kStepKeys = 64;
// The rows of S and P that the tensor map knows are whole vectors of 8 (padded_keys in gpu/standard.cuh).
constexpr int64_t kVector = 8;

// The keys of a step, for tiles that are not of whole steps too.
int64_t StepKeys(const Tiling& t) { return t.Bc <= kStepKeys ? t.Bc : std::gcd(t.Bc, kStepKeys); }

// A matrix as the launch loads it: `rows` x `cols` elements at a time where TMA does.
GlobalMatrix Loaded(const Tiling& t, const GlobalMatrix& m, int64_t rows, int64_t cols) {
  return t.tma ? InBoxes(m, {rows, cols, m.cols}) : m;
}
// V that is part of K is its first columns, in rows of K's.
GlobalMatrix LoadedV(const Attention& a, const Tiling& t, const Operands& g) {
  return Loaded(t, a.v_is_in_k ? g.K : g.V, StepKeys(t),
                a.head_dim_v <= kOutputColumns / 2 ? kOutputColumns / 2 : kOutputColumns);
}
GlobalMatrix LoadedP(const Tiling& t, const GlobalMatrix& P) {
  return t.tma ? InBoxes(P, {t.Br, StepKeys(t), CeilDiv(P.cols, kVector) * kVector}) : P;
}

// --- The three launches ---------------------------------------------------------------------------------------------
// Rows of S and P begin on lines of 128 bytes (StandardProblem::pitch in gpu/standard.cuh) and tiles of keys on
// sectors, so the softmax moves the sectors of a row, and TMA those of a tile's rows of S. A row's LSE is a sector of
// its own, because every row is another block's.

// S = Q K^T of one query tile. The grid has one block for each of its key tiles: the body of the loop is a block.
void ScoresBlocks(Block& b, const Attention& a, const Tiling& t, const Operands& g, int64_t tile, const KeyRuns& keys) {
  const QueryTile i = QueryTileAt(a, t, tile);
  // Every key tile's block reads Q again.
  const GlobalMatrix Q = Loaded(t, With(g.Q, Reuse::kShared), t.Br, kSlice), K = Loaded(t, g.K, t.Bc, kSlice);
  const GlobalMatrix S_out = t.tma ? InSectors(g.S) : g.S;
  const Tile Qs = b.Shared(TensorId::kQ, a.format, t.Br, kSlice, t.stages);
  const Tile Ks = b.Shared(TensorId::kK, a.format, t.Bc, kSlice, t.stages);
  const Tile S = b.Registers(TensorId::kS, t.Br, t.Bc);
  b.For(keys, [&](const KeyTile& j) {
    b.Fill(S, 0);
    b.For(Slices({0, a.head_dim}, kSlice), [&](const Range& columns) {
      b.Copy(Qs, Part(Q, i.rows, columns));
      b.Copy(Ks, Part(K, j.rows, columns));
      b.MmaTransposedAdd(S, Qs, Ks);
    });
    if (a.softcap > 0) b.Softcap(S, static_cast<float>(a.scale()), static_cast<float>(a.softcap));
    if (j.masked) b.Mask(S, i, j);
    b.CopyConvert(Part(S_out, i.rows, j.rows), S);
  });
}

// P = softmax(scale S) of one row that fits on chip: S is read once.
void SoftmaxOnChip(Block& b, const Attention& a, const Recipe& recipe, const Operands& g, Range row, Range keys) {
  const float scale_log2 = ScaleLog2(a, recipe);
  const Tile x = keys.count <= kRegisterRow ? b.Registers(TensorId::kS, 1, keys.count)
                                            : b.Shared(TensorId::kS, Format::kFp32, 1, keys.count);
  const Tile m = b.RowVector(1, kSoftmaxThreads), l = b.RowVector(1, kSoftmaxThreads),
             c = b.RowVector(1, kSoftmaxThreads);
  b.Fill(m, -std::numeric_limits<float>::infinity());
  b.Fill(l, 0);
  b.CopyConvert(x, Part(InSectors(g.S), row, keys));
  b.RowMax(m, x, m);
  b.FiniteOrZero(c, m);
  b.Mul(c, c, -scale_log2);
  b.FmaRows(x, scale_log2, c);
  b.Exp2(x, x, recipe);
  b.AddToLanes(l, x);
  b.SumLanes(l);
  b.Invert(c, l, recipe);
  b.MulRows(x, c);
  b.CopyConvert(Part(InSectors(g.P), row, keys), x);
  b.LogSumExp(c, m, l, static_cast<float>(a.scale()), recipe);
  b.Copy(Rows(InSectors(g.LSE), row), c);
}

// The same for a row that does not fit: S is read twice, first for its maximum and sum, then for its probabilities.
void SoftmaxTwoPasses(Block& b, const Attention& a, const Recipe& recipe, const Operands& g, Range row, Range keys) {
  const float scale_log2 = ScaleLog2(a, recipe);
  const Tile x = b.Registers(TensorId::kS, 1, kRegisterRow);
  const Tile m = b.RowVector(1, kSoftmaxThreads), l = b.RowVector(1, kSoftmaxThreads),
             c = b.RowVector(1, kSoftmaxThreads);
  const Tile r = b.RowVector(1, kSoftmaxThreads), m_new = b.RowVector(1, kSoftmaxThreads);
  b.Fill(m, -std::numeric_limits<float>::infinity());
  b.Fill(l, 0);
  b.For(Slices(keys, kRegisterRow), [&](const Range& slice) {
    b.CopyConvert(x, Part(InSectors(g.S), row, slice));
    b.RowMax(m_new, x, m);
    b.FiniteOrZero(c, m_new);
    b.Sub(r, m, c);
    b.Mul(r, r, scale_log2);
    b.Exp2(r, r, recipe);
    b.Mul(c, c, -scale_log2);
    b.FmaRows(x, scale_log2, c);
    b.Exp2(x, x, recipe);
    b.MulRows(l, r);
    b.AddToLanes(l, x);
    b.Move(m, m_new);
  });
  b.SumLanes(l);
  b.FiniteOrZero(c, m);
  b.Mul(c, c, -scale_log2);
  b.Invert(r, l, recipe);
  b.For(Slices(keys, kRegisterRow), [&](const Range& slice) {
    b.CopyConvert(x, Part(InSectors(With(g.S, Reuse::kAgain)), row, slice));
    b.FmaRows(x, scale_log2, c);
    b.Exp2(x, x, recipe);
    b.MulRows(x, r);
    b.CopyConvert(Part(InSectors(g.P), row, slice), x);
  });
  b.LogSumExp(c, m, l, static_cast<float>(a.scale()), recipe);
  b.Copy(Rows(InSectors(g.LSE), row), c);
}

// O = P V of one query tile and kOutputColumns columns of V.
void OutputBlock(Block& b, const Attention& a, const Tiling& t, const Operands& g, const BlockIndex& at,
                 const KeyRuns& keys) {
  const QueryTile i = QueryTileAt(a, t, at.i);
  const Range columns{at.j * kOutputColumns, std::min(kOutputColumns, a.head_dim_v - at.j * kOutputColumns)};
  const GlobalMatrix P = LoadedP(t, With(g.P, at.j == 0 ? Reuse::kOnce : Reuse::kAgain));
  const GlobalMatrix V = LoadedV(a, t, g);
  const int64_t dv = PaddedDim(columns.count, a.format);
  const Tile Ps = b.Shared(TensorId::kP, a.format, t.Br, t.Bc, t.stages);
  const Tile Vs = b.Shared(V.tensor, a.format, t.Bc, dv, t.stages);
  const Tile O = b.Registers(TensorId::kO, t.Br, dv);
  b.Fill(O, 0);
  b.For(keys, [&](const KeyTile& j) {
    b.Copy(Ps, Part(P, i.rows, j.rows));
    b.Copy(Vs, Part(V, j.rows, columns));
    b.Mma(O, Ps, Vs);
  });
  b.CopyConvert(Part(g.O, i.rows, columns), O);
}

void Run(Stream& stream, const Attention& a, const Tiling& t, const Recipe& recipe) {
  const Operands g = MakeOperands(a, t);
  const int64_t query_tiles = QueryTileCount(a, t);
  const int64_t output_tiles = (a.head_dim_v + kOutputColumns - 1) / kOutputColumns;
  const int64_t heads = Heads(a, t);
  const auto keys_of = [&](const BlockIndex& at) { return KeyTiles(a, t, QueryTileAt(a, t, at.i), Order::kAscending); };
  const std::vector<BlockRun> tiles = QueryBlocks(a, t, Order::kAscending);
  int64_t score_blocks = 0;
  for (const BlockRun& run : tiles) {
    for (const KeyRun& keys : run.keys) score_blocks += keys.total;
  }
  std::vector<BlockRun> rows, outputs;
  for (int64_t i = 0; i < query_tiles; ++i) rows.push_back({{.i = i}, {.j = 1}, QueryTileAt(a, t, i).rows.count, {}});
  for (int64_t n = 0; n < output_tiles; ++n) {
    for (BlockRun run : tiles) {
      run.first.j = n;
      outputs.push_back(run);
    }
  }
  const BlockSpec gemm{.mma = MmaInstruction::kMmaSync, .warps = t.warps};

  stream.Launch({.name = "standard_scores",
                 .grid = {score_blocks, a.heads_q, a.batch},
                 .block = gemm,
                 .heads = heads,
                 .blocks = tiles,
                 .keys = keys_of},
                [&](Block& b, const BlockIndex& at, const KeyRuns& keys) { ScoresBlocks(b, a, t, g, at.i, keys); });
  stream.Launch({.name = "standard_softmax",
                 .grid = {a.seqlen_q, a.heads_q, a.batch},
                 .block = {.warps = kSoftmaxThreads / 32},
                 .heads = heads,
                 .blocks = std::move(rows)},
                [&](Block& b, const BlockIndex& at, const KeyRuns&) {
                  const Range row{at.i * t.Br + at.j, 1};
                  const Range keys = keys_of(at).keys();
                  t.row_on_chip ? SoftmaxOnChip(b, a, recipe, g, row, keys)
                                : SoftmaxTwoPasses(b, a, recipe, g, row, keys);
                });
  stream.Launch({.name = "standard_output",
                 .grid = {query_tiles * output_tiles, a.heads_q, a.batch},
                 .block = gemm,
                 .heads = heads,
                 .blocks = std::move(outputs),
                 .keys = keys_of},
                [&](Block& b, const BlockIndex& at, const KeyRuns& keys) { OutputBlock(b, a, t, g, at, keys); });
}

// 128 x 128 tiles as a tuned GEMM takes them; two stages where the shared memory holds two pairs of P and V tiles. On
// sm90 the CUDA kernel multiplies 256 rows with wgmma: S leaves at HBM's speed only if fewer bytes of Q and K come.
Tiling DefaultTiling(const Attention& a, const Gpu& gpu) {
  Tiling t{.Br = 128, .Bc = 128, .warps = 4, .stages = 2};
  if (gpu.arch == "sm90" && data::StorageBytes(a.format) == 2)
    t = {.Br = 256, .Bc = 128, .warps = 8, .stages = 2, .tma = true};
  const int64_t bytes = data::StorageBytes(a.format);
  const int64_t columns = std::min(kOutputColumns, PaddedDim(a.head_dim_v, a.format));
  const auto shared = [&] { return t.stages * bytes * std::max(t.Bc * (t.Br + columns), (t.Br + t.Bc) * kSlice); };
  if (shared() > gpu.shared_bytes_per_block) t.stages = 1;
  // 4-byte formats on parts with 64 or 99 KiB; a GPU that has not even room for the smallest is refused with it.
  while (shared() > gpu.shared_bytes_per_block && t.Bc > 16) t.Bc /= 2;
  while (shared() > gpu.shared_bytes_per_block && t.Br > 16) t.Br /= 2;
  t.row_on_chip = a.seqlen_k <= kRegisterRow || a.seqlen_k * 4 <= gpu.shared_bytes_per_block;
  return t;
}

std::vector<GlobalMatrix> Scratch(const Attention& a, const Tiling& t) {
  const Operands g = MakeOperands(a, t);
  return {g.S, g.P};
}

}  // namespace

Kernel StandardForward() {
  return {.name = "standard",
          .title = "Standard attention, three kernels",
          .source = "Dao et al. 2022, arXiv 2205.14135, Algorithm 0",
          .summary = "S = Q K^T, row softmax and O = P V as separate launches; S and P travel through HBM",
          .min_arch = 70,
          .formats = {Format::kFp32, Format::kTf32, Format::kFp16, Format::kBf16, Format::kE4m3, Format::kE5m2},
          .DefaultTiling = DefaultTiling,
          .Run = Run,
          .own_tile = "so that S leaves at the rate of HBM on sm90, and as tuned GEMMs are elsewhere",
          .packs_heads = false,
          .stores_scores = true,
          .Scratch = Scratch};
}

}  // namespace bitflash::sim
