// P = softmax(scale S), one row a block. The twin of SoftmaxOnChip and SoftmaxTwoPasses in
// sim/kernels/standard_forward.cc: 128 partial sums, partial t over the vectors (of 8 columns) t, t + 128, ...
//
// A row is staged raw in shared memory by asynchronous copies. Bytes in flight are what counts: the more blocks an SM
// holds, the more rows are under way while others are computed.
#ifndef BITFLASH_GPU_STANDARD_SOFTMAX_CUH_
#define BITFLASH_GPU_STANDARD_SOFTMAX_CUH_

#include <cmath>
#include <type_traits>

#include "gpu/ptx.cuh"
#include "gpu/row_math.cuh"
#include "gpu/standard.cuh"

namespace bitflash::gpu {

inline constexpr int kSoftmaxThreads = 128;
inline constexpr int kRegisterRow = 8192;                     // keys of a slice when a row does not fit on chip
inline constexpr int kSliceVectors = kRegisterRow / 8 / 128;  // of one thread
// Vectors of a row that a thread holds in registers: more blocks fit an SM, and a row may be as long as all of the
// shared memory that a block can have.
inline constexpr int kHeldVectors = 4;

// A vector of 8 scores as it lies in memory: 16 bytes of a 16-bit format, 32 of fp32.
template <class S>
struct RawVector {
  static constexpr int kUnits = sizeof(S) / 2;
  uint4 units[kUnits];
};

template <class S>
__device__ __forceinline__ void ToFloat(const RawVector<S>& raw, float (&x)[8]) {
  if constexpr (sizeof(S) == 4) {
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      const uint4 unit = raw.units[n];
      x[4 * n] = __uint_as_float(unit.x), x[4 * n + 1] = __uint_as_float(unit.y);
      x[4 * n + 2] = __uint_as_float(unit.z), x[4 * n + 3] = __uint_as_float(unit.w);
    }
  } else {
    const uint32_t pairs[4] = {raw.units[0].x, raw.units[0].y, raw.units[0].z, raw.units[0].w};
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      const float2 pair = Unpack<S>(pairs[n]);
      x[2 * n] = pair.x, x[2 * n + 1] = pair.y;
    }
  }
}

// fp32 only: other numbers in the place of the scores.
__device__ __forceinline__ void FromFloat(const float (&x)[8], RawVector<float>& raw) {
#pragma unroll
  for (int n = 0; n < 2; ++n) {
    raw.units[n] = make_uint4(__float_as_uint(x[4 * n]), __float_as_uint(x[4 * n + 1]), __float_as_uint(x[4 * n + 2]),
                              __float_as_uint(x[4 * n + 3]));
  }
}

// This thread's one of the vectors [first, first + 128) of a row that has `count`; for whole warps. An fp32 vector is
// two units of 16 bytes: the lanes of a warp load them in the order of their addresses, so that a sector of L2 is
// fetched once, and exchange them.
template <class S>
__device__ __forceinline__ RawVector<S> LoadVector(const S* row, int first, int count) {
  constexpr int kUnits = RawVector<S>::kUnits;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int unit = (first + warp * 32) * kUnits + lane;
  RawVector<S> raw{};
#pragma unroll
  for (int n = 0; n < kUnits; ++n) {
    if (unit + n * 32 < count * kUnits) raw.units[n] = __ldcs(reinterpret_cast<const uint4*>(row) + unit + n * 32);
  }
  if constexpr (kUnits == 1) {
    return raw;
  } else {
    RawVector<S> own;
#pragma unroll
    for (int n = 0; n < kUnits; ++n) {
      const auto word = [&](uint32_t low, uint32_t high) {
        const uint32_t from_low = __shfl_sync(~0u, low, (2 * lane + n) % 32);
        const uint32_t from_high = __shfl_sync(~0u, high, (2 * lane + n) % 32);
        return lane < 16 ? from_low : from_high;
      };
      const uint4 &low = raw.units[0], &high = raw.units[1];
      own.units[n] = make_uint4(word(low.x, high.x), word(low.y, high.y), word(low.z, high.z), word(low.w, high.w));
    }
    return own;
  }
}

// The vectors of a row in shared memory, 128 (one of each thread) after 128. Nobody reads another warp's: the
// units of fp32 vectors are copied in the order of their addresses, as in LoadVector, and placed so that reading them
// meets no bank twice.
template <class S>
class StagedRow {
 public:
  static constexpr int kWarpBytes = 32 * 16 * RawVector<S>::kUnits;
  static constexpr int kBytes = 4 * kWarpBytes;  // of 128 vectors

