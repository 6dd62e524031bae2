// A row of S on chip, for the softmax of standard attention: what each of 128 threads holds of it.
//
// Vectors of 8 scores are what the specification counts: thread t adds up the vectors t, t + 128, ... Units of 16 bytes
// are what memory moves: an fp32 vector is two. A warp's 32 vectors lie together, so units and vectors only change
// hands inside a warp.
#ifndef BITFLASH_GPU_STANDARD_ROW_CUH_
#define BITFLASH_GPU_STANDARD_ROW_CUH_

#include <cmath>
#include <type_traits>

#include "gpu/ptx.cuh"

namespace bitflash::gpu {

inline constexpr int kSoftmaxThreads = 128;

// N units of 16 bytes as they lie in memory.
template <class S, int N>
struct Units {
  static constexpr int kColumns = N * 16 / static_cast<int>(sizeof(S));
  uint4 units[N];
};
template <class S>
using Vector = Units<S, static_cast<int>(sizeof(S)) / 2>;  // 8 scores

template <class S, int N>
__device__ __forceinline__ void ToFloat(const Units<S, N>& raw, float (&x)[Units<S, N>::kColumns]) {
#pragma unroll
  for (int n = 0; n < N; ++n) {
    const uint4 unit = raw.units[n];
    if constexpr (sizeof(S) == 4) {
      x[4 * n] = __uint_as_float(unit.x), x[4 * n + 1] = __uint_as_float(unit.y);
      x[4 * n + 2] = __uint_as_float(unit.z), x[4 * n + 3] = __uint_as_float(unit.w);
    } else {
      const uint32_t pairs[4] = {unit.x, unit.y, unit.z, unit.w};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float2 pair = Unpack<S>(pairs[i]);
        x[8 * n + 2 * i] = pair.x, x[8 * n + 2 * i + 1] = pair.y;
      }
    }
  }
}

// fp32 only: other numbers in the place of the scores.
__device__ __forceinline__ void FromFloat(const float (&x)[8], Vector<float>& raw) {
#pragma unroll
  for (int n = 0; n < 2; ++n) {
    raw.units[n] = make_uint4(__float_as_uint(x[4 * n]), __float_as_uint(x[4 * n + 1]), __float_as_uint(x[4 * n + 2]),
                              __float_as_uint(x[4 * n + 3]));
  }
}

// Of the units and m; any order gives the same. Pairs first: half the instructions.
template <class S, int N>
__device__ __forceinline__ float Maximum(const Units<S, N>& raw, float m) {
  if constexpr (sizeof(S) == 2) {
    using Pair = std::conditional_t<std::is_same_v<S, __half>, __half2, __nv_bfloat162>;
    static_assert(N == 1);
    const Pair* pairs = reinterpret_cast<const Pair*>(&raw.units[0]);
    const Pair most = __hmax2(__hmax2(pairs[0], pairs[1]), __hmax2(pairs[2], pairs[3]));
    const float2 x = Unpack<S>(*reinterpret_cast<const uint32_t*>(&most));
    return fmaxf(m, fmaxf(x.x, x.y));
  } else {
    float x[4 * N];
    ToFloat(raw, x);
#pragma unroll
    for (int e = 0; e < 4 * N; ++e) m = fmaxf(m, x[e]);
    return m;
  }
}

// Which units of 128 vectors this thread moves: a warp's load or store touches 512 consecutive bytes, so that a sector
// of L2 is asked for once.
template <class S>
struct UnitOrder {
  static constexpr int kUnits = sizeof(S) / 2;            // of a vector
  static constexpr int kStep = kSoftmaxThreads * kUnits;  // from one 128 vectors to the next

  // This thread's first one; its second is 32 further.
  int first = static_cast<int>(threadIdx.x) / 32 * 32 * kUnits + static_cast<int>(threadIdx.x) % 32;

  // The n-th of the k-th 128 vectors.
  __device__ __forceinline__ int At(int k, int n) const { return k * kStep + n * 32 + first; }
};

// 128 vectors after 128 in shared memory.
template <class S>
class StagedRow {
 public:
  static constexpr int kUnits = UnitOrder<S>::kUnits;
  static constexpr int kWarpBytes = 32 * 16 * kUnits;
  static constexpr int kBytes = 4 * kWarpBytes;  // of 128 vectors

  __device__ explicit StagedRow(unsigned char* shared) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    uint4* warp_base = reinterpret_cast<uint4*>(shared + static_cast<int>(threadIdx.x) / 32 * kWarpBytes);
    unit_ = warp_base + Place(lane);
    vector_[0] = warp_base + Place(kUnits * lane);
    vector_[kUnits - 1] = warp_base + Place(kUnits * lane + kUnits - 1);
  }

  // Starts to copy this thread's units of the vectors [first, first + 128) of `row`, which has `count`, to the k-th
  // place.
  __device__ __forceinline__ void Copy(int k, const S* row, int first, int count) const {
    const int unit = first * kUnits + order_.first;
#pragma unroll
    for (int n = 0; n < kUnits; ++n) {
      if (unit + n * 32 < count * kUnits) {
        CpAsync16(SharedAddress(&Unit(k, n)), reinterpret_cast<const uint4*>(row) + unit + n * 32, true);
      }
    }
  }

  // The units that this thread copies.
  __device__ __forceinline__ uint4& Unit(int k, int n) const { return unit_[k * UnitOrder<S>::kStep + n * 32]; }

  // The vector that it adds up.
  __device__ __forceinline__ Vector<S> Load(int k) const {
    Vector<S> raw;
#pragma unroll
    for (int n = 0; n < kUnits; ++n) raw.units[n] = vector_[n][k * UnitOrder<S>::kStep];
    return raw;
  }
  __device__ __forceinline__ void Store(int k, const Vector<S>& raw) const {
#pragma unroll
    for (int n = 0; n < kUnits; ++n) vector_[n][k * UnitOrder<S>::kStep] = raw.units[n];
  }

 private:
  // Of a warp's u-th unit. Neither 8 units in a row nor every second one of 16 meet a bank twice.
  __device__ static int Place(int u) { return kUnits == 1 ? u : u ^ (u / 8 % 2); }

  UnitOrder<S> order_;
  uint4* unit_;
  uint4* vector_[kUnits];
};

