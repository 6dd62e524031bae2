// The softmax of one key tile in the accumulator layout, and what it leaves in the registers of a quad of lanes. Twin:
// sim/kernels/online_softmax.h.
#ifndef BITFLASH_GPU_ONLINE_SOFTMAX_CUH_
#define BITFLASH_GPU_ONLINE_SOFTMAX_CUH_

#include "gpu/ptx.cuh"
#include "gpu/row_math.cuh"

namespace bitflash::gpu {

// Rows `lane / 4` and `lane / 4 + 8` of a 16-row tile: every member has one entry for each.
struct SoftmaxRows {
  float m[2] = {-INFINITY, -INFINITY};  // maximum of the raw scores, the same in the four lanes of a quad
  float l[2] = {0, 0};                  // this lane's part of the sum of exponentials
  float alpha[2], negative_max[2];      // of the current tile: rescale factor, -m scale_log2

  // The next rows. What the last tile left to do with O (alpha) stays.
  __device__ __forceinline__ void Restart() {
#pragma unroll
    for (int r = 0; r < 2; ++r) m[r] = -INFINITY, l[r] = 0;
  }

  // Takes the scores of one tile of Bc keys into m. True when no lane of the warp has a row whose maximum grew: then
  // every alpha is 1, and multiplying by it would change no bit.
  template <int N>
  __device__ __forceinline__ bool NewMaximum(const float (&S)[N][4], float scale_log2) {
    bool unchanged = true;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float mx = fmaxf(S[0][2 * r], S[0][2 * r + 1]);
#pragma unroll
      for (int n = 1; n < N; ++n) mx = fmaxf(mx, fmaxf(S[n][2 * r], S[n][2 * r + 1]));
      mx = fmaxf(mx, __shfl_xor_sync(~0u, mx, 2));
      mx = fmaxf(m[r], fmaxf(mx, __shfl_xor_sync(~0u, mx, 1)));
      const float mc = FiniteOrZero(mx);
      alpha[r] = Ex2(__fmul_rn(__fsub_rn(m[r], mc), scale_log2));
      negative_max[r] = -__fmul_rn(mc, scale_log2);
      l[r] = __fmul_rn(l[r], alpha[r]);
      m[r] = mx;
      unchanged &= alpha[r] == 1.0f;
    }
    return __all_sync(~0u, unchanged);
  }
  // The same with the maximum of this lane's scores of each row, and the product with scale_log2 before the guard,
  // which is one step less to wait for. Kernels that are short of registers are better off with the other.
  __device__ __forceinline__ bool TakeMaximum(const float (&of_lane)[2], float scale_log2) {
    bool unchanged = true;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float mx = fmaxf(of_lane[r], __shfl_xor_sync(~0u, of_lane[r], 2));
      mx = fmaxf(m[r], fmaxf(mx, __shfl_xor_sync(~0u, mx, 1)));
      alpha[r] = Ex2(__fmul_rn(__fsub_rn(m[r], FiniteOrZero(mx)), scale_log2));
      negative_max[r] = -(mx == -INFINITY ? 0.0f : __fmul_rn(mx, scale_log2));
      l[r] = __fmul_rn(l[r], alpha[r]);
      m[r] = mx;
      unchanged &= alpha[r] == 1.0f;
    }
    return __all_sync(~0u, unchanged);
  }

  // Whether no row of the warp has a negative maximum (-0 is one), so that LaneMaximumAbove0 is enough for the next
  // tile.
  __device__ __forceinline__ bool NoneNegative() const {
    return __all_sync(~0u, (__float_as_int(m[0]) | __float_as_int(m[1])) >= 0);
  }

  // What earlier tiles left in O, to the new maximum.
  template <int N>
  __device__ __forceinline__ void Rescale(float (&O)[N][4]) const {
#pragma unroll
    for (int d = 0; d < N; ++d) {
#pragma unroll
      for (int e = 0; e < 4; ++e) O[d][e] = __fmul_rn(O[d][e], alpha[e / 2]);
    }
  }

  // Turns two columns of a row of each half into probabilities and adds them to the sums, in column order.
  __device__ __forceinline__ void Exponentiate(float (&S)[4], float scale_log2) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        float& p = S[2 * r + c];
        p = Ex2(__fmaf_rn(p, scale_log2, negative_max[r]));
        l[r] = __fadd_rn(l[r], p);
      }
    }
  }
  // The same in three steps, for kernels that place them by hand.
  __device__ __forceinline__ void Exponents(float (&S)[4], float scale_log2) const {
#pragma unroll
    for (int e = 0; e < 4; ++e) S[e] = __fmaf_rn(S[e], scale_log2, negative_max[e / 2]);
  }
  __device__ __forceinline__ static void Powers(float (&S)[4]) {
#pragma unroll
    for (int e = 0; e < 4; ++e) S[e] = Ex2(S[e]);
  }
  __device__ __forceinline__ void Sum(const float (&p)[4]) {
#pragma unroll
    for (int e = 0; e < 4; ++e) l[e / 2] = __fadd_rn(l[e / 2], p[e]);
  }

  // l of the whole rows, in every lane: (l0 + l2) + (l1 + l3).
  __device__ __forceinline__ void SumQuad() {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      l[r] = __fadd_rn(l[r], __shfl_xor_sync(~0u, l[r], 2));
      l[r] = __fadd_rn(l[r], __shfl_xor_sync(~0u, l[r], 1));
    }
  }
};

