// What blocks of producer and consumer warpgroups are made of (compute capability 9.0): the ring of stages between
// them, who a thread is, and how accumulators leave.
#ifndef BITFLASH_GPU_WARP_SPECIALIZED_CUH_
#define BITFLASH_GPU_WARP_SPECIALIZED_CUH_

#include "gpu/hopper.cuh"
#include "gpu/ptx.cuh"

namespace bitflash::gpu {

// Barriers of kStages stages in shared memory. The producer waits for `empty` and fills; kConsumers warps wait for
// `full` and hand back. Each thread counts the stages for itself.
template <int kStages, int kConsumers>
class Ring {
 public:
  static constexpr int kBytes = 2 * kStages * 8;
  __device__ explicit Ring(uint32_t barriers) : full_(barriers) {}
  // The n-th of equal rings in a row, at the same stage.
  __device__ Ring Neighbour(int n) const {
    Ring ring = *this;
    ring.full_ += n * kBytes;
    return ring;
  }

  __device__ void Init() const {
    for (int s = 0; s < kStages; ++s) {
      MbarrierInit(full_ + s * 8, 1);
      MbarrierInit(full_ + (kStages + s) * 8, kConsumers);
    }
    MbarrierInitFence();
  }
  __device__ int stage() const { return stage_; }
  // n stages before, n < kStages.
  __device__ int StageBefore(int n) const { return stage_ < n ? stage_ + kStages - n : stage_ - n; }
  __device__ uint32_t full() const { return full_ + stage_ * 8; }
  __device__ void WaitFull() const { MbarrierWait(full(), phase_); }
  __device__ bool IsFull() const { return MbarrierTest(full(), phase_); }
  __device__ void WaitEmpty() const { MbarrierWait(full_ + (kStages + stage_) * 8, phase_ ^ 1); }
  // By one lane of each consumer warp.
  __device__ void Release(int stage) const {
    if (threadIdx.x % 32 == 0) MbarrierArrive(full_ + (kStages + stage) * 8);
  }
  __device__ void Advance() {
    if (++stage_ == kStages) stage_ = 0, phase_ ^= 1;
  }

 private:
  uint32_t full_;
  int stage_ = 0;
  uint32_t phase_ = 0;
};

// What a kernel does in code for another architecture: fail, not nothing.
__device__ __forceinline__ void NotForThisDevice() { __trap(); }

// The number of the calling thread's warpgroup, and of its warp there, in a form that the compiler knows to be uniform.
__device__ __forceinline__ int WarpGroup() { return __shfl_sync(~0u, threadIdx.x / 128, 0); }
__device__ __forceinline__ int WarpOfGroup() { return __shfl_sync(~0u, threadIdx.x / 32 % 4, 0); }

// The dynamic shared memory, from the first multiple of 1024 on (what swizzled boxes need).
inline constexpr int kAlignment = 1024;
__device__ __forceinline__ uint32_t AlignedShared(const void* shared) {
  return (SharedAddress(shared) + kAlignment - 1) / kAlignment * kAlignment;
}

// 16 rows of a warp's accumulators as E into shared memory: chunks of 128 bytes of columns, `chunk_stride` bytes apart,
// each a box of 16 rows as TmaStore takes it.
template <class E, int kRegisters>
__device__ __forceinline__ void StageRows(uint32_t to, int chunk_stride, const float (&d)[kRegisters]) {
  const int lane = threadIdx.x % 32;
  if constexpr (sizeof(E) == 2) {
    const int r = lane % 16;
#pragma unroll
    for (int i = 0; i < kRegisters / 8; ++i) {  // 16 columns
      const int u = 2 * (i % 4) + lane / 16;
      StMatrix(to + i / 4 * chunk_stride + r * 128 + ((u ^ (r % 8)) << 4), Pack<E>(d[8 * i], d[8 * i + 1]),
               Pack<E>(d[8 * i + 2], d[8 * i + 3]), Pack<E>(d[8 * i + 4], d[8 * i + 5]),
               Pack<E>(d[8 * i + 6], d[8 * i + 7]));
    }
  } else {
    const int r = lane / 4, quad = lane % 4;
#pragma unroll
    for (int j = 0; j < kRegisters / 4; ++j) {  // 8 columns
      const int u = 2 * (j % 4) + quad / 2;
      const uint32_t at = to + j / 4 * chunk_stride + r * 128 + ((u ^ r) << 4) + quad % 2 * 8;
      StoreShared(at, d[4 * j], d[4 * j + 1]);
      StoreShared(at + 8 * 128, d[4 * j + 2], d[4 * j + 3]);
    }
  }
}

// Writes those 16 rows and kColumns columns to global memory. `turns` as in TmaStore, for a map that has them.
template <class E, int kColumns, class... Turns>
__device__ __forceinline__ void StoreRows(const CUtensorMap& map, uint32_t from, int chunk_stride, uint64_t policy,
                                          int column, int row, int head, int batch, Turns... turns) {
  constexpr int kChunk = 128 / sizeof(E);
  ProxyFence();
  __syncwarp();
  if (threadIdx.x % 32 == 0) {
#pragma unroll
    for (int c = 0; c < kColumns / kChunk; ++c) {
      TmaStore(map, from + c * chunk_stride, policy, column + c * kChunk, row, head, batch, turns...);
    }
    TmaStoreCommit();
  }
  __syncwarp();
}

}  // namespace bitflash::gpu

#endif  // BITFLASH_GPU_WARP_SPECIALIZED_CUH_
