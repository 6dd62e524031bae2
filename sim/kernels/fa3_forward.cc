// FlashAttention-3 style forward for Hopper: wgmma, TMA, one producer warpgroup and Br / 64 consumer warpgroups.
// Shah et al. 2024 (arXiv 2407.08608). What a counter can see of it: larger tiles, `stages` K and V tiles in flight, B
// operands read by wgmma straight from shared memory, one persistent block per SM.
#include "sim/kernels/entries.h"
#include "sim/kernels/online_softmax.h"

namespace bitflash::sim {
namespace {

constexpr int64_t kSharedLimit = 232448;  // bytes a block may have on sm90: cudaDevAttrMaxSharedMemoryPerBlockOptin

// Q moves from shared memory to registers once when the consumers' registers have room for it beside S, P and O; then
// wgmma takes A from registers and the next tile's Q may already be loaded.
bool QueriesInRegisters(const Tiling& t, int64_t d, int64_t dv, int64_t bytes) {
  const int64_t words = t.Bc / 2 + t.Bc * bytes / 8 + dv / 2 + d * bytes / 8;
  return words + kRegisterOverhead <= ConsumerRegisters(t.Br / 64);
}

void Fa3Block(Block& b, const Attention& a, const Tiling& t, const Operands& g, int64_t i, const KeyRuns& keys) {
  const QueryTile queries = QueryTileAt(a, t, i);
  const int64_t d = PaddedDim(a.head_dim), dv = PaddedDim(a.head_dim_v);
  const int64_t bytes = data::StorageBytes(a.format);
  const Tile Qi = b.Shared(TensorId::kQ, a.format, t.Br, d);
  const Tile Kj = b.Shared(TensorId::kK, a.format, t.Bc, d, t.stages);
  const Tile Vj = a.v_is_in_k ? Kj : b.Shared(TensorId::kV, a.format, t.Bc, dv, t.stages);
  const bool in_registers = QueriesInRegisters(t, d, dv, bytes);
  const Tile Qr = in_registers ? b.Registers(TensorId::kQ, t.Br, d, a.format) : Qi;
  const Tile S = b.Registers(TensorId::kS, t.Br, t.Bc);
  const Tile P = b.Registers(TensorId::kP, t.Br, t.Bc, a.format);  // alive together with the next tile's S
  const Tile O = b.Registers(TensorId::kO, t.Br, dv);
  OnlineSoftmax softmax(b, t.Br);
  b.Fill(O, 0);

  b.Copy(Qi, Rows(g.Q, queries.rows));
  if (in_registers) b.Copy(Qr, Qi);
  b.For(keys, [&](const KeyTile& j) {
    b.Copy(Kj, Rows(g.K, j.rows));
    b.MmaTransposed(S, Qr, Kj);  // S = Qi Kj^T
    softmax.Apply(b, a, S, O, queries, j);
    b.Convert(P, S);
    if (!a.v_is_in_k) b.Copy(Vj, Rows(g.V, j.rows));
    b.Mma(O, P, Vj);  // into the live O, A from registers
  });

  b.SumQuad(softmax.l);
  b.DivideRows(O, softmax.l);
  // O has its own staging buffer, so that the next Q can be loaded meanwhile; where that does not fit it takes Q's.
  const bool fits =
      t.Br * d * bytes + t.stages * t.Bc * (d + (a.v_is_in_k ? 0 : dv)) * bytes + t.Br * dv * bytes <= kSharedLimit;
  const Tile Os =
      fits || dv > d ? b.Shared(TensorId::kO, a.format, t.Br, dv) : b.Alias(Qi, TensorId::kO, a.format, t.Br, dv);
  const Tile Oe = b.Alias(O, TensorId::kO, a.format, t.Br, dv);
  b.Convert(Oe, O);
  b.Copy(Os, Oe);
  b.Copy(Rows(g.O, queries.rows), Os);
  b.LogSumExp(softmax.r, softmax.m, softmax.l, static_cast<float>(a.scale()));
  b.Copy(Rows(g.LSE, queries.rows), softmax.r);
}

void Run(Stream& stream, const Attention& a, const Tiling& t) {
  const Operands g = MakeOperands(a, t);
  LaunchSpec launch{
      .name = "fa3_forward",
      .grid = {QueryTileCount(a, t) * Heads(a, t), 1, 1},
      .persistent = true,
      .block = {.mma = MmaInstruction::kWgmma, .warps = t.warps, .threads = 32 * t.warps + 128},
      .heads = Heads(a, t),
      .blocks = QueryBlocks(a, t, Order::kDescending),
      .keys = [&](const BlockIndex& at) { return KeyTiles(a, t, QueryTileAt(a, t, at.i), Order::kDescending); }};
  stream.Launch(launch, [&](Block& b, const BlockIndex& at, const KeyRuns& keys) { Fa3Block(b, a, t, g, at.i, keys); });
}

// Tiles that were built without spills and ran fastest on an H200 for head_dim 64 and 128; for the others the largest
// that the register and shared-memory limits allow.
Tiling DefaultTiling(const Attention& a, const Gpu&) {
  const int64_t d = std::max(a.head_dim, a.head_dim_v);
  const bool pack = a.seqlen_q == 1 && a.group() > 1;
  const auto tile = [&](int64_t Br, int64_t Bc, int64_t stages) {
    return Tiling{.Br = Br, .Bc = Bc, .warps = Br / 16, .stages = stages, .pack_gqa = pack};
  };
  if (d <= 64) return tile(192, 128, 4);
  if (d <= 128) return tile(128, 128, 2);
  if (d <= 192) return tile(128, 96, 2);
  if (d <= 256) return tile(128, 64, 2);
  return tile(64, 64, 1);
}

}  // namespace

Kernel Fa3Forward() {
  return {
      .name = "fa3",
      .title = "FlashAttention-3 forward (Hopper)",
      .source = "Shah et al. 2024, arXiv 2407.08608",
      .summary = "warp-specialised: TMA loads K and V in stages while wgmma multiplies; S, P and O stay in registers",
      .min_arch = 90,
      .formats = {Format::kFp16, Format::kBf16, Format::kE4m3, Format::kE5m2},
      .DefaultTiling = DefaultTiling,
      .Run = Run};
}

}  // namespace bitflash::sim
