// The kernels that memory_probe times. Loads that must reach a level carry the cache operator that makes them.
#ifndef BITFLASH_GPU_PROBES_MEMORY_KERNELS_CUH_
#define BITFLASH_GPU_PROBES_MEMORY_KERNELS_CUH_

#include <cstdint>

namespace bitflash::gpu::probe {

constexpr int kCopyThreads = 512;
constexpr int kL2Threads = 1024;
constexpr int kUnroll = 8;  // loads of 16 bytes in flight per thread

// 16 bytes past L1.
__device__ __forceinline__ uint4 LoadL2(const uint4* from) {
  uint4 x;
  asm volatile("ld.global.cg.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w) : "l"(from));
  return x;
}

__device__ __forceinline__ uint32_t Fold(uint4 x) { return x.x ^ x.y ^ x.z ^ x.w; }

// Every 16 bytes of `from` once; `n` is a multiple of what the grid takes per turn.
__global__ void __launch_bounds__(kCopyThreads) ReadAll(const uint4* from, int64_t n, uint32_t* sink) {
  const int64_t turn = static_cast<int64_t>(gridDim.x) * kCopyThreads * kUnroll;
  uint32_t folded = 0;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kCopyThreads * kUnroll + threadIdx.x; i < n; i += turn) {
    uint4 x[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) x[u] = LoadL2(from + i + u * kCopyThreads);
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) folded ^= Fold(x[u]);
  }
  if (folded == 0x12345678u) *sink = folded;  // never: keeps the loads
}

__global__ void __launch_bounds__(kCopyThreads) WriteAll(uint4* to, int64_t n, uint32_t value) {
  const int64_t turn = static_cast<int64_t>(gridDim.x) * kCopyThreads * kUnroll;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kCopyThreads * kUnroll + threadIdx.x; i < n; i += turn) {
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) to[i + u * kCopyThreads] = make_uint4(value, value, value, value);
  }
}

__global__ void __launch_bounds__(kCopyThreads) CopyAll(uint4* to, const uint4* from, int64_t n) {
  const int64_t turn = static_cast<int64_t>(gridDim.x) * kCopyThreads * kUnroll;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kCopyThreads * kUnroll + threadIdx.x; i < n; i += turn) {
    uint4 x[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) x[u] = LoadL2(from + i + u * kCopyThreads);
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) to[i + u * kCopyThreads] = x[u];
  }
}

// Waits until every block of the grid has come here `times` times; *arrived was 0 at the launch, which must have been a
// cooperative one.
__device__ __forceinline__ void WaitForAllBlocks(unsigned* arrived, unsigned times) {
  __syncthreads();
  if (threadIdx.x == 0) {
    atomicAdd(arrived, 1u);
    const unsigned all = times * gridDim.x;
    while (*static_cast<volatile unsigned*>(arrived) < all) {
    }
  }
  __syncthreads();
}

// All blocks read the same `length` 16-byte units, from the first to the last, `passes` times; no block begins a pass
// before all have ended the one before. So between two reads of a line that are not of the same pass lies the whole
// set. `length` is a multiple of what a block reads in one turn.
constexpr int kL2Turn = kL2Threads * kUnroll;
__global__ void __launch_bounds__(kL2Threads, 1)
    ReadSharedSet(const uint4* set, int length, int passes, unsigned* arrived, uint32_t* sink) {
  uint32_t folded = 0;
  for (int pass = 1; pass <= passes; ++pass) {
    for (int at = static_cast<int>(threadIdx.x); at < length; at += kL2Turn) {
      uint4 x[kUnroll];
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) x[u] = LoadL2(set + at + u * kL2Threads);
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) folded ^= Fold(x[u]);
    }
    WaitForAllBlocks(arrived, static_cast<unsigned>(pass));
  }
  if (folded == 0x12345678u) *sink = folded;
}

// Block b walks through units b * length to (b + 1) * length - 1, again and again.
__global__ void __launch_bounds__(kL2Threads, 1) ReadOwnSets(const uint4* sets, int length, int steps, uint32_t* sink) {
  const uint4* from = sets + static_cast<int64_t>(blockIdx.x) * length;
  const int advance = kL2Threads % length;
  int at = static_cast<int>(threadIdx.x) % length;
  uint32_t folded = 0;
  for (int t = 0; t < steps; ++t) {
    uint4 x[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      x[u] = LoadL2(from + at);
      at += advance;
      if (at >= length) at -= length;
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) folded ^= Fold(x[u]);
  }
  if (folded == 0x12345678u) *sink = folded;
}

