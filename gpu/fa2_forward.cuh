// FlashAttention-2, forward, for sm_80 and newer: one thread block computes Br rows of O of one head and keeps S, P and
// O in registers. Dao 2023 (arXiv 2307.08691), Algorithm 1; key tiles from the last to the first. Twin:
// sim/kernels/fa2_forward.cc; what decides bits is its recipe "bitflash" and Bc.
#ifndef BITFLASH_GPU_FA2_FORWARD_CUH_
#define BITFLASH_GPU_FA2_FORWARD_CUH_

#include <type_traits>

#include "gpu/kernels.h"
#include "gpu/online_softmax.cuh"
#include "gpu/tile_image.cuh"
#include "gpu/visible.cuh"

namespace bitflash::gpu::fa2 {

struct Parameters {
  Tensors t;
  int seqlen_q, group;
  Visible visible;
  Scale scale;
};

// kStages: 1 = K and V share the time, two barriers a tile; 2 = both of the next tile are in flight, one barrier.
template <class T_, int D_, int Br_, int Bc_, int kWarps_, int kStages_>
struct Config {
  using T = T_;
  static constexpr int D = D_, Br = Br_, Bc = Bc_, kWarps = kWarps_, kStages = kStages_;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kRowTiles = Br / 16 / kWarps;  // of 16 rows a warp
  static constexpr int kQBytes = kTileBytes<Br, D>, kKBytes = kTileBytes<Bc, D>;
  static constexpr int kSharedBytes = kQBytes + 2 * kStages * kKBytes;
  // 256 registers a thread fill the register file twice with four warps, once with eight.
  static constexpr int kBlocksPerSm = kWarps == 4 ? 2 : 1;
  static_assert(kRowTiles * 16 * kWarps == Br);
};

// S = Qi Kj^T for this warp's rows.
template <class C>
__device__ __forceinline__ void Scores(float (&S)[C::kRowTiles][C::Bc / 8][4], const LaneAddresses<C::Br, C::D>& Qi,
                                       const LaneAddresses<C::Bc, C::D>& Kj) {
  using T = typename C::T;
#pragma unroll
  for (int i = 0; i < C::kRowTiles; ++i) {
#pragma unroll
    for (int n = 0; n < C::Bc / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) S[i][n][e] = 0;
    }
  }
#pragma unroll
  for (int step = 0; step < C::D / 16; ++step) {
    uint32_t q[C::kRowTiles][4];
#pragma unroll
    for (int i = 0; i < C::kRowTiles; ++i) LdMatrix(q[i], Qi.At(step, 16 * i));
#pragma unroll
    for (int n = 0; n < C::Bc / 16; ++n) {
      uint32_t k[4];
      LdMatrix(k, Kj.At(step, 16 * n));
#pragma unroll
      for (int i = 0; i < C::kRowTiles; ++i) {
        Mma<T>(S[i][2 * n], q[i], k[0], k[1]);
        Mma<T>(S[i][2 * n + 1], q[i], k[2], k[3]);
      }
    }
  }
}

// P = exp2(S), l += its row sums, O += P Vj: 16 keys at a time, so that the exponentials of some overlap the products
// of others. (Placing them between the products by hand gained nothing: the compiler already does.)
template <class C>
__device__ __forceinline__ void Output(float (&O)[C::kRowTiles][C::D / 8][4], float (&S)[C::kRowTiles][C::Bc / 8][4],
                                       SoftmaxRows (&rows)[C::kRowTiles], const LaneAddresses<C::Bc, C::D>& Vj,
                                       float scale_log2) {
  using T = typename C::T;
#pragma unroll
  for (int step = 0; step < C::Bc / 16; ++step) {
    uint32_t P[C::kRowTiles][4];
#pragma unroll
    for (int i = 0; i < C::kRowTiles; ++i) {
      rows[i].Exponentiate(S[i][2 * step], scale_log2);
      rows[i].Exponentiate(S[i][2 * step + 1], scale_log2);
      PackP<T>(P[i], S[i][2 * step], S[i][2 * step + 1]);
    }
#pragma unroll
    for (int d = 0; d < C::D / 16; ++d) {
      uint32_t v[4];
      LdMatrixTransposed(v, Vj.At(d, 16 * step));
#pragma unroll
      for (int i = 0; i < C::kRowTiles; ++i) {
        Mma<T>(O[i][2 * d], P[i], v[0], v[1]);
        Mma<T>(O[i][2 * d + 1], P[i], v[2], v[3]);
      }
    }
  }
}

