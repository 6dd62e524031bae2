// FlashAttention-3 style forward for Hopper: wgmma, TMA, one producer warpgroup and Br / 64 consumer warpgroups.
// Shah et al. 2024 (arXiv 2407.08608). What a counter can see of it: larger tiles, `stages` K and V tiles in flight, B
// operands read by wgmma straight from shared memory, one persistent block per SM.
//
// Where it is gpu/fa3_forward.cu's twin (Tiling::tma), tiles are charged in the boxes that TMA loads, with the zeros
// for the rows and columns that a ragged tile does not have. Elsewhere they are charged without: that kernel takes five
// head_dims where this text takes any. cuDNN's kernel, which shares the text, has boxes (cudnn_forward.cc).
#include <algorithm>
#include <array>

#include "sim/kernels/entries.h"
#include "sim/kernels/online_softmax.h"

namespace bitflash::sim {
namespace {

constexpr int64_t kSharedLimit = 232448;  // bytes a block may have on sm90: cudaDevAttrMaxSharedMemoryPerBlockOptin

// More consumer warpgroups than 64-row slices: they share the rows and divide the columns, for an O that one
// warpgroup's registers cannot hold. P then travels through shared memory, because each of them multiplies all of it.
bool SharedRows(const Tiling& t) { return 16 * t.warps > t.Br; }

// Q moves from shared memory to registers once when the consumers' registers have room for it beside S, P and O; then
// wgmma takes A from registers and the next tile's Q may already be loaded.
bool QueriesInRegisters(const Tiling& t, int64_t d, int64_t dv, int64_t bytes) {
  const int64_t words = t.Bc / 2 + t.Bc * bytes / 8 + dv / 2 + d * bytes / 8;
  return words + kRegisterOverhead <= ConsumerRegisters(t.Br / 64) && !SharedRows(t);
}

// Shared memory for Q, K, V and P, without an O of its own.
int64_t SharedBytes(const Attention& a, const Tiling& t) {
  const int64_t d = PaddedDim(a.head_dim, a.format), dv = a.v_is_in_k ? 0 : PaddedDim(a.head_dim_v, a.format);
  const int64_t elements = t.Br * d + t.stages * t.Bc * (d + dv) + (SharedRows(t) ? t.Br * t.Bc : 0);
  return elements * data::StorageBytes(a.format);
}

// All rows of a tile, inside the tensor or not, in boxes of 128 bytes of columns.
GlobalMatrix Loaded(const Tiling& t, const GlobalMatrix& m, int64_t rows) {
  return t.tma ? InBoxes(m, {rows, 128 / data::StorageBytes(m.format), m.cols}) : m;
}

// The problems that gpu/fa3_forward.cu takes.
bool LoadsBoxes(const Attention& a) {
  constexpr std::array<int64_t, 5> kHeadDims = {64, 96, 128, 192, 256};
  return data::StorageBytes(a.format) == 2 && a.head_dim == a.head_dim_v && !a.v_is_in_k && a.softcap == 0 &&
         std::ranges::find(kHeadDims, a.head_dim) != kHeadDims.end();
}

void Fa3Block(Block& b, const Attention& a, const Tiling& t, const Recipe& recipe, const Operands& g, bool p_replaces_s,
              int64_t i, const KeyRuns& keys) {
  const QueryTile queries = QueryTileAt(a, t, i);
  const int64_t d = PaddedDim(a.head_dim, a.format), dv = PaddedDim(a.head_dim_v, a.format);
  const int64_t bytes = data::StorageBytes(a.format);
  // The heads of one query are rows that no box joins with those of the next query: these come with cp.async.
  const bool apart = t.pack_gqa && a.group() > 1 && a.seqlen_q > 1;
  const GlobalMatrix Q = apart ? g.Q : Loaded(t, g.Q, t.Br), K = Loaded(t, g.K, t.Bc), V = Loaded(t, g.V, t.Bc);
  const Tile Qi = b.Shared(TensorId::kQ, a.format, t.Br, d);
  const Tile Kj = b.Shared(TensorId::kK, a.format, t.Bc, d, t.stages);
  const Tile Vj = a.v_is_in_k ? Kj : b.Shared(TensorId::kV, a.format, t.Bc, dv, t.stages);
  const bool in_registers = QueriesInRegisters(t, d, dv, bytes);
  const Tile Qr = in_registers ? b.Registers(TensorId::kQ, t.Br, d, a.format) : Qi;
  const Tile S = b.Registers(TensorId::kS, t.Br, t.Bc);
  // P is alive together with the next tile's S, unless a kernel gives that up.
  const Tile P =
      p_replaces_s ? b.Alias(S, TensorId::kP, a.format, t.Br, t.Bc) : b.Registers(TensorId::kP, t.Br, t.Bc, a.format);
  const Tile Pa = SharedRows(t) ? b.Shared(TensorId::kP, a.format, t.Br, t.Bc) : P;
  const Tile O = b.Registers(TensorId::kO, t.Br, dv);
  OnlineSoftmax softmax(b, t.Br);
  b.Fill(O, 0);

  b.Copy(Qi, Rows(Q, queries.rows));
  if (in_registers) b.Copy(Qr, Qi);
  b.For(keys, [&](const KeyTile& j) {
    b.Copy(Kj, Rows(K, j.rows));
    b.MmaTransposed(S, Qr, Kj);  // S = Qi Kj^T
    softmax.Apply(b, a, recipe, S, O, queries, j);
    b.Convert(P, S);
    if (SharedRows(t)) b.Copy(Pa, P);
    if (!a.v_is_in_k) b.Copy(Vj, Rows(V, j.rows));
    b.Mma(O, Pa, Vj);  // into the live O, A from registers as a rule
  });

  softmax.Finish(b, a, recipe, O);
  // O has its own staging buffer, so that the next Q can be loaded meanwhile; where that does not fit it takes Q's.
  const bool fits = SharedBytes(a, t) + t.Br * dv * bytes <= kSharedLimit;
  const Tile Os =
      fits || dv > d ? b.Shared(TensorId::kO, a.format, t.Br, dv) : b.Alias(Qi, TensorId::kO, a.format, t.Br, dv);
  const Tile Oe = b.Alias(O, TensorId::kO, a.format, t.Br, dv);
  b.Convert(Oe, O);
  b.Copy(Os, Oe);
  b.Copy(Rows(g.O, queries.rows), Os);
  b.Copy(Rows(g.LSE, queries.rows), softmax.r);
}

void Run(Stream& stream, const Attention& a, const Tiling& t, const Recipe& recipe) {
  RunFa3(stream, a, t, recipe, false);
}

// Tiles that were built without spills and ran fastest on an H200 for head_dim 64 and 128; for the others the largest
// that the register and shared-memory limits allow.
Tiling DefaultTiling(const Attention& a, const Gpu&) {
  const int64_t d = std::max(a.head_dim, a.head_dim_v);
  const bool pack = a.seqlen_q == 1 && a.group() > 1;
  const auto tile = [&](int64_t Br, int64_t Bc, int64_t warps, int64_t stages) {
    return Tiling{.Br = Br, .Bc = Bc, .warps = warps, .stages = stages, .pack_gqa = pack, .tma = LoadsBoxes(a)};
  };
  Tiling t = d <= 64    ? tile(192, 128, 12, 4)
             : d <= 128 ? tile(128, 128, 8, 2)
             : d <= 192 ? tile(128, 96, 8, 2)
             : d <= 256 ? tile(128, 64, 8, 2)
                        : tile(64, 64, 8, 1);  // two warpgroups divide the columns of O
  // An O with more columns than Q cannot take Q's place on its way out.
  const int64_t dv = PaddedDim(a.head_dim_v, a.format);
  const int64_t staging = dv > PaddedDim(a.head_dim, a.format) ? t.Br * dv * data::StorageBytes(a.format) : 0;
  while (SharedBytes(a, t) + staging > kSharedLimit && t.stages > 1) --t.stages;
  while (SharedBytes(a, t) + staging > kSharedLimit && t.Bc > 32) t.Bc -= 32;
  return t;
}

// FlashAttention-3's choice for contiguous keys. Where its table keeps P out of the registers, ours cannot follow.
PublishedTile Published(const Attention& a, const Gpu&) {
  const bool causal = a.mask.kind == data::Mask::Kind::kCausal;
  const bool local = a.mask.kind == data::Mask::Kind::kWindow;
  const int64_t d = a.head_dim, dv = a.head_dim_v;
  constexpr std::string_view kPInShared =
      "theirs passes P through shared memory with this tile, ours keeps it in registers";
  const auto tile = [](int64_t Br, int64_t Bc, std::string_view differs = "") {
    return PublishedTile{"FlashAttention-3", "hopper/tile_size.h", Br, Bc, Br / 16, 2, differs};
  };
  if (data::StorageBytes(a.format) == 1) {
    if (d <= 64) return tile(192, 160);
    if (d <= 96) return tile(192, 128);
    if (d <= 128) return tile(128, 224);
    if (d <= 192) return tile(128, 160);
    return tile(128, local ? 64 : 128);
  }
  if (d <= 64 && dv <= 64) return tile(192, causal ? 128 : local ? 160 : 192, causal || local ? "" : kPInShared);
  if (d <= 64) return dv > 256 ? tile(64, 64, kPInShared) : tile(128, 112);
  if (d <= 96) return tile(192, local ? 128 : 144, kPInShared);
  if (d <= 128) return tile(128, causal || local ? 128 : 176);
  if (d <= 192) return tile(128, local ? 96 : dv <= 128 ? 128 : 112);
  return tile(128, local ? 64 : 80);
}

}  // namespace

void RunFa3(Stream& stream, const Attention& a, const Tiling& t, const Recipe& recipe, bool p_replaces_s) {
  const Operands g = MakeOperands(a, t);
  LaunchSpec launch{
      .name = "fa3_forward",
      .grid = {QueryTileCount(a, t) * Heads(a, t), 1, 1},
      .persistent = true,
      .block = {.mma = MmaInstruction::kWgmma, .warps = t.warps, .threads = 32 * t.warps + 128},
      .heads = Heads(a, t),
      .blocks = QueryBlocks(a, t, recipe.key_order),
      .keys = [&](const BlockIndex& at) { return KeyTiles(a, t, QueryTileAt(a, t, at.i), recipe.key_order); }};
  stream.Launch(launch, [&](Block& b, const BlockIndex& at, const KeyRuns& keys) {
    Fa3Block(b, a, t, recipe, g, p_replaces_s, at.i, keys);
  });
}

Kernel Fa3Forward() {
  return {
      .name = "fa3",
      .title = "FlashAttention-3 forward (Hopper)",
      .source = "Shah et al. 2024, arXiv 2407.08608",
      .summary = "warp-specialised: TMA loads K and V in stages while wgmma multiplies; S, P and O stay in registers",
      .min_arch = 90,
      .formats = {Format::kFp16, Format::kBf16, Format::kE4m3, Format::kE5m2},
      .DefaultTiling = DefaultTiling,
      .Run = Run,
      .own_tile = "among builds without spills: on an H100 it was the fastest for head_dim 64 and 128",
      .Published = Published,
      .mma = MmaInstruction::kWgmma};
}

}  // namespace bitflash::sim