  __device__ explicit StagedRow(unsigned char* shared) : warp_base_(shared + threadIdx.x / 32 * kWarpBytes) {}

  // Vectors [first, first + 128) of `row`, which has `count`, become the k-th of every thread.
  __device__ __forceinline__ void Copy(int k, const S* row, int first, int count) const {
    const int lane = threadIdx.x % 32;
    const int unit = (first + static_cast<int>(threadIdx.x / 32 * 32)) * RawVector<S>::kUnits;
#pragma unroll
    for (int n = 0; n < RawVector<S>::kUnits; ++n) {
      const int u = n * 32 + lane;
      if (unit + u < count * RawVector<S>::kUnits) {
        CpAsync16(SharedAddress(Unit(k, u)), reinterpret_cast<const uint4*>(row) + unit + u, true);
      }
    }
  }

  __device__ __forceinline__ RawVector<S> Load(int k) const {
    RawVector<S> raw;
#pragma unroll
    for (int n = 0; n < RawVector<S>::kUnits; ++n) raw.units[n] = *Unit(k, UnitOfLane(n));
    return raw;
  }

  __device__ __forceinline__ void Store(int k, const RawVector<S>& raw) const {
#pragma unroll
    for (int n = 0; n < RawVector<S>::kUnits; ++n) *Unit(k, UnitOfLane(n)) = raw.units[n];
  }

 private:
  __device__ static int UnitOfLane(int n) { return threadIdx.x % 32 * RawVector<S>::kUnits + n; }
  // The warp's u-th unit: the first halves of its vectors lie together, then the second ones.
  __device__ __forceinline__ uint4* Unit(int k, int u) const {
    const int place = RawVector<S>::kUnits == 1 ? u : u % 2 * 32 + u / 2;
    return reinterpret_cast<uint4*>(warp_base_ + k * kBytes) + place;
  }

  unsigned char* warp_base_;
};

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

// Of a vector and m; any order gives the same. Pairs first: half the instructions.
template <class S>
__device__ __forceinline__ float Maximum(const RawVector<S>& raw, float m) {
  if constexpr (sizeof(S) == 2) {
    using Pair = std::conditional_t<std::is_same_v<S, __half>, __half2, __nv_bfloat162>;
    const Pair* pairs = reinterpret_cast<const Pair*>(&raw.units[0]);
    const Pair most = __hmax2(__hmax2(pairs[0], pairs[1]), __hmax2(pairs[2], pairs[3]));
    const float2 x = Unpack<S>(*reinterpret_cast<const uint32_t*>(&most));
    return fmaxf(m, fmaxf(x.x, x.y));
  }
  float x[8];
  ToFloat(raw, x);
#pragma unroll
  for (int e = 0; e < 8; ++e) m = fmaxf(m, x[e]);
  return m;
}

// x = exp2(fma(x, scale, addend))
__device__ __forceinline__ void Exponentials(float (&x)[8], float scale_log2, float addend) {
#pragma unroll
  for (int e = 0; e < 8; ++e) x[e] = Ex2(__fmaf_rn(x[e], scale_log2, addend));
}

__device__ __forceinline__ float AddInOrder(float l, const float (&x)[8]) {
#pragma unroll
  for (int e = 0; e < 8; ++e) l = __fadd_rn(l, x[e]);
  return l;
}

// The vector's probabilities, past the caches: they are read again only when all of P has been written.
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

// A row that fits on chip: the first vectors of every thread in registers, the others in shared memory.
template <class S>
class OnChipRow {
 public:
  __device__ __forceinline__ OnChipRow(const S* row, int vectors, unsigned char* shared)
      : staged_(shared), own_((vectors - static_cast<int>(threadIdx.x) + kSoftmaxThreads - 1) / kSoftmaxThreads) {
    for (int k = kHeldVectors; k * kSoftmaxThreads < vectors; ++k) {
      staged_.Copy(k - kHeldVectors, row, k * kSoftmaxThreads, vectors);
    }
    CpAsyncCommit();
    const int warp = threadIdx.x / 32;
#pragma unroll
    for (int k = 0; k < kHeldVectors; ++k) {
      if (k * kSoftmaxThreads + warp * 32 < vectors) held_[k] = LoadVector(row, k * kSoftmaxThreads, vectors);
    }
    CpAsyncWait<0>();
    __syncwarp();
  }

