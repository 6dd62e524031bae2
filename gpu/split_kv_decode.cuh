// Flash-decoding for sm_80 and newer: the keys of a sequence are cut into parts of a fixed number of keys; one warp
// takes one part of one KV head, and a second kernel combines the parts in order. Dao, Haziza, Massa, Sizov 2023. Twin:
// sim/kernels/split_kv_decode.cc.
//
// Decoding reads each key once and computes little, so the warp's work is to keep bytes in flight: K and V arrive in
// slices of 16 keys, and a slice's place is refilled with the next block's as soon as it was multiplied. No two warps
// wait for one another.
#ifndef BITFLASH_GPU_SPLIT_KV_DECODE_CUH_
#define BITFLASH_GPU_SPLIT_KV_DECODE_CUH_

#include "gpu/kernels.h"
#include "gpu/online_softmax.cuh"
#include "gpu/tile_image.cuh"
#include "gpu/visible.cuh"

namespace bitflash::gpu::split_kv {

struct Parameters {
  Tensors t;
  float *o_part, *m_part, *l_part;  // [batch, heads_kv, rows][parts][head_dim], and without head_dim
  data::Mask mask;
  int seqlen_q, seqlen_k, heads_kv, group, rows;  // rows: seqlen_q * group
  int chunk, parts, log2_page;
  Scale scale;

  __device__ __forceinline__ int Keys(int64_t batch) const { return t.seqlens_k ? t.seqlens_k[batch] : seqlen_k; }
};

// kRowTiles: tiles of 16 packed query rows that the warp multiplies each key with.
template <class T_, int D_, int kRowTiles_, bool kPaged_>
struct Config {
  using T = T_;
  static constexpr int D = D_, kRowTiles = kRowTiles_;
  static constexpr bool kPaged = kPaged_;
  static constexpr int Br = 16 * kRowTiles, Bc = 64;
  static constexpr int kSliceKeys = 16, kSlices = Bc / kSliceKeys;
  static constexpr int kSliceBytes = kTileBytes<kSliceKeys, D>;
  static constexpr int kRingBytes = 2 * kSlices * kSliceBytes;
  static constexpr int kSharedBytes = kRingBytes + kTileBytes<Br, D>;
  // Fragments of Q stay in registers beside O and S where they fit 255 with the rest.
  static constexpr bool kQInRegisters = kRowTiles * (D / 2 + Bc / 2 + D / 4) <= 160;
};

// The pages of a sequence, 32 entries of the block table at a time, one in each lane.
class Pages {
 public:
  __device__ __forceinline__ Pages(const Parameters& p, int64_t batch, int keys)
      : table_(p.t.block_table + batch * p.t.pages_per_sequence),
        count_((keys + (1 << p.log2_page) - 1) >> p.log2_page) {}

  // All lanes ask, each for a page of its own: the first lane's or the next, which is then in the same 32.
  __device__ __forceinline__ int At(int page, int lane) {
    const int base = __shfl_sync(~0u, page, 0) & ~31;
    if (base != base_) {
      base_ = base;
      entry_ = base_ + lane < count_ ? __ldg(table_ + base_ + lane) : 0;
    }
    return __shfl_sync(~0u, entry_, page - base_);
  }

 private:
  const int32_t* table_;
  int count_, base_ = -1, entry_ = 0;
};

// K or V of one sequence and head as a stream of slices of 16 keys.
template <class C>
class Slices {
  using T = typename C::T;

 public:
  // `matrix` is the head's first row (of the first page), `key` the first key to load, `keys` the sequence's length.
  __device__ __forceinline__ Slices(const Parameters& p, const T* matrix, const Strides& strides, int64_t batch,
                                    int key, int keys, int lane)
      : pages_(p, batch, keys),
        page_stride_(strides.batch),
        stride_(strides.row),
        key_(key),
        keys_(keys),
        log2_page_(p.log2_page),
        lane_(lane) {
    from_ = matrix + (kFixedColumn ? lane % kUnits * 8 : 0);
    if (!C::kPaged) from_ += (key + (kFixedColumn ? lane / kUnits : 0)) * stride_;
  }