// --- Per SM, timed by its own clock ----------------------------------------------------------------------------------
// Clock cycles and nanoseconds that a block took.
struct BlockTime {
  long long clocks;
  unsigned long long nanoseconds;
};

__device__ __forceinline__ unsigned long long Nanoseconds() {
  unsigned long long t;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(t)::"memory");
  return t;
}

__device__ __forceinline__ long long Clock() {
  long long t;
  asm volatile("mov.u64 %0, %clock64;" : "=l"(t)::"memory");
  return t;
}

// Times work() of the whole block.
template <class Work>
__device__ __forceinline__ void Time(BlockTime* times, Work work) {
  __shared__ unsigned long long start_ns;
  __shared__ long long start;
  __syncthreads();
  if (threadIdx.x == 0) start_ns = Nanoseconds(), start = Clock();
  __syncthreads();
  work();
  __syncthreads();
  if (threadIdx.x == 0) times[blockIdx.x] = {Clock() - start, Nanoseconds() - start_ns};
}

constexpr int kUnitThreads = 1024;  // one block per SM fills all its schedulers

// 16 bytes per thread and load, all threads of a warp side by side: no bank is asked twice in a quarter of a warp. The
// loads are volatile in PTX: ptxas merges others from one address, whatever the asm statement says, and then measures
// nothing.
constexpr int kSharedLoads = 16;  // per turn and thread
__global__ void __launch_bounds__(kUnitThreads) ReadShared(int turns, BlockTime* times, uint32_t* sink) {
  __shared__ uint4 tile[kUnitThreads];
  tile[threadIdx.x] = make_uint4(threadIdx.x, 1, 2, 3);
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(&tile[threadIdx.x]));
  uint32_t folded = 0;
  Time(times, [&] {
    for (int t = 0; t < turns; ++t) {
#pragma unroll
      for (int i = 0; i < kSharedLoads; ++i) {
        uint4 x;
        asm volatile("ld.volatile.shared.v4.u32 {%0,%1,%2,%3}, [%4];"
                     : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
                     : "r"(address));
        folded = folded * 2 ^ Fold(x);  // not ^= alone: an even number of equal loads would cancel
      }
    }
  });
  if (folded == 0x12345678u) *sink = folded;
}

constexpr int kChains = 8;  // independent dependency chains per thread
__global__ void __launch_bounds__(kUnitThreads) SpecialFunctions(int turns, BlockTime* times, float* sink) {
  float x[kChains];
#pragma unroll
  for (int i = 0; i < kChains; ++i) x[i] = static_cast<float>(i) * 0.01f;
  Time(times, [&] {
    for (int t = 0; t < turns; ++t) {
#pragma unroll
      for (int i = 0; i < kChains; ++i) asm volatile("ex2.approx.ftz.f32 %0, %0;" : "+f"(x[i]));
    }
  });
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kChains; ++i) sum += x[i];
  if (sum == 1234.5f) *sink = sum;
}

__global__ void __launch_bounds__(kUnitThreads) MultiplyAdds(int turns, BlockTime* times, float* sink) {
  float x[kChains];
#pragma unroll
  for (int i = 0; i < kChains; ++i) x[i] = static_cast<float>(i);
  const float a = 0.999f + 1e-9f * turns, b = 0.001f;
  Time(times, [&] {
#pragma unroll 4
    for (int t = 0; t < turns; ++t) {
#pragma unroll
      for (int i = 0; i < kChains; ++i) asm volatile("fma.rn.f32 %0, %0, %1, %2;" : "+f"(x[i]) : "f"(a), "f"(b));
    }
  });
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kChains; ++i) sum += x[i];
  if (sum == 1234.5f) *sink = sum;
}

// Two bf16 numbers near 1 with noise in all fraction bits: products of zeros would draw less power than real ones.
__device__ __forceinline__ uint32_t Noise(uint32_t seed) {
  const uint32_t hash = (seed + 1) * 2654435761u;
  return 0x3F803F80u ^ (hash & 0x80FF80FFu);
}

