// P = softmax(scale S), a row a block. The twin of SoftmaxOnChip and SoftmaxTwoPasses in
// sim/kernels/standard_forward.cc: 128 partial sums, partial t over the vectors (of 8 columns) t, t + 128, ...
//
// Bytes in flight are what counts, so several blocks share an SM. Rows one after another in a block, the next asked for
// while this one leaves, lost 2 to 3 % on an H100.
#ifndef BITFLASH_GPU_STANDARD_SOFTMAX_CUH_
#define BITFLASH_GPU_STANDARD_SOFTMAX_CUH_

#include <cmath>

#include "gpu/ptx.cuh"
#include "gpu/row_math.cuh"
#include "gpu/standard.cuh"
#include "gpu/standard_row.cuh"

namespace bitflash::gpu {

// Vectors of a row that a thread holds in registers. With fp32 scores five blocks, that is rows of 16384 keys, fit an
// SM of 228 KiB of shared memory; with 16-bit ones nine.
template <class S>
inline constexpr int kHeldVectors = sizeof(S) == 4 ? 5 : 4;
template <class S>
inline constexpr int kSoftmaxBlocksPerSm = sizeof(S) == 4 ? 5 : 9;

inline constexpr int kRegisterRow = 8192;  // keys of a slice when a row does not fit on chip
inline constexpr int kSliceVectors = kRegisterRow / 8 / kSoftmaxThreads;  // of one thread

// Block-wide maximum and sum. Two alternating places, so that one barrier is enough.
class BlockReduce {
 public:
  __device__ explicit BlockReduce(float (*scratch)[4]) : scratch_(scratch) {}

  __device__ __forceinline__ float Max(float x) {
#pragma unroll
    for (int distance = 16; distance >= 1; distance /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, distance));
    const float* w = Exchange(x);
    return fmaxf(fmaxf(w[0], w[1]), fmaxf(w[2], w[3]));
  }
  // A butterfly inside each warp, then warps in order: decides bits.
  __device__ __forceinline__ float Sum(float x) {
#pragma unroll
    for (int distance = 16; distance >= 1; distance /= 2) x = __fadd_rn(x, __shfl_xor_sync(~0u, x, distance));
    const float* w = Exchange(x);
    return __fadd_rn(__fadd_rn(__fadd_rn(w[0], w[1]), w[2]), w[3]);
  }

 private:
  __device__ __forceinline__ const float* Exchange(float x) {
    float* w = scratch_[turn_];
    turn_ ^= 1;
    if (threadIdx.x % 32 == 0) w[threadIdx.x / 32] = x;
    __syncthreads();
    return w;
  }

  float (*scratch_)[4];
  int turn_ = 0;
};

// x = exp2(fma(x, scale, addend))
template <int N>
__device__ __forceinline__ void Exponentials(float (&x)[N], float scale_log2, float addend) {
#pragma unroll
  for (int e = 0; e < N; ++e) x[e] = Ex2(__fmaf_rn(x[e], scale_log2, addend));
}

__device__ __forceinline__ float AddInOrder(float l, const float (&x)[8]) {
#pragma unroll
  for (int e = 0; e < 8; ++e) l = __fadd_rn(l, x[e]);
  return l;
}

// Past the caches: they are read again only when all of P has been written.
template <class T>
__device__ __forceinline__ void WriteProbabilities(T* to, const float (&x)[8], float inverse) {
  uint32_t pairs[4];
#pragma unroll
  for (int n = 0; n < 4; ++n) pairs[n] = Pack<T>(__fmul_rn(x[2 * n], inverse), __fmul_rn(x[2 * n + 1], inverse));
  __stcs(reinterpret_cast<uint4*>(to), make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]));
}

// Maximum and sum of exponentials of a row, the same in all threads.
struct RowStatistics {
  float m, l;
};

// The row fits: S is read once.
template <class T, class S>
__device__ __forceinline__ RowStatistics SoftmaxOnChip(const StandardProblem& p, const S* s, T* P, int vectors,
                                                       unsigned char* shared, BlockReduce& reduce) {
  // fp32 scores make room for their exponentials. Those of 16-bit scores are computed twice, which costs less than
  // bytes in flight would.
  constexpr bool kKeep = sizeof(S) == 4;
  OnChipRow<S, kHeldVectors<S>> row(shared, s, vectors);
  const float m = reduce.Max(row.Max());
  const float c = __fmul_rn(FiniteOrZero(m), -p.scale_log2);

  float l = 0, x[8];
  row.template ForOwn<kKeep>([&](int, Vector<S>& raw) {
    ToFloat(raw, x);
    Exponentials(x, p.scale_log2, c);
    l = AddInOrder(l, x);
    if constexpr (kKeep) FromFloat(x, raw);
  });
  l = reduce.Sum(l);
  const float inverse = InverseSum(l);

  row.template ForOwn<false>([&](int column, const Vector<S>& raw) {
    ToFloat(raw, x);
    if constexpr (!kKeep) Exponentials(x, p.scale_log2, c);
    WriteProbabilities(P + column, x, inverse);
  });
  return {m, l};
}

