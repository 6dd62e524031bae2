// The PTX instructions that only compute capability 9.0 has (PTX ISA 8.x): transaction barriers, the tensor memory
// accelerator (TMA); wgmma is in wgmma.cuh. To be called where BITFLASH_HOPPER_DEVICE is 1: code for sm_80 does not
// contain them.
#ifndef BITFLASH_GPU_HOPPER_CUH_
#define BITFLASH_GPU_HOPPER_CUH_

#include <cuda.h>

#include <cstdint>

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
// Whether it would return at once.
__device__ __forceinline__ bool MbarrierTest(uint32_t barrier, uint32_t parity) {
  uint32_t done;
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "mbarrier.test_wait.parity.shared::cta.b64 done, [%1], %2;\n"
      "selp.u32 %0, 1, 0, done;\n"
      "}"
      : "=r"(done)
      : "r"(barrier), "r"(parity)
      : "memory");
  return done != 0;
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

// ptxas moves nothing across the instruction griddepcontrol.launch_dependents, which does nothing in a kernel that has
// called LaunchDependents (ptx.cuh) before. It orders instructions that no dependence orders, for the sake of speed.
__device__ __forceinline__ void ScheduleFence() { asm volatile("griddepcontrol.launch_dependents;"); }

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
// The same for a map with a dimension more (MakePackedMap).
__device__ __forceinline__ void TmaLoad(uint32_t to, const CUtensorMap& map, uint32_t barrier, uint64_t policy,
                                        int column, int row, int head, int batch, int turns) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1, {%3, %4, %5, %6, %7}], [%2], %8;" ::"r"(to),
      "l"(&map), "r"(barrier), "r"(column), "r"(row), "r"(head), "r"(batch), "r"(turns), "l"(policy)
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
__device__ __forceinline__ void TmaStore(const CUtensorMap& map, uint32_t from, uint64_t policy, int column, int row,
                                         int head, int batch, int turns) {
  asm volatile(
      "cp.async.bulk.tensor.5d.global.shared::cta.bulk_group.L2::cache_hint [%0, {%2, %3, %4, %5, %6}], [%1], "
      "%7;" ::"l"(&map),
      "r"(from), "r"(column), "r"(row), "r"(head), "r"(batch), "r"(turns), "l"(policy)
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

// --- Shared memory ---------------------------------------------------------------------------------------------------
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
