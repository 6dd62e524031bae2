// Tiles of 16 packed query rows in a warp's registers: S = Q K^T and O += P V with the queries as rows (operand A of
// mma.sync).
#ifndef BITFLASH_GPU_SPLIT_KV_ROWS16_CUH_
#define BITFLASH_GPU_SPLIT_KV_ROWS16_CUH_

#include "gpu/online_softmax.cuh"
#include "gpu/split_kv_part.cuh"

namespace bitflash::gpu::split_kv {

// C::Br is 16 or 32. Two tiles read each key half as often as two warps.
template <class C>
class Rows16 {
  using T = typename C::T;
  static constexpr int D = C::D, Bc = C::Bc, kTiles = C::Br / 16, kSteps = D / 16;
  static constexpr int kGroups = C::kSliceKeys / 16;  // of 16 keys a slice
  // Fragments of Q stay in registers beside O and S where they fit 255 with the rest.
  static constexpr bool kQInRegisters = kTiles * (D / 2 + Bc / 2 + D / 4) <= 160;

 public:
  // `Qi` is where LoadQ put Q.
  __device__ __forceinline__ Rows16(uint32_t Qi, int lane)
      : q_lane_(Qi, LaneRowA(lane), LaneHalfA(lane)), lane_(lane) {}

  // Waits until at most `groups` groups are in flight, then takes the query rows.
  template <int groups>
  __device__ __forceinline__ void TakeQ() {
    CpAsyncWait<groups>();
    __syncwarp();
    if constexpr (kQInRegisters) {
#pragma unroll
      for (int i = 0; i < kTiles; ++i) {
#pragma unroll
        for (int step = 0; step < kSteps; ++step) LdMatrix(q_[i][step], q_lane_.At(step, 16 * i));
      }
    }
  }

  __device__ __forceinline__ void Clear() {
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
#pragma unroll
      for (int n = 0; n < Bc / 8; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) S_[i][n][e] = 0;
      }
    }
  }

  // The scores of slice t of the block's keys.
  __device__ __forceinline__ void Scores(uint32_t slice, int t) {
    const typename C::SliceLanes k_lane(slice, LaneRowB(lane_), LaneHalfB(lane_));
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
#pragma unroll
      for (int g = 0; g < kGroups; ++g) {
        uint32_t k[4];
        LdMatrix(k, k_lane.At(step, 16 * g));
#pragma unroll
        for (int i = 0; i < kTiles; ++i) {
          uint32_t q[4];
          if constexpr (kQInRegisters) {
#pragma unroll
            for (int e = 0; e < 4; ++e) q[e] = q_[i][step][e];
          } else {
            LdMatrix(q, q_lane_.At(step, 16 * i));
          }
          Mma<T>(S_[i][2 * (t * kGroups + g)], q, k[0], k[1]);
          Mma<T>(S_[i][2 * (t * kGroups + g) + 1], q, k[2], k[3]);
        }
      }
    }
  }

  // Turns the scores of block j into probabilities.
  __device__ __forceinline__ void Softmax(const Parameters& p, const Part<C>& part, int j) {
    const bool masked = j < part.tiles.plain_begin || j >= part.tiles.plain_end;
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      if (masked) {
        const int row = part.row0 + 16 * i + lane_ / 4;
        const int token = row / p.group, below = (row + 8) / p.group;
        const int begin[2] = {part.visible.Begin(token), part.visible.Begin(below)};
        const int end[2] = {part.visible.End(token), part.visible.End(below)};
        MaskScores(S_[i], j * Bc + lane_ % 4 * 2, begin, end);
      }
      if (!rows_[i].NewMaximum(S_[i], p.scale.log2)) rows_[i].Rescale(O_[i]);
#pragma unroll
      for (int n = 0; n < Bc / 8; ++n) rows_[i].Exponentiate(S_[i][n], p.scale.log2);
    }
  }

  // Adds the products with slice t of the block's values.
  __device__ __forceinline__ void Values(uint32_t slice, int t) {
    const typename C::SliceLanes v_lane(slice, LaneRowA(lane_), LaneHalfA(lane_));
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      uint32_t P[kTiles][4];
#pragma unroll
      for (int i = 0; i < kTiles; ++i) {
        PackP<T>(P[i], S_[i][2 * (t * kGroups + g)], S_[i][2 * (t * kGroups + g) + 1]);
      }
#pragma unroll
      for (int d = 0; d < kSteps; ++d) {
        uint32_t v[4];
        LdMatrixTransposed(v, v_lane.At(d, 16 * g));
#pragma unroll
        for (int i = 0; i < kTiles; ++i) {
          Mma<T>(O_[i][2 * d], P[i], v[0], v[1]);
          Mma<T>(O_[i][2 * d + 1], P[i], v[2], v[3]);
        }
      }
    }
  }

  // Writes the partial O, m and l.
  __device__ __forceinline__ void Store(const Parameters& p, const Part<C>& part) {
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      rows_[i].SumQuad();
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int row = part.row0 + 16 * i + 8 * r + lane_ / 4;
        if (row >= p.rows) continue;
        const RowResult<C> result(p, part, row, rows_[i].m[r], rows_[i].l[r], lane_ % 4 == 0);
#pragma unroll
        for (int d = 0; d < D / 8; ++d) result.Put(8 * d + lane_ % 4 * 2, O_[i][d][2 * r], O_[i][d][2 * r + 1]);
      }
    }
  }

 private:
  LaneAddresses<C::Br, D> q_lane_;
  int lane_;
  uint32_t q_[kQInRegisters ? kTiles : 1][kQInRegisters ? kSteps : 1][4];
  float S_[kTiles][Bc / 8][4], O_[kTiles][D / 8][4] = {};
  SoftmaxRows rows_[kTiles];
};

}  // namespace bitflash::gpu::split_kv

#endif  // BITFLASH_GPU_SPLIT_KV_ROWS16_CUH_