// The row does not fit: S is read twice, first for its maximum and sum, then for its probabilities. In slices, the next
// one in flight while one is computed.
template <class T, class S>
__device__ __forceinline__ RowStatistics SoftmaxTwoPasses(const StandardProblem& p, const S* s, T* P, int vectors,
                                                          unsigned char* shared, BlockReduce& reduce) {
  constexpr int kSlice = kSliceVectors * kSoftmaxThreads;  // vectors
  const int t = threadIdx.x;
  const int slices = (vectors + kSlice - 1) / kSlice;
  const StagedRow<S> staged(shared);
  const auto copy = [&](int slice) {
#pragma unroll
    for (int k = 0; k < kSliceVectors; ++k) {
      staged.Copy(slice % 2 * kSliceVectors + k, s, slice * kSlice + k * kSoftmaxThreads, vectors);
    }
    CpAsyncCommit();
  };
  // Calls body(place, vector) for this thread's vectors of a slice.
  const auto for_own = [&](int slice, const auto& body) {
#pragma unroll
    for (int k = 0; k < kSliceVectors; ++k) {
      const int vector = slice * kSlice + k * kSoftmaxThreads + t;
      if (vector < vectors) body(slice % 2 * kSliceVectors + k, vector);
    }
  };
  const auto arrive = [&](int slice) {
    __syncwarp();  // the warp has done with the slice before: its place may be filled again
    copy(slice + 1);
    CpAsyncWait<1>();
    __syncwarp();
  };

  float m = -INFINITY, l = 0, x[8];
  copy(0);
  for (int slice = 0; slice < slices; ++slice) {
    arrive(slice);
    float most = -INFINITY;
    for_own(slice, [&](int place, int) { most = Maximum(staged.Load(place), most); });
    most = fmaxf(m, reduce.Max(most));
    const float finite = FiniteOrZero(most);
    const float r = Ex2(__fmul_rn(__fsub_rn(m, finite), p.scale_log2));
    const float c = __fmul_rn(finite, -p.scale_log2);
    l = __fmul_rn(l, r);
    for_own(slice, [&](int place, int) {
      ToFloat(staged.Load(place), x);
      Exponentials(x, p.scale_log2, c);
      l = AddInOrder(l, x);
    });
    m = most;
  }
  l = reduce.Sum(l);
  const float c = __fmul_rn(FiniteOrZero(m), -p.scale_log2), inverse = InverseSum(l);
  copy(0);
  for (int slice = 0; slice < slices; ++slice) {
    arrive(slice);
    for_own(slice, [&](int place, int vector) {
      ToFloat(staged.Load(place), x);
      Exponentials(x, p.scale_log2, c);
      WriteProbabilities(P + 8 * vector, x, inverse);
    });
  }
  return {m, l};
}

// Block n takes row n.
template <class T, class S, bool kOnChip>
__global__ void __launch_bounds__(kSoftmaxThreads, kOnChip ? kSoftmaxBlocksPerSm<S> : 1)
    standard_softmax(const __grid_constant__ StandardProblem p, const S* scores, T* probabilities, float* lse) {
  extern __shared__ uint4 staged_row[];
  __shared__ float scratch[2][4];
  unsigned char* shared = reinterpret_cast<unsigned char*>(staged_row);
  BlockReduce reduce(scratch);
  const int row = static_cast<int>(blockIdx.x), i = row % p.seqlen_q;
  const Interval keys = Columns(p, KeyTiles(p, i / p.Br));
  const int64_t offset = p.score_row(row / p.seqlen_q, i) + keys.begin;
  const int vectors = (keys.count() + 7) / 8;  // the columns of the last one that are no keys hold -inf
  const S* s = scores + offset;
  T* P = probabilities + offset;
  RowStatistics of;
  if constexpr (kOnChip) {
    of = SoftmaxOnChip(p, s, P, vectors, shared, reduce);
  } else {
    of = SoftmaxTwoPasses(p, s, P, vectors, shared, reduce);
  }
  if (lse != nullptr && threadIdx.x == 0) lse[row] = LogSumExp(of.m, of.l, p.scale);
}

// Shared memory of a block for rows of up to `keys` keys.
template <class S>
int SoftmaxSharedBytes(bool on_chip, int keys) {
  if (!on_chip) return 2 * kSliceVectors * StagedRow<S>::kBytes;
  const int vectors = (keys + 7) / 8 - kHeldVectors<S> * kSoftmaxThreads;  // beside those in registers
  return vectors <= 0 ? 0 : (vectors + 31) / 32 * StagedRow<S>::kWarpBytes;
}

}  // namespace bitflash::gpu

#endif  // BITFLASH_GPU_STANDARD_SOFTMAX_CUH_