// The maximum of this lane's scores of each row.
template <int N>
__device__ __forceinline__ void LaneMaximum(const float (&S)[N][4], float (&of_lane)[2]) {
  float mx[4];  // four chains without temporaries
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    mx[e] = S[0][e];
#pragma unroll
    for (int n = 1; n < N; ++n) mx[e] = fmaxf(mx[e], S[n][e]);
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) of_lane[r] = fmaxf(mx[2 * r], mx[2 * r + 1]);
}
// The same in half the instructions for whoever takes the larger of it and a number that is not negative: where all
// scores are negative it is one of them. sm_90 compares integers three at a time (VIMNMX3), floats only two, and floats
// that are not negative are in the order of their bits.
template <int N>
__device__ __forceinline__ void LaneMaximumAbove0(const float (&S)[N][4], float (&of_lane)[2]) {
  static_assert(N % 2 == 0);
  int mx[4];
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    mx[e] = max(__float_as_int(S[0][e]), __float_as_int(S[1][e]));
#pragma unroll
    for (int n = 2; n < N; n += 2) mx[e] = max(max(mx[e], __float_as_int(S[n][e])), __float_as_int(S[n + 1][e]));
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) of_lane[r] = fmaxf(__int_as_float(mx[2 * r]), __int_as_float(mx[2 * r + 1]));
}

// -inf where a row does not see a key. `column` is the first key of the lane's two columns of S[0]; `begin` and `end`
// are the keys that rows lane/4 and lane/4 + 8 see.
template <int N>
__device__ __forceinline__ void MaskScores(float (&S)[N][4], int column, const int (&begin)[2], const int (&end)[2]) {
#pragma unroll
  for (int n = 0; n < N; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int key = column + 8 * n + e % 2;
      if (key < begin[e / 2] || key >= end[e / 2]) S[n][e] = -INFINITY;
    }
  }
}

// The same in fewer instructions for a tile of at most 128 keys, one bit for each of the lane's columns of a row: bit 2
// n + e is S[n][2 r + e]. Those that come before column `end` of the tile; `quad` is lane % 4.
__device__ __forceinline__ uint32_t ColumnsBefore(int end, int quad) {
  const int k = min(max(end - 2 * quad, 0), 128), count = k / 8 * 2 + min(k % 8, 2);
  return count >= 32 ? ~0u : (1u << count) - 1;
}
// -inf where the bit is not set.
template <int N>
__device__ __forceinline__ void KeepColumns(float (&S)[N][4], int r, uint32_t columns) {
  static_assert(N <= 16);
#pragma unroll
  for (int n = 0; n < N; ++n) {
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      if (!(columns & (1u << (2 * n + e)))) S[n][2 * r + e] = -INFINITY;
    }
  }
}

// Operand A of P V for 16 keys: columns 16 t to 16 t + 15 of P, rounded to T.
template <class T>
__device__ __forceinline__ void PackP(uint32_t (&a)[4], const float (&left)[4], const float (&right)[4]) {
  a[0] = Pack<T>(left[0], left[1]);
  a[1] = Pack<T>(left[2], left[3]);
  a[2] = Pack<T>(right[0], right[1]);
  a[3] = Pack<T>(right[2], right[3]);
}

}  // namespace bitflash::gpu

#endif  // BITFLASH_GPU_ONLINE_SOFTMAX_CUH_