  // Starts the copy of the next slice; zeros beyond the last key.
  __device__ __forceinline__ void Load(uint32_t to) {
    int page = 0;
    if constexpr (C::kPaged) page = pages_.At(min(key_ + lane_ % 16, keys_ - 1) >> log2_page_, lane_);
    const T* from = from_;
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      // In a fixed column only the row changes, by a constant, and with it the exchange of units.
      const int unit = lane_ + pass * 32;
      const int r = kFixedColumn ? lane_ / kUnits + pass * kStep : unit / kUnits, u = unit % kUnits;
      const uint32_t at =
          kFixedColumn
              ? to + ((UnitOffset<C::kSliceKeys, C::D>(lane_ / kUnits, lane_ % kUnits) ^ (pass * kStep % 8 << 4)) +
                      pass * kStep * 128)
              : to + UnitOffset<C::kSliceKeys, C::D>(r, u);
      if constexpr (C::kPaged) {
        // The page of key i was looked up by lane i.
        const int64_t of_row = __shfl_sync(~0u, page, r);
        from = from_ + of_row * page_stride_ + ((key_ + r) & ((1 << log2_page_) - 1)) * stride_ +
               (kFixedColumn ? 0 : u * 8);
      } else if (!kFixedColumn) {
        from = from_ + r * stride_ + u * 8;
      }
      CpAsync16(at, from, key_ + r < keys_);
      if (kFixedColumn && !C::kPaged) from += kStep * stride_;
    }
    key_ += C::kSliceKeys;
    if (!C::kPaged) from_ += C::kSliceKeys * stride_;
  }

 private:
  static constexpr int kUnits = C::D / 8, kPasses = C::kSliceKeys * kUnits / 32;  // of 16 bytes a row; of a warp
  // A lane stays in its column when the warp copies whole rows.
  static constexpr bool kFixedColumn = 32 % kUnits == 0;
  static constexpr int kStep = kFixedColumn ? 32 / kUnits : 0;  // rows a pass

  Pages pages_;
  const T* from_;
  int64_t page_stride_, stride_;
  int key_, keys_, log2_page_, lane_;
};

template <class C>
__global__ void __launch_bounds__(32) split_kv_decode(const __grid_constant__ Parameters p) {
  using T = typename C::T;
  constexpr int D = C::D, Bc = C::Bc, kRowTiles = C::kRowTiles, kSlices = C::kSlices, kSteps = D / 16;
  extern __shared__ __align__(1024) uint8_t shared[];
  LaunchDependents();
  const int lane = threadIdx.x;
  const int row0 = blockIdx.z * C::Br, part = blockIdx.x;
  const int kv_head = blockIdx.y % p.heads_kv;
  const int64_t batch = blockIdx.y / p.heads_kv;
  const int keys = p.Keys(batch);
  if (part * static_cast<int64_t>(p.chunk) >= keys) return;  // a shorter sequence has fewer parts

  // Packed query rows: row r is token r / group of head r % group.
  const Visible visible = VisibleKeys(p.mask, p.seqlen_q, keys);
  const int last_row = min(row0 + C::Br, p.rows) - 1;
  TileRange tiles = VisibleTiles<Bc>(visible, row0 / p.group, last_row / p.group + 1);
  tiles.begin = max(tiles.begin, part * (p.chunk / Bc));
  tiles.end = min(tiles.end, (part + 1) * (p.chunk / Bc));

  const T* Q = HeadOf<const T>(p.t.q, p.t.q_strides, batch, kv_head * p.group);
  const T* K = HeadOf<const T>(p.t.k, p.t.k_strides, C::kPaged ? 0 : batch, kv_head);
  const T* V = HeadOf<const T>(p.t.v, p.t.v_strides, C::kPaged ? 0 : batch, kv_head);
  const uint32_t ring = SharedAddress(shared), Qi = ring + C::kRingBytes;
  Slices<C> k_slices(p, K, p.t.k_strides, batch, tiles.begin * Bc, keys, lane);
  Slices<C> v_slices(p, V, p.t.v_strides, batch, tiles.begin * Bc, keys, lane);
  const auto load_k = [&](int j, int t) {
    if (j < tiles.end) k_slices.Load(ring + t * C::kSliceBytes);
    CpAsyncCommit();  // also of nothing: waiting counts groups
  };
  const auto load_v = [&](int j, int t) {
    if (j < tiles.end) v_slices.Load(ring + (kSlices + t) * C::kSliceBytes);
    CpAsyncCommit();
  };

  if (tiles.begin < tiles.end) {
    constexpr int kUnits = D / 8;
#pragma unroll
    for (int unit = lane; unit < C::Br * kUnits; unit += 32) {
      const int r = unit / kUnits, u = unit % kUnits, row = row0 + r;
      CpAsync16(Qi + UnitOffset<C::Br, D>(r, u),
                Q + row % p.group * p.t.q_strides.head + row / p.group * p.t.q_strides.row + u * 8, row < p.rows);
    }
  }
#pragma unroll
  for (int t = 0; t < kSlices; ++t) load_k(tiles.begin, t);  // Q belongs to the first group
#pragma unroll
  for (int t = 0; t < kSlices; ++t) load_v(tiles.begin, t);

  const LaneAddresses<C::Br, D> q_lane(Qi, LaneRowA(lane), LaneHalfA(lane));
  uint32_t Qr[C::kQInRegisters ? kRowTiles : 1][C::kQInRegisters ? kSteps : 1][4];
  if constexpr (C::kQInRegisters) {
    CpAsyncWait<2 * kSlices - 1>();
    __syncwarp();
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
      for (int step = 0; step < kSteps; ++step) LdMatrix(Qr[i][step], q_lane.At(step, 16 * i));
    }
  }

  float O[kRowTiles][D / 8][4] = {};
  SoftmaxRows rows[kRowTiles];
