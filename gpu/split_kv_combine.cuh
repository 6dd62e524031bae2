// The second launch of flash-decoding: the parts of a row become its O and LSE. Twin: sim/kernels/split_kv_decode.cc.
#ifndef BITFLASH_GPU_SPLIT_KV_COMBINE_CUH_
#define BITFLASH_GPU_SPLIT_KV_COMBINE_CUH_

#include <algorithm>

#include "gpu/split_kv_part.cuh"

namespace bitflash::gpu::split_kv {

// One row: O = sum of w_c O_c / sum of w_c l_c with w_c = 2^((m_c - max m) scale log2 e). The parts are summed in four
// contiguous quarters, each in ascending order; then the four sums are added in order.
//
// Few rows with many parts must find enough warps: kBlocksPerRow blocks share the columns of a row, a warp takes a
// quarter. Many rows must fit the SMs together, where they wait for the last part: a warp takes two quarters.
template <int kBlocksPerRow>
inline constexpr int kCombineThreads = kBlocksPerRow > 1 ? 128 : 64;

// Whether launches overlap (gpu/ptx.cuh), and with them blocks wait.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
inline constexpr bool kRehearses = true;
#else
inline constexpr bool kRehearses = false;
#endif

template <class T, int D, int kBlocksPerRow>
class Combine {
  static constexpr int kThreads = kCombineThreads<kBlocksPerRow>, kWarps = kThreads / 32, kQuarters = 4 / kWarps;
  static constexpr int kBlockColumns = D / kBlocksPerRow, kColumns = kBlockColumns / 32;  // of a lane, 32 apart
  static constexpr int kBatch = kBlocksPerRow > 1 ? 16 : std::max(2, 8 / kColumns);       // parts loaded together

 public:
  struct Shared {
    float O[4][kBlockColumns], L[4], max[kWarps];
  };

  // `weights` has room for two floats a part of the longest sequence.
  __device__ __forceinline__ Combine(const Parameters& p, float* weights, Shared& shared)
      : p_(p),
        weights_(weights),
        shared_(shared),
        row_(blockIdx.x % p.rows),
        head_(blockIdx.x / p.rows % p.heads_kv),
        batch_(blockIdx.x / p.rows / p.heads_kv),
        first_column_(blockIdx.y * kBlockColumns),
        thread_(threadIdx.x),
        at_(static_cast<int64_t>(blockIdx.x) * p.parts) {}

