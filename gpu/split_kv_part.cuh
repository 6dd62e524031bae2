// What a warp does with one part of a sequence, in registers; where K and V come from is its caller's choice
// (split_kv_decode.cuh: cp.async; split_kv_hopper.cuh: TMA). One text, so that the choice cannot change a bit. Twin:
// sim/kernels/split_kv_decode.cc.
#ifndef BITFLASH_GPU_SPLIT_KV_PART_CUH_
#define BITFLASH_GPU_SPLIT_KV_PART_CUH_

#include "gpu/kernels.h"
#include "gpu/row_math.cuh"
#include "gpu/tile_image.cuh"
#include "gpu/visible.cuh"

namespace bitflash::gpu::split_kv {

struct Parameters {
  Tensors t;
  float *o_part, *m_part, *l_part;  // [batch, heads_kv, rows][parts][head_dim], and without head_dim
  data::Mask mask;
  int seqlen_q, seqlen_k, heads_kv, group, rows;  // rows: seqlen_q * group
  int chunk, parts, log2_page;
  int log2_box = 0;  // TMA only, of the keys of a box: those of a slice, or of a page if it has fewer
  Scale scale;

  // Every sequence is one part, which writes O and LSE itself: there is no second launch.
  __host__ __device__ bool IsWhole() const { return parts == 1; }
  __device__ __forceinline__ int Keys(int64_t batch) const { return t.seqlens_k ? t.seqlens_k[batch] : seqlen_k; }
};

// Br: packed query rows that the warp multiplies each key with, 8, 16 or 32.
// K and V of a block of Bc keys are cut into slices of kSliceKeys keys. They lie in a ring of kStages slices, in the
// order in which they are needed: the slices of K, those of V, then the next block's. A slice is an image of chunks of
// 64 columns, or of whole rows (gpu/tile_image.cuh).
template <class T_, int D_, int Br_, bool kPaged_, int kSliceKeys_, int kStages_, bool kWholeRows>
struct Config {
  using T = T_;
  static constexpr int D = D_, Br = Br_, Bc = 64;
  static constexpr bool kPaged = kPaged_;
  static constexpr int kSliceKeys = kSliceKeys_, kSlices = Bc / kSliceKeys, kStages = kStages_;
  static constexpr int kSliceBytes = kTileBytes<kSliceKeys, D>;
  static constexpr int kRingBytes = kStages * kSliceBytes;
  static constexpr int kQBytes = kTileBytes<Br, D>;
  using SliceLanes = std::conditional_t<kWholeRows, RowLaneAddresses<D>, LaneAddresses<kSliceKeys, D>>;
};

// The part that the calling block takes, and the blocks of 64 keys that its rows see there.
template <class C>
struct Part {
  int row0, part, kv_head, keys;
  int64_t batch;
  Visible visible;
  TileRange tiles;

  __device__ __forceinline__ explicit Part(const Parameters& p)
      : row0(blockIdx.z * C::Br), part(blockIdx.x), kv_head(blockIdx.y % p.heads_kv), batch(blockIdx.y / p.heads_kv) {
    keys = p.Keys(batch);
    // Packed query rows: row r is token r / group of head r % group.
    visible = VisibleKeys(p.mask, p.seqlen_q, keys);
    const int last_row = min(row0 + C::Br, p.rows) - 1;
    tiles = VisibleTiles<C::Bc>(visible, row0 / p.group, last_row / p.group + 1);
    tiles.begin = max(tiles.begin, part * (p.chunk / C::Bc));
    tiles.end = min(tiles.end, (part + 1) * (p.chunk / C::Bc));
  }
  // Of row `row` of the KV head in o_part, m_part and l_part.
  __device__ __forceinline__ int64_t Index(const Parameters& p, int row) const {
    return ((batch * p.heads_kv + kv_head) * p.rows + row) * p.parts + part;
  }
  // The row's query.
  __device__ __forceinline__ const typename C::T* Query(const Parameters& p, int row) const {
    return HeadOf<const typename C::T>(p.t.q, p.t.q_strides, batch, kv_head * p.group + row % p.group) +
           row / p.group * p.t.q_strides.row;
  }
  // A shorter sequence has fewer parts. Not where nobody else would write O.
  __device__ __forceinline__ bool IsSkipped(const Parameters& p) const {
    return part * static_cast<int64_t>(p.chunk) >= keys && !p.IsWhole();
  }
};

// Starts the copies of the part's query rows, by kThreads threads, not yet a group of cp.async; zeros beyond the last.
// A part of which the rows see nothing needs none.
template <class C, int kThreads = 32>
__device__ __forceinline__ void LoadQ(const Parameters& p, const Part<C>& part, uint32_t to, int thread) {
  constexpr int kUnits = C::D / 8;
  if (part.tiles.begin >= part.tiles.end) return;
#pragma unroll
  for (int unit = thread; unit < C::Br * kUnits; unit += kThreads) {
    const int r = unit / kUnits, u = unit % kUnits, row = part.row0 + r;
    CpAsync16(to + UnitOffset<C::Br, C::D>(r, u), part.Query(p, row) + u * 8, row < p.rows);
  }
}

// Takes the unnormalised O, m and l of a row: to the partial results, or to O and LSE where the part is the whole
// sequence. What the combine kernel makes of a single part: its weight is 1 (0 for a row that sees no key, whose O and
// l are 0), so that adding zeros only makes +0 of -0.
template <class C>
class RowResult {
  using T = typename C::T;