#pragma unroll 1
  for (int j = tiles.begin; j < tiles.end; ++j) {
    float S[kRowTiles][Bc / 8][4] = {};
#pragma unroll
    for (int t = 0; t < kSlices; ++t) {
      CpAsyncWait<2 * kSlices - 1>();
      __syncwarp();
      const LaneAddresses<C::kSliceKeys, D> k_lane(ring + t * C::kSliceBytes, LaneRowB(lane), LaneHalfB(lane));
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        uint32_t k[4];
        LdMatrix(k, k_lane.At(step, 0));
#pragma unroll
        for (int i = 0; i < kRowTiles; ++i) {
          uint32_t q[4];
          if constexpr (C::kQInRegisters) {
#pragma unroll
            for (int e = 0; e < 4; ++e) q[e] = Qr[i][step][e];
          } else {
            LdMatrix(q, q_lane.At(step, 16 * i));
          }
          Mma<T>(S[i][2 * t], q, k[0], k[1]);
          Mma<T>(S[i][2 * t + 1], q, k[2], k[3]);
        }
      }
      __syncwarp();
      load_k(j + 1, t);
    }
    const bool masked = j < tiles.plain_begin || j >= tiles.plain_end;
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
      if (masked) {
        const int row = row0 + 16 * i + lane / 4;
        const int token = row / p.group, below = (row + 8) / p.group;
        const int begin[2] = {visible.Begin(token), visible.Begin(below)};
        const int end[2] = {visible.End(token), visible.End(below)};
        MaskScores(S[i], j * Bc + lane % 4 * 2, begin, end);
      }
      if (!rows[i].NewMaximum(S[i], p.scale.log2)) rows[i].Rescale(O[i]);
#pragma unroll
      for (int n = 0; n < Bc / 8; ++n) rows[i].Exponentiate(S[i][n], p.scale.log2);
    }
#pragma unroll
    for (int t = 0; t < kSlices; ++t) {
      uint32_t P[kRowTiles][4];
#pragma unroll
      for (int i = 0; i < kRowTiles; ++i) PackP<T>(P[i], S[i][2 * t], S[i][2 * t + 1]);
      CpAsyncWait<2 * kSlices - 1>();
      __syncwarp();
      const LaneAddresses<C::kSliceKeys, D> v_lane(ring + (kSlices + t) * C::kSliceBytes, LaneRowA(lane),
                                                   LaneHalfA(lane));
#pragma unroll
      for (int d = 0; d < kSteps; ++d) {
        uint32_t v[4];
        LdMatrixTransposed(v, v_lane.At(d, 0));
#pragma unroll
        for (int i = 0; i < kRowTiles; ++i) {
          Mma<T>(O[i][2 * d], P[i], v[0], v[1]);
          Mma<T>(O[i][2 * d + 1], P[i], v[2], v[3]);
        }
      }
      __syncwarp();
      load_v(j + 1, t);
    }
  }

#pragma unroll
  for (int i = 0; i < kRowTiles; ++i) {
    rows[i].SumQuad();
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = row0 + 16 * i + 8 * r + lane / 4;
      if (row >= p.rows) continue;
      const int64_t at = ((batch * p.heads_kv + kv_head) * p.rows + row) * p.parts + part;
#pragma unroll
      for (int d = 0; d < D / 8; ++d) {
        *reinterpret_cast<float2*>(p.o_part + at * D + 8 * d + lane % 4 * 2) =
            make_float2(O[i][d][2 * r], O[i][d][2 * r + 1]);
      }
      if (lane % 4 == 0) {
        p.m_part[at] = rows[i].m[r];
        p.l_part[at] = rows[i].l[r];
      }
    }
  }
}

