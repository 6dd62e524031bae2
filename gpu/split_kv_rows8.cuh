// Up to 8 packed query rows in a warp's registers, as columns: S^T = K Q^T and O^T += V^T P^T. mma.sync has 16 rows but
// 8 columns, so that no half of it multiplies padding: half the instructions of Rows16, and each product is the same
// sum of 16, in whichever operand its factors stand. The softmax keeps the order of Rows16 too
// (gpu/online_softmax.cuh): four sums a row, each over its own pairs of keys.
#ifndef BITFLASH_GPU_SPLIT_KV_ROWS8_CUH_
#define BITFLASH_GPU_SPLIT_KV_ROWS8_CUH_

#include "gpu/ptx.cuh"
#include "gpu/row_math.cuh"
#include "gpu/split_kv_part.cuh"

namespace bitflash::gpu::split_kv {

// C::Br is 8. Lane = 4 r + quad holds keys r and r + 8 of every 16, and query rows 2 quad and 2 quad + 1.
template <class C>
class Rows8 {
  using T = typename C::T;
  static constexpr int D = C::D, Bc = C::Bc, kSteps = D / 16;
  static constexpr int kGroups = C::kSliceKeys / 16;  // of 16 keys a slice

 public:
  // `Qi` is where LoadQ put Q.
  __device__ __forceinline__ Rows8(uint32_t Qi, int lane) : Qi_(Qi), lane_(lane) {}

  // Waits until at most `groups` groups are in flight, then takes the query rows.
  template <int groups>
  __device__ __forceinline__ void TakeQ() {
    CpAsyncWait<groups>();
    __syncwarp();
#pragma unroll
    for (int step = 0; step < kSteps; step += 2) {
      uint32_t q[4];  // two steps
      LdMatrix(q, Qi_ + UnitOffset<C::Br, D>(lane_ % 8, step * 2 + lane_ / 8));
#pragma unroll
      for (int e = 0; e < 4; ++e) q_[step + e / 2][e % 2] = q[e];
    }
  }

  __device__ __forceinline__ void Clear() {
#pragma unroll
    for (int g = 0; g < Bc / 16; ++g) {
#pragma unroll
      for (int e = 0; e < 4; ++e) S_[g][e] = 0;
    }
  }

  // The scores of slice t of the block's keys.
  __device__ __forceinline__ void Scores(uint32_t slice, int t) {
    const typename C::SliceLanes k_lane(slice, LaneRowA(lane_), LaneHalfA(lane_));
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
#pragma unroll
      for (int g = 0; g < kGroups; ++g) {
        uint32_t k[4];
        LdMatrix(k, k_lane.At(step, 16 * g));
        Mma<T>(S_[t * kGroups + g], k, q_[step][0], q_[step][1]);
      }
    }
  }

  // Turns the scores of block j into probabilities, packed for Values.
  __device__ __forceinline__ void Softmax(const Parameters& p, const Part<C>& part, int j) {
    if (j < part.tiles.plain_begin || j >= part.tiles.plain_end) Mask(p, part, j);
    bool unchanged = true;
    float alpha[2], negative_max[2];
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      float mx = fmaxf(S_[0][c], S_[0][2 + c]);
#pragma unroll
      for (int g = 1; g < Bc / 16; ++g) mx = fmaxf(mx, fmaxf(S_[g][c], S_[g][2 + c]));
#pragma unroll
      for (int lanes = 4; lanes <= 16; lanes *= 2) mx = fmaxf(mx, __shfl_xor_sync(~0u, mx, lanes));
      mx = fmaxf(m_[c], mx);
      const float mc = FiniteOrZero(mx);
      alpha[c] = Ex2(__fmul_rn(__fsub_rn(m_[c], mc), p.scale.log2));
      negative_max[c] = -__fmul_rn(mc, p.scale.log2);
      m_[c] = mx;
      unchanged &= alpha[c] == 1.0f;
    }
    // This lane sums up one of its two rows, over its own keys and its neighbour's: keys 2 n, 2 n + 1 of every 8.
    const bool odd = lane_ / 4 % 2;
    l_ = __fmul_rn(l_, odd ? alpha[1] : alpha[0]);
    if (!__all_sync(~0u, unchanged)) {
#pragma unroll
      for (int d = 0; d < kSteps; ++d) {
#pragma unroll
        for (int e = 0; e < 4; ++e) O_[d][e] = __fmul_rn(O_[d][e], alpha[e % 2]);
      }
    }
#pragma unroll
    for (int g = 0; g < Bc / 16; ++g) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float p0 = Ex2(__fmaf_rn(S_[g][2 * half], p.scale.log2, negative_max[0]));
        const float p1 = Ex2(__fmaf_rn(S_[g][2 * half + 1], p.scale.log2, negative_max[1]));
        const float other = __shfl_xor_sync(~0u, odd ? p0 : p1, 4);
        l_ = __fadd_rn(l_, odd ? other : p0);
        l_ = __fadd_rn(l_, odd ? p1 : other);
        P_[g][half] = Transpose(Pack<T>(p0, p1));
      }
    }
  }

  // Adds the products with slice t of the block's values.
  __device__ __forceinline__ void Values(uint32_t slice, int t) {
    const typename C::SliceLanes v_lane(slice, LaneRowB(lane_), LaneHalfB(lane_));
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
#pragma unroll
      for (int d = 0; d < kSteps; ++d) {
        uint32_t v[4];
        LdMatrixTransposed(v, v_lane.At(d, 16 * g));
        Mma<T>(O_[d], v, P_[t * kGroups + g][0], P_[t * kGroups + g][1]);
      }
    }
  }

  // Writes the partial O, m and l.
  __device__ __forceinline__ void Store(const Parameters& p, const Part<C>& part) {
    const int r = lane_ / 4;
    float l = __fadd_rn(l_, __shfl_xor_sync(~0u, l_, 16));
    l = __fadd_rn(l, __shfl_xor_sync(~0u, l, 8));  // (l0 + l2) + (l1 + l3)
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int row = part.row0 + lane_ % 4 * 2 + c;
      const float sum = __shfl_sync(~0u, l, 4 * c + lane_ % 4);  // odd and even r have summed another row
      if (row >= p.rows) continue;
      const RowResult<C> result(p, part, row, m_[c], sum, r == c);
#pragma unroll
      for (int d = 0; d < kSteps; ++d) {
        result.Put(16 * d + r, O_[d][c]);
        result.Put(16 * d + 8 + r, O_[d][2 + c]);
      }
    }
  }

 private:
  // -inf where a row does not see a key.
  __device__ __forceinline__ void Mask(const Parameters& p, const Part<C>& part, int j) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int token = (part.row0 + lane_ % 4 * 2 + c) / p.group;
      const int begin = part.visible.Begin(token), end = part.visible.End(token);
#pragma unroll
      for (int n = 0; n < Bc / 8; ++n) {
        const int key = j * Bc + 8 * n + lane_ / 4;
        if (key < begin || key >= end) S_[n / 2][n % 2 * 2 + c] = -INFINITY;
      }
    }
  }

  uint32_t Qi_;
  int lane_;
  uint32_t q_[kSteps][2], P_[Bc / 16][2];
  float S_[Bc / 16][4], O_[kSteps][4] = {};
  float m_[2] = {-INFINITY, -INFINITY};  // of both rows, the same in the eight lanes that hold them
  float l_ = 0;
};

}  // namespace bitflash::gpu::split_kv

#endif  // BITFLASH_GPU_SPLIT_KV_ROWS8_CUH_
