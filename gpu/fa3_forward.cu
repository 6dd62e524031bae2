// The host side of FlashAttention-3: tensor maps, the order of tiles, and the launch.
#include <algorithm>

#include "data/error.h"
#include "gpu/check.h"
#include "gpu/entries.h"
#include "gpu/fa3_forward.cuh"
#include "gpu/launch.h"
#include "gpu/tensor_map.h"

namespace bitflash::gpu {
namespace {

// One query a head, and several heads that read the same K and V: these heads become the rows of a tile. Packed
// sequences stay as they are.
bool PacksHeads(const data::Attention& a, const Tensors& t) {
  return a.seqlen_q == 1 && a.group() > 1 && t.cu_seqlens_q == nullptr;
}

// The problem as the kernel sees it.
struct Rows {
  int64_t heads, per_head;
  int64_t group;  // heads that share a KV head
  Strides q, o;
};
Rows RowsOf(const data::Attention& a, const Tensors& t) {
  if (!PacksHeads(a, t)) return {a.heads_q, a.seqlen_q, a.group(), t.q_strides, t.o_strides};
  const auto packed = [&](const Strides& s) { return Strides{s.batch, s.head * a.group(), s.head}; };
  return {a.heads_kv, a.group(), 1, packed(t.q_strides), packed(t.o_strides)};
}

Tile TileOf(const data::Attention& a) {
  const fa3::TileShape shape = fa3::ShapeOf(static_cast<int>(a.head_dim));
  return {shape.Br, shape.Bc, 4 * shape.consumers(), shape.stages};
}

// Of a head with so many rows.
int64_t QueryTiles(const data::Attention& a, int64_t rows) { return (rows + TileOf(a).Br - 1) / TileOf(a).Br; }

std::string Refusal(const data::Attention& a, const Options&) {
  if (std::string why = CommonRefusal(a); !why.empty()) return why;
  if (std::string why = LengthRefusal(a); !why.empty()) return why;
  constexpr int64_t kMost = 1 << 30;
  // Two steps, because the product of all three may not fit 64 bits.
  if (a.batch * a.heads_q > kMost || a.batch * a.heads_q * QueryTiles(a, a.seqlen_q) > kMost) {
    return "batch " + std::to_string(a.batch) + ", heads_q " + std::to_string(a.heads_q) + ", seqlen_q " +
           std::to_string(a.seqlen_q) + ": at most 2^30 query tiles of " + std::to_string(TileOf(a).Br) + " rows";
  }
  return "";
}

// Where blocks do not take tiles in turns, the counter that hands them out.
bool CountsTiles(const data::Attention& a) { return a.mask.kind != data::Mask::Kind::kFull; }
int64_t WorkspaceBytes(const data::Attention&, const Options&) { return 16; }

// Heads whose K and V shall stay in L2 together, a multiple of the group that shares a KV head.
//
// Full: all tiles are equally long, and blocks that run together need few heads: two of 2 or 8 MB each were the
// fastest, and four or eight of 1 MB. The L2 is two halves, and what both read it holds twice.
// Masked: the longest tiles of a section go first, so a section should have many tiles for the short ones to fill the
// gaps. Against 32 MB, on an H100: 16 MB +2.3 % at (8, 16, 1024) and -0.5 % at (4, 32, 2048); 8 MB -1 and -4 %; 64 MB
// -25 and -9 %. At (2, 16, 16384) two heads lose 1 % to four.
int64_t SectionHeads(const data::Attention& a, const Rows& rows) {
  const bool full = a.mask.kind == data::Mask::Kind::kFull;
  const int64_t bytes = (a.k_bytes() + a.v_bytes()) / (a.batch * a.heads_kv);  // of a KV head
  const int64_t limit = (full ? 4 : 16) * 1024 * 1024 / std::max<int64_t>(bytes, 1);
  const int64_t least_heads = full ? 2 : 4;
  const int64_t least = (least_heads + rows.group - 1) / rows.group, kv_heads = a.batch * rows.heads / rows.group;
  const int64_t most = std::clamp(limit, std::min(least, kv_heads), kv_heads);
  // Sections of one size, if that costs at most half of it.
  for (int64_t n = most; n >= (most + 1) / 2; --n) {
    if (kv_heads % n == 0) return n * rows.group;
  }
  return most * rows.group;
}

fa3::Divisor DivisorOf(int64_t n) { return fa3::Divisor(static_cast<uint32_t>(n)); }

fa3::TileOrder OrderOf(const data::Attention& a, const Rows& rows) {
  const int64_t query_tiles = QueryTiles(a, rows.per_head);
  const int64_t heads = a.batch * rows.heads, section = SectionHeads(a, rows);
  const int64_t last = (heads - 1) / section;
  return {.tiles = static_cast<int>(heads * query_tiles),
          .query_tiles = static_cast<int>(query_tiles),
          .section_heads = static_cast<int>(section),
          .last_section = static_cast<int>(last),
          .section_tiles = DivisorOf(section * query_tiles),
          .heads_in_section = DivisorOf(section),
          .heads_in_last = DivisorOf(heads - last * section),
          .longest_first = a.mask.kind != data::Mask::Kind::kFull};
}

CUtensorMap MapOf(const MappedTensor& t, int box_rows, bool packed) {
  return packed ? MakePackedMap(t, box_rows) : MakeUnpackedMap(t, box_rows);
}

// Of packed sequences: relative to where VisibleInSequence moves it.
Visible VisibleOf(const data::Attention& a, bool packed) {
  Visible visible = packed ? VisibleKeys(a.mask, 0, 0) : VisibleKeys(a.mask, a.seqlen_q, static_cast<int>(a.seqlen_k));
  visible.low = fa3::Limited(visible.low);
  visible.high = fa3::Limited(visible.high);
  return visible;
}

fa3::Parameters ParametersOf(const data::Attention& a, const Tensors& t, void* workspace) {
  const fa3::TileShape shape = fa3::ShapeOf(static_cast<int>(a.head_dim));
  const bool packed = t.cu_seqlens_q != nullptr;
  const Rows rows = RowsOf(a, t);
  const auto of_rows = [&](const char* name, const void* address, const Strides& strides) {
    return MappedTensor{name, address, 2, a.batch, rows.heads, rows.per_head, a.head_dim, strides};
  };
  // Without keys the kernel still reads a tile that nobody sees. It may be anything finite: Q.
  const auto of_keys = [&](const char* name, const void* address, const Strides& strides) {
    if (a.seqlen_k == 0) return MappedTensor{name, t.q, 2, a.batch, a.heads_kv, 1, a.head_dim, t.q_strides};
    return MappedTensor{name, address, 2, a.batch, a.heads_kv, a.seqlen_k, a.head_dim, strides};
  };
  return {.q_map = MapOf(of_rows("Q", t.q, rows.q), 64, packed),
          .k_map = MapOf(of_keys("K", t.k, t.k_strides), shape.Bc, packed),
          .v_map = MapOf(of_keys("V", t.v, t.v_strides), shape.Bc, packed),
          .o_map = MapOf(of_rows("O", t.o, rows.o), 16, packed),
          .lse = t.lse,
          .seqlen_q = static_cast<int>(rows.per_head),
          .heads_q = DivisorOf(rows.heads),
          .group = DivisorOf(rows.group),
          .heads = static_cast<int>(rows.heads),
          .query_step = PacksHeads(a, t) ? 0 : 1,
          .visible = VisibleOf(a, packed),
          .scale = ScaleOf(a),
          .order = OrderOf(a, rows),
          .next_tile = CountsTiles(a) || packed ? static_cast<int*>(workspace) : nullptr,
          .cu_seqlens_q = t.cu_seqlens_q,
          .cu_seqlens_k = t.cu_seqlens_k,
          .turns = packed ? kPackedTurns : 0,
          .bottom_right = a.mask.kind == data::Mask::Kind::kCausal || a.mask.kind == data::Mask::Kind::kWindow};
}

void Launch(const data::Attention& a, const Options& options, const Tensors& tensors, void* workspace, Stream& stream) {
  Validate(Fa3Forward(), a, options, tensors);
  if (!IsHopper()) throw data::UsageError(DeviceRefusal(Fa3Forward(), CurrentDevice()));
  const fa3::Parameters parameters = ParametersOf(a, tensors, workspace);
  const int sms = DeviceAttribute(cudaDevAttrMultiProcessorCount);
  if (parameters.next_tile != nullptr) {
    LaunchKernel(fa3::fa3_reset, "fa3_reset", {.grid = 1, .block = 1, .overlap = true}, stream, parameters.next_tile);
  }
  ForTypeAndHeadDim(a, [&](auto type, auto head_dim) {
    using C = fa3::Config<decltype(type), head_dim>;
    LaunchKernel(fa3::fa3_forward<C>, "fa3_forward",
                 {.grid = static_cast<unsigned>(std::min(sms, parameters.order.tiles)),
                  .block = C::kThreads,
                  .shared_bytes = fa3::Shared<C>::kBytes,
                  .overlap = true},
                 stream, parameters);
  });
}

}  // namespace

const Kernel& Fa3Forward() {
  static const Kernel kernel = {.name = "fa3",
                                .title = "FlashAttention-3 forward, wgmma and TMA (compute capability 9.0)",
                                .launches = {"fa3_reset", "fa3_forward"},
                                .hopper_only = true,
                                .packs_sequences = true,
                                .TileOf = TileOf,
                                .Refusal = Refusal,
                                .WorkspaceBytes = WorkspaceBytes,
                                .Launch = Launch};
  return kernel;
}

}  // namespace bitflash::gpu