// A row that fits on chip: the first kHeld vectors of every thread in registers, the others in shared memory.
template <class S, int kHeld>
class OnChipRow {
 public:
  // Asks for the whole row at once.
  __device__ __forceinline__ OnChipRow(unsigned char* shared, const S* row, int vectors)
      : staged_(shared), vectors_(vectors) {
#pragma unroll
    for (int k = 0; k < kHeld; ++k) {
#pragma unroll
      for (int n = 0; n < kUnits; ++n) {
        const int unit = order_.At(k, n);
        if (unit < vectors * kUnits) held_[k].units[n] = __ldcs(reinterpret_cast<const uint4*>(row) + unit);
      }
    }
    const int group = GroupSize();
#pragma unroll 1
    for (int g = 0; g < kGroups; ++g) {
#pragma unroll 1
      for (int k = g * group; k < (g + 1) * group; ++k) {
        staged_.Copy(k, row, (kHeld + k) * kSoftmaxThreads, vectors);
      }
      CpAsyncCommit();
    }
  }

  // Waits for the row. The maximum of the units that this thread copied; a barrier must follow.
  __device__ __forceinline__ float Max() {
    float m = -INFINITY;
#pragma unroll
    for (int k = 0; k < kHeld; ++k) {
#pragma unroll
      for (int n = 0; n < kUnits; ++n) {
        if (order_.At(k, n) < vectors_ * kUnits) m = Maximum(Units<S, 1>{held_[k].units[n]}, m);
      }
      const int warp = static_cast<int>(threadIdx.x) / 32;
      if (k * kSoftmaxThreads + warp * 32 < vectors_) Exchange(held_[k]);
    }
    MaxOfGroups<0>(m);
    return m;
  }

  // Calls body(first column, vector) for the vectors that this thread adds up, in their order; with kKeep, what it
  // leaves in them stays. After the barrier.
  template <bool kKeep, class Body>
  __device__ __forceinline__ void ForOwn(const Body& body) {
    const int t = static_cast<int>(threadIdx.x);
#pragma unroll
    for (int k = 0; k < kHeld; ++k) {
      const int vector = k * kSoftmaxThreads + t;
      if (vector < vectors_) body(8 * vector, held_[k]);
    }
#pragma unroll 2
    for (int k = 0; (kHeld + k) * kSoftmaxThreads + t < vectors_; ++k) {
      Vector<S> raw = staged_.Load(k);
      body(8 * ((kHeld + k) * kSoftmaxThreads + t), raw);
      if constexpr (kKeep) staged_.Store(k, raw);
    }
  }

 private:
  static constexpr int kUnits = UnitOrder<S>::kUnits;
  // What is in shared memory arrives in as many groups of copies: the maximum of the first needs not wait for the last.
  static constexpr int kGroups = 4;

  // Of a group, in 128 vectors; at most 0 when all are in registers.
  __device__ __forceinline__ int GroupSize() const {
    constexpr int kGroupVectors = kGroups * kSoftmaxThreads;
    return (vectors_ - kHeld * kSoftmaxThreads + kGroupVectors - 1) / kGroupVectors;
  }

  template <int g>
  __device__ __forceinline__ void MaxOfGroups(float& m) const {
    CpAsyncWait<kGroups - 1 - g>();
    const int group = GroupSize();
#pragma unroll 2
    for (int k = g * group; k < (g + 1) * group; ++k) {
#pragma unroll
      for (int n = 0; n < kUnits; ++n) {
        if (order_.At(kHeld + k, n) < vectors_ * kUnits) m = Maximum(Units<S, 1>{staged_.Unit(k, n)}, m);
      }
    }
    if constexpr (g + 1 < kGroups) MaxOfGroups<g + 1>(m);
  }

  // From the units that the lanes of a warp loaded to the vector that each adds up.
  __device__ static __forceinline__ void Exchange(Vector<S>& raw) {
    if constexpr (kUnits == 2) {
      const int lane = static_cast<int>(threadIdx.x) % 32;
      const uint4 low = raw.units[0], high = raw.units[1];
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        const auto word = [&](uint32_t of_low, uint32_t of_high) {
          const uint32_t from_low = __shfl_sync(~0u, of_low, (2 * lane + n) % 32);
          const uint32_t from_high = __shfl_sync(~0u, of_high, (2 * lane + n) % 32);
          return lane < 16 ? from_low : from_high;
        };
        raw.units[n] = make_uint4(word(low.x, high.x), word(low.y, high.y), word(low.z, high.z), word(low.w, high.w));
      }
    }
  }

  UnitOrder<S> order_;
  StagedRow<S> staged_;
  int vectors_;
  Vector<S> held_[kHeld];
};

}  // namespace bitflash::gpu

#endif  // BITFLASH_GPU_STANDARD_ROW_CUH_