  // Calls body(k, vector) for the vectors k * 128 + thread; with kKeep, what it leaves in them stays.
  template <bool kKeep, class Body>
  __device__ __forceinline__ void ForOwn(const Body& body) {
#pragma unroll
    for (int k = 0; k < kHeldVectors; ++k) {
      if (k < own_) body(k, held_[k]);
    }
#pragma unroll 2
    for (int k = kHeldVectors; k < own_; ++k) {
      RawVector<S> raw = staged_.Load(k - kHeldVectors);
      body(k, raw);
      if constexpr (kKeep) staged_.Store(k - kHeldVectors, raw);
    }
  }

 private:
  StagedRow<S> staged_;
  int own_;  // vectors of this thread
  RawVector<S> held_[kHeldVectors];
};

// The row fits: S is read once.
template <class T, class S>
__device__ __forceinline__ RowStatistics SoftmaxOnChip(const StandardProblem& p, const S* s, T* P, int vectors,
                                                       unsigned char* shared, BlockReduce reduce) {
  // fp32 scores make room for their exponentials. Those of 16-bit scores are computed twice, which costs less than
  // bytes in flight would.
  constexpr bool kKeep = sizeof(S) == 4;
  OnChipRow<S> row(s, vectors, shared);

  float m = -INFINITY;
  row.template ForOwn<false>([&](int, const RawVector<S>& raw) { m = Maximum(raw, m); });
  m = reduce.Max(m);
  const float c = __fmul_rn(FiniteOrZero(m), -p.scale_log2);

  float l = 0;
  row.template ForOwn<kKeep>([&](int, RawVector<S>& raw) {
    float x[8];
    ToFloat(raw, x);
    Exponentials(x, p.scale_log2, c);
    l = AddInOrder(l, x);
    if constexpr (kKeep) FromFloat(x, raw);
  });
  l = reduce.Sum(l);
  const float inverse = InverseSum(l);

  row.template ForOwn<false>([&](int k, const RawVector<S>& raw) {
    float x[8];
    ToFloat(raw, x);
    if constexpr (!kKeep) Exponentials(x, p.scale_log2, c);
    WriteProbabilities(P + 8 * (k * kSoftmaxThreads + threadIdx.x), x, inverse);
  });
  return {m, l};
}

// The row does not fit: S is read twice, first for its maximum and sum, then for its probabilities. In slices, the next
// one in flight while one is computed.
template <class T, class S>
__device__ __forceinline__ RowStatistics SoftmaxTwoPasses(const StandardProblem& p, const S* s, T* P, int vectors,
                                                          unsigned char* shared, BlockReduce reduce) {
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
  CpAsyncWait<0>();
  return {m, l};
}

template <class T, class S, bool kOnChip>
__global__ void __launch_bounds__(kSoftmaxThreads)
    standard_softmax(const __grid_constant__ StandardProblem p, const S* scores, T* probabilities, float* lse) {
  extern __shared__ uint4 staged_row[];
  __shared__ float scratch[2][4];
  unsigned char* shared = reinterpret_cast<unsigned char*>(staged_row);
  const int i = blockIdx.x % p.seqlen_q, head = blockIdx.x / p.seqlen_q;
  const Interval keys = Columns(p, KeyTiles(p, i / p.Br));
  const int64_t offset = p.score_row(head, i) + keys.begin;
  const int vectors = (keys.count() + 7) / 8;  // the columns of the last one that are no keys hold -inf
  RowStatistics row;
  if constexpr (kOnChip) {
    row = SoftmaxOnChip<T>(p, scores + offset, probabilities + offset, vectors, shared, BlockReduce(scratch));
  } else {
    row = SoftmaxTwoPasses<T>(p, scores + offset, probabilities + offset, vectors, shared, BlockReduce(scratch));
  }
  if (lse != nullptr && threadIdx.x == 0) lse[blockIdx.x] = LogSumExp(row.m, row.l, p.scale);
}

// Shared memory of a block for rows of up to `keys` keys.
template <class S>
int SoftmaxSharedBytes(bool on_chip, int keys) {
  if (!on_chip) return 2 * kSliceVectors * StagedRow<S>::kBytes;
  const int vectors = (keys + 7) / 8 - kHeldVectors * kSoftmaxThreads;  // beside those in registers
  return vectors <= 0 ? 0 : (vectors + 31) / 32 * StagedRow<S>::kWarpBytes;
}

}  // namespace bitflash::gpu

#endif  // BITFLASH_GPU_STANDARD_SOFTMAX_CUH_
