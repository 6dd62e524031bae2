// The PTX instructions that the portable kernels are made of, by their PTX names (PTX ISA 8.x), and the fragments they
// work on. sm_80 and newer.
#ifndef BITFLASH_GPU_PTX_CUH_
#define BITFLASH_GPU_PTX_CUH_

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace bitflash::gpu {

// --- Matrix products -------------------------------------------------------------------------------------------------
// mma.sync.m16n8k16, D += A B. Lane = 4 row + quad. Accumulator d[0], d[1]: row `lane / 4`, columns 2 quad, 2 quad + 1;
// d[2], d[3]: the row 8 below. A: a[0] = row lane/4, columns 2 quad, +1; a[1] = row + 8; a[2], a[3] = columns + 8. B:
// b0 = rows (k) 2 quad, +1 of column lane/4; b1 = rows + 8.
// Not volatile: it has no effect beside its operands, and the compiler may interleave it with other work.
template <class T>
__device__ __forceinline__ void Mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);

template <>
__device__ __forceinline__ void Mma<__nv_bfloat16>(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

template <>
__device__ __forceinline__ void Mma<__half>(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// --- Shared memory ---------------------------------------------------------------------------------------------------
__device__ __forceinline__ uint32_t SharedAddress(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// Four 8 x 8 matrices of 16-bit elements; lane i gives the address of row i % 8 of matrix i / 8.
__device__ __forceinline__ void LdMatrix(uint32_t (&r)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address));
}
__device__ __forceinline__ void LdMatrixTransposed(uint32_t (&r)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address));
}

// An 8 x 8 matrix of 16-bit elements, row lane / 4 and columns 2 (lane % 4), + 1 in a lane, transposed.
__device__ __forceinline__ uint32_t Transpose(uint32_t pair) {
  uint32_t r;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(r) : "r"(pair));
  return r;
}

// 16 bytes from global to shared memory, past L1; zeros when `valid` is false (nothing is read then). No L2 policy:
// with one, ptxas 13.0 emits code that traps (it loses the register that holds the policy).
__device__ __forceinline__ void CpAsync16(uint32_t to, const void* from, bool valid) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(valid ? 16 : 0));
}
__device__ __forceinline__ void CpAsyncCommit() { asm volatile("cp.async.commit_group;"); }
// Waits until at most `groups` of this thread's groups are in flight.
template <int groups>
__device__ __forceinline__ void CpAsyncWait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(groups) : "memory");
}

// --- Arithmetic ------------------------------------------------------------------------------------------------------
// One MUFU.EX2: subnormal arguments and results are zero.
__device__ __forceinline__ float Ex2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Two floats rounded to nearest even, `lo` in the low half.
template <class T>
__device__ __forceinline__ uint32_t Pack(float lo, float hi);
template <>
__device__ __forceinline__ uint32_t Pack<__nv_bfloat16>(float lo, float hi) {
  uint32_t r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
  return r;
}
template <>
__device__ __forceinline__ uint32_t Pack<__half>(float lo, float hi) {
  uint32_t r;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
  return r;
}

// One float, rounded to nearest even.
template <class T>
__device__ __forceinline__ T Round(float x);
template <>
__device__ __forceinline__ __nv_bfloat16 Round<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}
template <>
__device__ __forceinline__ __half Round<__half>(float x) {
  return __float2half_rn(x);
}

// Both halves as floats, exactly.
template <class T>
__device__ __forceinline__ float2 Unpack(uint32_t pair);
template <>
__device__ __forceinline__ float2 Unpack<__nv_bfloat16>(uint32_t pair) {
  return {__uint_as_float(pair << 16), __uint_as_float(pair & 0xFFFF0000u)};
}
template <>
__device__ __forceinline__ float2 Unpack<__half>(uint32_t pair) {
  return __half22float2(*reinterpret_cast<const __half2*>(&pair));
}

// --- Launches that overlap (sm_90; PTX ISA, "griddepcontrol")
// --------------------------------------------------------- The next kernel of the stream may start: it waits for this
// one's results itself.
__device__ __forceinline__ void LaunchDependents() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}
// Everything that the kernel before wrote is there.
__device__ __forceinline__ void WaitForPrimary() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// The line's way into L2, and its address translated; nothing is returned.
__device__ __forceinline__ void PrefetchL2(const void* address) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(address));
}

// --- Images of tiles in shared memory --------------------------------------------------------------------------------
// A tile of R rows and D columns of 16-bit elements lies in chunks of 64 columns (128 bytes). Within a chunk the eight
// 16-byte units of row r are exchanged by XOR with r % 8, so that eight rows of one unit meet no bank twice. The last
// chunk of a D that is no multiple of 64 has 32 columns and is exchanged by (r / 2) % 4.
// Byte offset of unit `u` (columns 8 u to 8 u + 7) of row r.
template <int R, int D>
__device__ __forceinline__ constexpr int UnitOffset(int r, int u) {
  constexpr int kFullUnits = D / 64 * 8;
  if (D % 64 == 0 || u < kFullUnits) return u / 8 * (R * 128) + r * 128 + (((u % 8) ^ (r % 8)) << 4);
  return D / 64 * (R * 128) + r * 64 + (((u - kFullUnits) ^ (r / 2 % 4)) << 4);
}

}  // namespace bitflash::gpu

#endif  // BITFLASH_GPU_PTX_CUH_
