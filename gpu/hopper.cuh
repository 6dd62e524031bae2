// The PTX instructions that only compute capability 9.0 has (PTX ISA 8.x): transaction barriers, the tensor memory
// accelerator (TMA), wgmma. To be called where BITFLASH_HOPPER_DEVICE is 1: code for sm_80 does not contain them.
#ifndef BITFLASH_GPU_HOPPER_CUH_
#define BITFLASH_GPU_HOPPER_CUH_

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define BITFLASH_HOPPER_DEVICE 1
#else
#define BITFLASH_HOPPER_DEVICE 0
#endif

namespace bitflash::gpu {

// --- Registers -------------------------------------------------------------------------------------------------------
// Warpgroups hand registers to one another. Multiples of 8, 24 to 256; the sum must not exceed what the block has.
template <int count>
__device__ __forceinline__ void LowerRegisters() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count));
}
template <int count>
__device__ __forceinline__ void RaiseRegisters() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count));
}

// --- Barriers --------------------------------------------------------------------------------------------------------
__device__ __forceinline__ void MbarrierInit(uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
// Makes initialised barriers known to the TMA. A __syncthreads must follow.
__device__ __forceinline__ void MbarrierInitFence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ __forceinline__ void MbarrierArrive(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
// Arrives, and the phase also waits for `bytes` of asynchronous copies.
__device__ __forceinline__ void MbarrierArriveExpect(uint32_t barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
// Returns when the phase of this parity has completed. On a fresh barrier, parity 1 counts as completed.
__device__ __forceinline__ void MbarrierWait(uint32_t barrier, uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra completed;\n"
      "bra again;\n"
      "completed:\n"
      "}" ::"r"(barrier),
      "r"(parity)
      : "memory");
}
// Barrier `id` (1 to 15; __syncthreads is 0) of `threads` threads.
__device__ __forceinline__ void NamedBarrier(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// True in one lane, which the compiler then knows to be one: its operands may stay in uniform registers. By a whole
// warp.
__device__ __forceinline__ bool ElectOne() {
  uint32_t elected;
  asm volatile("{\n.reg .pred p;\nelect.sync _|p, 0xffffffff;\nselp.u32 %0, 1, 0, p;\n}" : "=r"(elected));
  return elected != 0;
}

// --- TMA -------------------------------------------------------------------------------------------------------------
// How L2 treats the lines: constants that createpolicy gives for a fraction of 1.
inline constexpr uint64_t kEvictFirst = 0x12F0000000000000, kEvictLast = 0x14F0000000000000,
                          kEvictNormal = 0x16F0000000000000;

// The box at {column, row, head, batch} of a map (gpu/tensor_map.h); zeros where it leaves the tensor. Credits the
// whole box to `barrier`.
__device__ __forceinline__ void TmaLoad(uint32_t to, const CUtensorMap& map, uint32_t barrier, uint64_t policy,
                                        int column, int row, int head, int batch) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1, {%3, %4, %5, %6}], [%2], %7;" ::"r"(to),
      "l"(&map), "r"(barrier), "r"(column), "r"(row), "r"(head), "r"(batch), "l"(policy)
      : "memory");
}
// The same for a map of whole rows (MakeRowsMap).
__device__ __forceinline__ void TmaLoadRows(uint32_t to, const CUtensorMap& map, uint32_t barrier, uint64_t policy,
                                            int row, int head, int batch) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1, {%3, %3, %4, %5, %6}], [%2], %7;" ::"r"(to),
      "l"(&map), "r"(barrier), "r"(0), "r"(row), "r"(head), "r"(batch), "l"(policy)
      : "memory");
}
// The other way; what leaves the tensor is not written.
__device__ __forceinline__ void TmaStore(const CUtensorMap& map, uint32_t from, uint64_t policy, int column, int row,
                                         int head, int batch) {
  asm volatile(
      "cp.async.bulk.tensor.4d.global.shared::cta.bulk_group.L2::cache_hint [%0, {%2, %3, %4, %5}], [%1], %6;" ::"l"(
          &map),
      "r"(from), "r"(column), "r"(row), "r"(head), "r"(batch), "l"(policy)
      : "memory");
}
__device__ __forceinline__ void TmaStoreCommit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
// Until at most `groups` of this thread's groups still read shared memory.
template <int groups>
__device__ __forceinline__ void TmaStoreWaitRead() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(groups) : "memory");
}
// Until all have been written.
__device__ __forceinline__ void TmaStoreWait() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }
__device__ __forceinline__ void PrefetchMap(const CUtensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}
// Ordinary writes to shared memory become visible to TMA and wgmma. By every writer, before a barrier.
__device__ __forceinline__ void ProxyFence() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// --- wgmma -----------------------------------------------------------------------------------------------------------
// Descriptors of operands in the image of ptx.cuh (128-byte swizzle, chunks of 64 columns, bases multiples of 1024).
// Bits 0-13: address / 16; 16-29: leading byte offset / 16; 32-45: stride byte offset / 16; 62-63: swizzle.
// K-major (Q, K, P): 8 rows are 1024 bytes; 16 columns further is 32 bytes.
__device__ __forceinline__ uint64_t RowMajorOperand(uint32_t address) { return 0x4000004000010000 + (address >> 4); }
// MN-major (V of kRows keys): the next 64 columns are kRows * 128 bytes away; 16 keys further is 2048 bytes.
template <int kRows>
__device__ __forceinline__ uint64_t ColumnMajorOperand(uint32_t address) {
  return 0x4000004000000000 + (uint64_t{kRows * 8} << 16) + (address >> 4);
}