 public:
  // m and l by one lane, or by several that agree.
  __device__ __forceinline__ RowResult(const Parameters& p, const Part<C>& part, int row, float m, float l, bool writes)
      : whole_(p.IsWhole()) {
    if (whole_) {
      const int head = part.kv_head * p.group + row % p.group, token = row / p.group;
      inverse_ = InverseSum(l);
      to_ = HeadOf<T>(p.t.o, p.t.o_strides, part.batch, head) + token * p.t.o_strides.row;
      if (writes && p.t.lse != nullptr) {
        p.t.lse[(part.batch * p.heads_kv * p.group + head) * p.seqlen_q + token] = LogSumExp(m, l, p.scale.natural);
      }
    } else {
      const int64_t at = part.Index(p, row);
      to_ = p.o_part + at * C::D;
      if (writes) p.m_part[at] = m, p.l_part[at] = l;
    }
  }
  // Columns `column`, which is even, and the next.
  __device__ __forceinline__ void Put(int column, float x, float y) const {
    if (whole_) {
      *reinterpret_cast<uint32_t*>(static_cast<T*>(to_) + column) = Pack<T>(Normalized(x), Normalized(y));
    } else {
      *reinterpret_cast<float2*>(static_cast<float*>(to_) + column) = make_float2(x, y);
    }
  }
  __device__ __forceinline__ void Put(int column, float x) const {
    if (whole_) {
      static_cast<T*>(to_)[column] = Round<T>(Normalized(x));
    } else {
      static_cast<float*>(to_)[column] = x;
    }
  }

 private:
  __device__ __forceinline__ float Normalized(float x) const { return __fmul_rn(__fadd_rn(x, 0.0f), inverse_); }

  bool whole_;
  void* to_;
  float inverse_ = 0;
};

// The part's partial results, from slices that `feed` delivers in order, by `rows` (Rows8, Rows16). Position n of block
// j is K slice n for n < kSlices, else V slice n - kSlices.
//   feed.Start()            starts the first kStages slices
//   feed.Wait(n, j)         the slice has arrived; its address
//   feed.Refill(n, j)       no lane needs it any more: starts the slice kStages further on, in its place
template <class C, class Rows, class Feed>
__device__ __forceinline__ void DecodePart(const Parameters& p, const Part<C>& part, Rows& rows, Feed& feed) {
#pragma unroll 1
  for (int j = part.tiles.begin; j < part.tiles.end; ++j) {
    rows.Clear();
#pragma unroll
    for (int t = 0; t < C::kSlices; ++t) {
      rows.Scores(feed.Wait(t, j), t);
      feed.Refill(t, j);
    }
    rows.Softmax(p, part, j);
#pragma unroll
    for (int t = 0; t < C::kSlices; ++t) {
      rows.Values(feed.Wait(C::kSlices + t, j), t);
      feed.Refill(C::kSlices + t, j);
    }
  }
  rows.Store(p, part);
}

}  // namespace bitflash::gpu::split_kv

#endif  // BITFLASH_GPU_SPLIT_KV_PART_CUH_