template <class C>
__global__ void __launch_bounds__(C::kThreads, C::kBlocksPerSm) fa2_forward(const __grid_constant__ Parameters p) {
  using T = typename C::T;
  constexpr int Br = C::Br, Bc = C::Bc, D = C::D, kRowTiles = C::kRowTiles;
  extern __shared__ __align__(1024) uint8_t shared[];
  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  // The last query tiles see most keys under a causal mask: they start first.
  const int row0 = (gridDim.x - 1 - blockIdx.x) * Br;
  const int head = blockIdx.y, kv_head = head / p.group;
  const int64_t batch = blockIdx.z;
  const T* Q = HeadOf<const T>(p.t.q, p.t.q_strides, batch, head);
  const T* K = HeadOf<const T>(p.t.k, p.t.k_strides, batch, kv_head);
  const T* V = HeadOf<const T>(p.t.v, p.t.v_strides, batch, kv_head);
  const TileRange tiles = VisibleTiles<Bc>(p.visible, row0, min(row0 + Br, p.seqlen_q));
  const int keys = p.visible.keys;

  const uint32_t Qi = SharedAddress(shared), Kj = Qi + C::kQBytes, Vj = Kj + C::kStages * C::kKBytes;
  const int warp_row = warp * 16 * kRowTiles;
  const LaneAddresses<Br, D> q_lane(Qi, warp_row + LaneRowA(lane), LaneHalfA(lane));
  // Only the last tile of keys can be ragged, and it is the first to be loaded: the others need no test of each row.
  constexpr std::false_type kRagged;
  constexpr std::true_type kWhole;
  const auto load_k = [&](auto whole, int j, int stage) {
    LoadTile<Bc, D, C::kThreads, whole>(Kj + stage * C::kKBytes, K, p.t.k_strides.row, j * Bc, keys, thread);
  };
  const auto load_v = [&](auto whole, int j, int stage) {
    LoadTile<Bc, D, C::kThreads, whole>(Vj + stage * C::kKBytes, V, p.t.v_strides.row, j * Bc, keys, thread);
  };

  float O[kRowTiles][D / 8][4] = {};
  SoftmaxRows rows[kRowTiles];
  if (tiles.begin < tiles.end) {
    LoadTile<Br, D, C::kThreads>(Qi, Q, p.t.q_strides.row, row0, p.seqlen_q, thread);
    load_k(kRagged, tiles.end - 1, 0);
    if (C::kStages == 2) load_v(kRagged, tiles.end - 1, 0);
    CpAsyncCommit();
  }
  int stage = 0;
#pragma unroll 1
  for (int j = tiles.end - 1; j >= tiles.begin; --j) {
    float S[kRowTiles][Bc / 8][4];
    LaneAddresses<Bc, D> k_lane(Kj + stage * C::kKBytes, LaneRowB(lane), LaneHalfB(lane));
    LaneAddresses<Bc, D> v_lane(Vj + stage * C::kKBytes, LaneRowA(lane), LaneHalfA(lane));
    CpAsyncWait<0>();
    __syncthreads();  // tile j is here (K alone with one stage); every warp is done with the tile before
    if constexpr (C::kStages == 2) {
      if (j > tiles.begin) {
        load_k(kWhole, j - 1, stage ^ 1);
        load_v(kWhole, j - 1, stage ^ 1);
        CpAsyncCommit();
      }
      stage ^= 1;
    } else {
      load_v(kRagged, j, 0);
      CpAsyncCommit();
    }
    Scores<C>(S, q_lane, k_lane);
    if constexpr (C::kStages == 1) {
      CpAsyncWait<0>();
      __syncthreads();  // V(j) is here; every warp is done with K(j)
      if (j > tiles.begin) {
        load_k(kWhole, j - 1, 0);
        CpAsyncCommit();
      }
    }
    const bool masked = j < tiles.plain_begin || j >= tiles.plain_end;
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
      if (masked) {
        const int row = row0 + warp_row + 16 * i + lane / 4;
        const int begin[2] = {p.visible.Begin(row), p.visible.Begin(row + 8)};
        const int end[2] = {p.visible.End(row), p.visible.End(row + 8)};
        MaskScores(S[i], j * Bc + lane % 4 * 2, begin, end);
      }
      if (!rows[i].NewMaximum(S[i], p.scale.log2)) rows[i].Rescale(O[i]);
    }
    Output<C>(O, S, rows, v_lane, p.scale.log2);
  }

  // Out through this warp's own rows of Q, so that the stores fill whole lines.
  T* out = HeadOf<T>(p.t.o, p.t.o_strides, batch, head);
  float* lse = p.t.lse ? p.t.lse + (batch * gridDim.y + head) * p.seqlen_q : nullptr;
#pragma unroll
  for (int i = 0; i < kRowTiles; ++i) {
    rows[i].SumQuad();
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = warp_row + 16 * i + 8 * r + lane / 4;
      const float inverse = InverseSum(rows[i].l[r]);
#pragma unroll
      for (int d = 0; d < D / 8; ++d) {
        const uint32_t pair = Pack<T>(__fmul_rn(O[i][d][2 * r], inverse), __fmul_rn(O[i][d][2 * r + 1], inverse));
        *reinterpret_cast<uint32_t*>(shared + UnitOffset<Br, D>(row, d) + lane % 4 * 4) = pair;
      }
      if (lse && lane % 4 == 0 && row0 + row < p.seqlen_q) {
        lse[row0 + row] = LogSumExp(rows[i].m[r], rows[i].l[r], p.scale.natural);
      }
    }
  }
  __syncwarp();
  constexpr int kUnits = D / 8;
#pragma unroll
  for (int unit = lane; unit < 16 * kRowTiles * kUnits; unit += 32) {
    const int row = warp_row + unit / kUnits, u = unit % kUnits;
    if (row0 + row < p.seqlen_q) {
      *reinterpret_cast<uint4*>(out + (row0 + row) * p.t.o_strides.row + u * 8) =
          *reinterpret_cast<const uint4*>(shared + UnitOffset<Br, D>(row, u));
    }
  }
}

}  // namespace bitflash::gpu::fa2

#endif  // BITFLASH_GPU_FA2_FORWARD_CUH_