  // Not `real`: the same instructions without a word from or to memory, for the time before the parts are complete. A
  // block runs them once, and much of its time would go into fetching them and translating its first addresses.
  __device__ __forceinline__ void Run(bool real) {
    const unsigned keys = real ? p_.Keys(batch_) : p_.seqlen_k, chunk = p_.chunk;
    const int parts = static_cast<int>((keys + chunk - 1) / chunk);
    const int quarter = (parts + 3) / 4, lane = thread_ % 32, warp = thread_ / 32;
    const float* O_c = p_.o_part + at_ * D + first_column_ + lane;
    if (!real) PrefetchL2(O_c), PrefetchL2(p_.m_part + at_), PrefetchL2(p_.l_part + at_);
    float x[kQuarters][kBatch][kColumns];
    const auto load = [&](int i, int c, int end) {
#pragma unroll
      for (int n = 0; n < kBatch; ++n) {
#pragma unroll
        for (int k = 0; k < kColumns; ++k) x[i][n][k] = real && c + n < end ? __ldcg(O_c + (c + n) * D + 32 * k) : 0;
      }
    };
#pragma unroll
    for (int i = 0; i < kQuarters; ++i) {  // needs no weight yet
      const int begin = (warp * kQuarters + i) * quarter;
      load(i, begin, min(parts, begin + quarter));
    }

    float M = -INFINITY;
    for (int c = thread_; c < parts; c += kThreads) {
      M = fmaxf(M, weights_[c] = real ? __ldcg(p_.m_part + at_ + c) : 0);
      weights_[p_.parts + c] = real ? __ldcg(p_.l_part + at_ + c) : 0;
    }
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) M = fmaxf(M, __shfl_xor_sync(~0u, M, lanes));
    if (lane == 0) shared_.max[warp] = M;
    __syncthreads();
#pragma unroll
    for (int other = 0; other < kWarps; ++other) M = fmaxf(M, shared_.max[other]);
    const float Mc = FiniteOrZero(M);
    for (int c = thread_; c < parts; c += kThreads) {
      const float w = Ex2(__fmul_rn(__fsub_rn(weights_[c], Mc), p_.scale.log2));
      weights_[c] = w;
      weights_[p_.parts + c] = __fmul_rn(weights_[p_.parts + c], w);
    }
    __syncthreads();

#pragma unroll
    for (int i = 0; i < kQuarters; ++i) {
      const int g = warp * kQuarters + i, begin = min(parts, g * quarter), end = min(parts, begin + quarter);
      float O[kColumns] = {}, L = 0;
      for (int c = begin; c < end; c += kBatch) {
        if (c > begin) load(i, c, end);
#pragma unroll
        for (int n = 0; n < kBatch; ++n) {
          // Selected, not branched over: the weights of a batch are then read together.
          const int part = min(c + n, end - 1);
          const float w = weights_[part], l = weights_[p_.parts + part];
          L = c + n < end ? __fadd_rn(L, l) : L;
#pragma unroll
          for (int k = 0; k < kColumns; ++k) O[k] = c + n < end ? __fmaf_rn(x[i][n][k], w, O[k]) : O[k];
        }
      }
#pragma unroll
      for (int k = 0; k < kColumns; ++k) shared_.O[g][lane + 32 * k] = O[k];
      if (lane == 0) shared_.L[g] = L;
    }
    __syncthreads();

    const float L = Sum(shared_.L[0], shared_.L[1], shared_.L[2], shared_.L[3]);
    const float inverse = InverseSum(L), lse = LogSumExp(M, L, p_.scale.natural);
    const int head = head_ * p_.group + row_ % p_.group, token = row_ / p_.group;
    T* out = HeadOf<T>(p_.t.o, p_.t.o_strides, batch_, head) + token * p_.t.o_strides.row + first_column_;
    for (int d = thread_; d < kBlockColumns; d += kThreads) {
      const float sum = Sum(shared_.O[0][d], shared_.O[1][d], shared_.O[2][d], shared_.O[3][d]);
      const T rounded = Round<T>(__fmul_rn(sum, inverse));
      if (real) out[d] = rounded;
    }
    if (real && p_.t.lse && thread_ == 0 && blockIdx.y == 0) {
      p_.t.lse[(static_cast<int64_t>(batch_) * p_.heads_kv * p_.group + head) * p_.seqlen_q + token] = lse;
    }
  }

 private:
  __device__ __forceinline__ static float Sum(float a, float b, float c, float d) {
    return __fadd_rn(__fadd_rn(__fadd_rn(a, b), c), d);
  }

  const Parameters& p_;
  float* const weights_;  // w_c, then l_c w_c
  Shared& shared_;
  const int row_, head_, batch_, first_column_, thread_;
  const int64_t at_;
};

template <class T, int D, int kBlocksPerRow>
__global__ void __launch_bounds__(kCombineThreads<kBlocksPerRow>)
    split_kv_combine(const __grid_constant__ Parameters p) {
  extern __shared__ float weights[];
  __shared__ typename Combine<T, D, kBlocksPerRow>::Shared shared;
  LaunchDependents();
  Combine<T, D, kBlocksPerRow> combine(p, weights, shared);
#pragma unroll 1
  for (int real = kRehearses ? 0 : 1; real < 2; ++real) {
    if (real) WaitForPrimary();
    combine.Run(real);
  }
}

}  // namespace bitflash::gpu::split_kv

#endif  // BITFLASH_GPU_SPLIT_KV_COMBINE_CUH_