constexpr int kMmaThreads = 512;
constexpr int kMmaTiles = 8;  // independent accumulators per warp
__global__ void __launch_bounds__(kMmaThreads, 1) MmaSync(int turns, BlockTime* times, float* sink) {
  float d[kMmaTiles][4] = {};
  uint32_t a[4], b[2];
  for (int i = 0; i < 4; ++i) a[i] = Noise(threadIdx.x * 8 + i);
  for (int i = 0; i < 2; ++i) b[i] = Noise(threadIdx.x * 8 + 4 + i);
  Time(times, [&] {
    for (int t = 0; t < turns; ++t) {
#pragma unroll
      for (int i = 0; i < kMmaTiles; ++i) {
        asm volatile(
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
      }
    }
  });
  float sum = 0;
  for (int i = 0; i < kMmaTiles; ++i) sum += d[i][0] + d[i][3];
  if (sum == 1234.5f) *sink = sum;
}
constexpr double kMmaFlops = 2.0 * 16 * 8 * 16 * kMmaTiles * (kMmaThreads / 32);  // per turn and block

// wgmma m64n128, A in registers, B (128 rows of 128 bytes, swizzled) in shared memory: what it holds does not matter
// here. Three warpgroups, so that one fills the gaps of another.
constexpr int kWgmmaThreads = 384;
constexpr int kWgmmaSteps = 16;  // per turn
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define PROBE_D64                                                                                                    \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,"  \
  "%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57," \
  "%58,%59,%60,%61,%62,%63}"
#define PROBE_R8(i)                                                                                           \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), \
      "+f"(d[i + 7])
#define PROBE_WGMMA128(TEXT, END)                                                                                    \
  asm volatile(                                                                                                      \
      "{ .reg .pred p;\n setp.eq.u32 p, 0, 0;\n" TEXT " " PROBE_D64 ", {%64,%65,%66,%67}, %68, p, " END ";\n}"       \
      : PROBE_R8(0), PROBE_R8(8), PROBE_R8(16), PROBE_R8(24), PROBE_R8(32), PROBE_R8(40), PROBE_R8(48), PROBE_R8(56) \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(descriptor))
#endif

template <bool fp8>
__global__ void __launch_bounds__(kWgmmaThreads, 1) Wgmma(int turns, BlockTime* times, float* sink) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  __shared__ alignas(1024) uint32_t tile[128 * 32];
  for (int i = threadIdx.x; i < 128 * 32; i += kWgmmaThreads) tile[i] = fp8 ? 0x38B83938u ^ (i & 0x0F0F) : Noise(i);
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  const uint64_t address = __cvta_generic_to_shared(tile);
  const uint64_t descriptor = 0x4000004000010000ull | (address & 0x3FFFF) >> 4;
  float d[64] = {};
  uint32_t a[4];
  for (int i = 0; i < 4; ++i) a[i] = fp8 ? 0x38B83938u ^ (threadIdx.x * 4 + i) % 16 : Noise(threadIdx.x * 4 + i);
  Time(times, [&] {
    for (int t = 0; t < turns; ++t) {
      asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
      for (int i = 0; i < kWgmmaSteps; ++i) {
        if constexpr (fp8) {
          PROBE_WGMMA128("wgmma.mma_async.sync.aligned.m64n128k32.f32.e4m3.e4m3", "1, 1");
        } else {
          PROBE_WGMMA128("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16", "1, 1, 0");
        }
      }
      asm volatile("wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;" ::: "memory");
    }
  });
  float sum = 0;
#pragma unroll
  for (int i = 0; i < 64; ++i) sum += d[i];
  if (sum == 1234.5f) *sink = sum;
#else
  if (turns > 0) __trap();
#endif
}
constexpr double kWgmmaFlops = 2.0 * 64 * 128 * 16 * kWgmmaSteps * (kWgmmaThreads / 128);  // of bf16; fp8 twice that

// 1 when this code has wgmma.
__global__ void HasWgmma(int* has) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  *has = 1;
#else
  *has = 0;
#endif
}

__global__ void Nothing() {}

}  // namespace bitflash::gpu::probe

#endif  // BITFLASH_GPU_PROBES_MEMORY_KERNELS_CUH_
