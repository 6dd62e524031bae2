// AmxAttention of few queries: K and V are read where they are.
#include <algorithm>
#include <vector>

#include "reference/aligned_array.h"
#include "reference/amx_rounding.h"
#include "reference/amx_steps.h"
#include "reference/cpu_decode_plan.h"

namespace bitflash::reference {
namespace {

constexpr int64_t kTileKeys = 16;  // of a tile of rows
constexpr int64_t kMostTiles = kDecodePartKeys / kTileKeys + kAmxTilesFar + 1;

// Whether tiles of K or V can be loaded from where they are, but for the last rows of a sequence.
bool IsReadable(const CpuJob& job, const CpuTensor& tensor, int64_t columns) {
  return tensor.format == data::Format::kBf16 && columns % kAmxColumns == 0 && job.paged.page_size % kTileKeys == 0;
}

// What one thread works in.
struct Workspace {
  explicit Workspace(const CpuJob& job)
      : rows(job.a.group() * job.a.seqlen_q),
        scratch(AmxDecodeScratchBytes(rows, job.a.head_dim, job.a.head_dim_v)),
        Q(rows * job.a.head_dim),
        K(CopiedElements(job, job.K, job.a.head_dim)),
        V(CopiedElements(job, job.V, job.a.head_dim_v)),
        wide(std::max(job.a.head_dim, job.a.head_dim_v)),
        q_rows(rows),
        begin(rows),
        end(rows),
        k_tiles(kMostTiles),
        v_tiles(kMostTiles) {}

  static int64_t CopiedElements(const CpuJob& job, const CpuTensor& tensor, int64_t columns) {
    return (IsReadable(job, tensor, columns) ? kTileKeys : kDecodePartKeys) * RoundUp(columns, kAmxColumns);
  }

  int64_t rows;
  AlignedArray<std::byte> scratch;
  AlignedArray<uint16_t> Q, K, V;  // Q rounded; rows that are not read where they are
  AlignedFloats wide;
  std::vector<const uint16_t*> q_rows;
  std::vector<int32_t> begin, end;
  std::vector<AmxRows> k_tiles, v_tiles;
};

// Lists where the span's rows lie, copied where a tile cannot be loaded from there, and the tiles behind.
void ListTiles(const CpuJob& job, const DecodeSpan& span, const CpuTensor& tensor, int64_t columns, uint16_t* copies,
               Workspace& w, std::vector<AmxRows>& tiles) {
  const bool readable = IsReadable(job, tensor, columns);
  const int64_t padded = RoundUp(columns, kAmxColumns), step = tensor.strides.row * tensor.element_bytes;
  const int64_t keys = span.end - span.first_key, seen_tiles = (keys + kTileKeys - 1) / kTileKeys;
  int64_t tile = 0;
  for (; tile < kMostTiles; ++tile) {
    const int64_t first = span.first_key + tile * kTileKeys;
    const bool whole = first + kTileKeys <= job.keys(span.n);
    if (tile >= seen_tiles && !(readable && whole)) break;
    const void* rows[kTileKeys];
    if (readable && whole) {
      job.KeyRows(tensor, span.n, span.h_kv, first, 1, rows);
      tiles[tile] = {static_cast<const uint16_t*>(rows[0]), step};
      continue;
    }
    const int64_t count = std::min(kTileKeys, span.end - first);
    job.KeyRows(tensor, span.n, span.h_kv, first, count, rows);
    tiles[tile] = {copies, padded * 2};
    for (int64_t j = 0; j < kTileKeys; ++j, copies += padded) {
      const uint16_t* row = j < count ? AsBf16(tensor.format, rows[j], columns, w.wide.get(), copies) : nullptr;
      if (row != nullptr && row != copies) std::copy_n(row, columns, copies);
      std::fill(copies + (row == nullptr ? 0 : columns), copies + padded, uint16_t{0});
    }
  }
  for (; tile > 0 && tile < kMostTiles; ++tile) tiles[tile] = tiles[tile - 1];  // hidden, or only asked for
}

void Run(const AmxSteps& steps, const CpuJob& job, const DecodeSpan& span, const RowState& state, Workspace& w) {
  const data::Attention& a = job.a;
  const int64_t queries = job.queries(span.n), group = a.group(), keys = span.end - span.first_key;
  for (int64_t i = 0; i < queries; ++i) {
    const KeyRange seen = job.Visible(span.n, i);
    for (int64_t g = 0; g < group; ++g) {
      const int64_t row = i * group + g;
      w.begin[row] = static_cast<int32_t>(std::clamp<int64_t>(seen.begin - span.first_key, 0, keys));
      w.end[row] = static_cast<int32_t>(std::clamp<int64_t>(seen.end - span.first_key, 0, keys));
      w.q_rows[row] = AsBf16(job.Q.format, job.Q.Row(span.n, span.h_kv * group + g, i), a.head_dim, w.wide.get(),
                             w.Q.get() + row * a.head_dim);
    }
  }
  ListTiles(job, span, job.K, a.head_dim, w.K.get(), w, w.k_tiles);
  ListTiles(job, span, job.V, a.head_dim_v, w.V.get(), w, w.v_tiles);
  steps.decode({.rule = job.rule,
                .head_dim = a.head_dim,
                .head_dim_v = a.head_dim_v,
                .rows = queries * group,
                .Q = w.q_rows.data(),
                .begin = w.begin.data(),
                .end = w.end.data(),
                .K = w.k_tiles.data(),
                .V = w.v_tiles.data(),
                .scratch = w.scratch.get(),
                .state = state});
}

}  // namespace

int64_t AmxDecodeScratchBytes(int64_t rows, int64_t head_dim, int64_t head_dim_v) {
  const int64_t tiles = (rows + 15) / 16, q = RoundUp(head_dim, kAmxColumns), v = RoundUp(head_dim_v, kAmxColumns);
  const int64_t scores = 16 * kAmxDecodeKeys;  // of a tile of rows; as DecodeBlocks of amx_decode-inl.h
  return ((tiles + 1) * scores + tiles * 16 * v) * 4 + (tiles * 4 * scores + tiles * 16 * q + kAmxDecodeKeys * v) * 2;
}

void RunAmxDecode(const AmxSteps& steps, const CpuJob& job) {
  const DecodePlan plan(job);
  std::vector<Workspace> workspaces;  // allocated here: an exception must not leave a parallel region
  workspaces.reserve(plan.threads());
  for (int thread = 0; thread < plan.threads(); ++thread) workspaces.emplace_back(job);
  plan.Run([&](int thread, const DecodeSpan& span, const RowState& state) {
    Run(steps, job, span, state, workspaces[thread]);
  });
}

}  // namespace bitflash::reference