__device__ __forceinline__ void WgmmaFence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void WgmmaCommit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int groups>
__device__ __forceinline__ void WgmmaWait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(groups) : "memory");
}
// The compiler may not read these registers before this point.
template <int N>
__device__ __forceinline__ void Pin(float (&d)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

#define BITFLASH_FLOATS_8(i)                                                                                  \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), \
      "+f"(d[i + 7])
#define BITFLASH_FLOATS_32(i) \
  BITFLASH_FLOATS_8(i), BITFLASH_FLOATS_8(i + 8), BITFLASH_FLOATS_8(i + 16), BITFLASH_FLOATS_8(i + 24)
#define BITFLASH_WGMMA_64(type)                                                                         \
  asm volatile(                                                                                         \
      "{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"                                                      \
      "wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type                                       \
      " "                                                                                               \
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"                                         \
      "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, %32, %33, p, 1, 1, 0, %35;\n}" \
      : BITFLASH_FLOATS_32(0)                                                                           \
      : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(static_cast<int>(kColumnMajorB)))
#define BITFLASH_WGMMA_128(type)                                                                        \
  asm volatile(                                                                                         \
      "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"                                                      \
      "wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type                                      \
      " "                                                                                               \
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"                                         \
      "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"                                \
      "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"                                \
      "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, %64, %65, p, 1, 1, 0, %67;\n}" \
      : BITFLASH_FLOATS_32(0), BITFLASH_FLOATS_32(32)                                                   \
      : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(static_cast<int>(kColumnMajorB)))

// D (64 x N) = A (64 x 16) B (16 x N), plus D if `accumulate`; by the 128 threads of a warpgroup. Thread: row 16 warp +
// lane / 4, columns 8 j + 2 (lane % 4) and the next in d[4 j] and d[4 j + 1], the row 8 below in d[4 j + 2], d[4 j +
// 3].
template <class T, bool kColumnMajorB, int kRegisters>
__device__ __forceinline__ void Wgmma(float (&d)[kRegisters], uint64_t a, uint64_t b, bool accumulate) {
  constexpr bool kHalf = std::is_same_v<T, __half>;
  static_assert(kRegisters == 32 || kRegisters == 64, "N is 64 or 128");
  if constexpr (kRegisters == 32) {
    if constexpr (kHalf) {
      BITFLASH_WGMMA_64("f16");
    } else {
      BITFLASH_WGMMA_64("bf16");
    }
  } else if constexpr (kHalf) {
    BITFLASH_WGMMA_128("f16");
  } else {
    BITFLASH_WGMMA_128("bf16");
  }
}

#undef BITFLASH_WGMMA_128
#undef BITFLASH_WGMMA_64
#undef BITFLASH_FLOATS_32
#undef BITFLASH_FLOATS_8

// Four 8 x 8 matrices of 16-bit elements from registers to shared memory; addresses as in LdMatrix.
__device__ __forceinline__ void StMatrix(uint32_t address, uint32_t r0, uint32_t r1, uint32_t r2, uint32_t r3) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(address), "r"(r0), "r"(r1),
               "r"(r2), "r"(r3)
               : "memory");
}

// Two floats; `address` is a multiple of 8.
__device__ __forceinline__ void StoreShared(uint32_t address, float x, float y) {
  asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(address), "f"(x), "f"(y) : "memory");
}

}  // namespace bitflash::gpu

#endif  // BITFLASH_GPU_HOPPER_CUH_