// One row: O = sum of w_c O_c / sum of w_c l_c with w_c = 2^((m_c - max m) scale log2 e). Four warps take a contiguous
// quarter of the parts each, in ascending order; then the four sums are added in order.
// kBlocksPerRow blocks share the columns of a row, so that few rows with many parts find enough warps.
inline constexpr int kCombineWarps = 4, kCombineThreads = 32 * kCombineWarps;

template <class T, int D, int kBlocksPerRow>
__global__ void __launch_bounds__(kCombineThreads) split_kv_combine(const __grid_constant__ Parameters p) {
  constexpr int kBlockColumns = D / kBlocksPerRow;
  constexpr int kColumns = kBlockColumns / 32;              // of a lane, 32 apart
  constexpr int kBatch = kColumns < 4 ? 16 / kColumns : 4;  // parts whose loads are in flight together
  extern __shared__ float weights[];                        // w_c, then l_c w_c
  __shared__ float O_g[kCombineWarps][kBlockColumns], L_g[kCombineWarps], warp_max[kCombineWarps];
  const int thread = threadIdx.x, lane = thread % 32, g = thread / 32;
  const int row = blockIdx.x % p.rows;
  const int64_t kv = blockIdx.x / p.rows;  // batch * heads_kv + head
  const int64_t batch = kv / p.heads_kv;
  const int keys = p.Keys(batch);
  const int parts = static_cast<int>((static_cast<int64_t>(keys) + p.chunk - 1) / p.chunk);
  const int64_t at = static_cast<int64_t>(blockIdx.x) * p.parts;
  WaitForPrimary();

  float M = -INFINITY;
  for (int c = thread; c < parts; c += kCombineThreads) M = fmaxf(M, weights[c] = p.m_part[at + c]);
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) M = fmaxf(M, __shfl_xor_sync(~0u, M, lanes));
  if (lane == 0) warp_max[g] = M;
  __syncthreads();
#pragma unroll
  for (int warp = 0; warp < kCombineWarps; ++warp) M = fmaxf(M, warp_max[warp]);
  const float Mc = FiniteOrZero(M);
  for (int c = thread; c < parts; c += kCombineThreads) {
    const float w = Ex2(__fmul_rn(__fsub_rn(weights[c], Mc), p.scale.log2));
    weights[c] = w;
    weights[p.parts + c] = __fmul_rn(p.l_part[at + c], w);
  }
  __syncthreads();

  const int quarter = (parts + kCombineWarps - 1) / kCombineWarps;
  const int begin = min(parts, g * quarter), end = min(parts, begin + quarter);
  const int first_column = blockIdx.y * kBlockColumns;
  const float* O_c = p.o_part + at * D + first_column + lane;
  float O[kColumns] = {}, L = 0;
  for (int c = begin; c < end; c += kBatch) {
    float x[kBatch][kColumns];
#pragma unroll
    for (int n = 0; n < kBatch; ++n) {
#pragma unroll
      for (int i = 0; i < kColumns; ++i) x[n][i] = c + n < end ? __ldcs(O_c + int64_t{c + n} * D + 32 * i) : 0;
    }
#pragma unroll
    for (int n = 0; n < kBatch; ++n) {
      if (c + n >= end) break;
      L = __fadd_rn(L, weights[p.parts + c + n]);
#pragma unroll
      for (int i = 0; i < kColumns; ++i) O[i] = __fmaf_rn(x[n][i], weights[c + n], O[i]);
    }
  }
#pragma unroll
  for (int i = 0; i < kColumns; ++i) O_g[g][lane + 32 * i] = O[i];
  if (lane == 0) L_g[g] = L;
  __syncthreads();

  L = L_g[0];
#pragma unroll
  for (int other = 1; other < kCombineWarps; ++other) L = __fadd_rn(L, L_g[other]);
  const float inverse = InverseSum(L);
  const int64_t head = kv % p.heads_kv * p.group + row % p.group;
  const int token = row / p.group;
  T* out = HeadOf<T>(p.t.o, p.t.o_strides, batch, head) + token * p.t.o_strides.row;
  for (int d = thread; d < kBlockColumns; d += kCombineThreads) {
    float sum = O_g[0][d];
#pragma unroll
    for (int other = 1; other < kCombineWarps; ++other) sum = __fadd_rn(sum, O_g[other][d]);
    out[first_column + d] = Round<T>(__fmul_rn(sum, inverse));
  }
  if (p.t.lse && thread == 0 && blockIdx.y == 0) {
    p.t.lse[(batch * p.heads_kv * p.group + head) * p.seqlen_q + token] = LogSumExp(M, L, p.scale.natural);
  }
}

}  // namespace bitflash::gpu::split_kv

#endif  // BITFLASH_GPU_SPLIT_KV_DECODE_CUH_
