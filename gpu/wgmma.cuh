// wgmma: matrix products of a warpgroup (PTX ISA 8.x, "Asynchronous warpgroup level matrix instructions"), for the
// operands that the kernels have: B in shared memory, A there or in registers. To be called where
// BITFLASH_HOPPER_DEVICE is 1.
//
//   WgmmaFence(); Wgmma(...) for each 16 of the inner dimension; WgmmaCommit(); ... WgmmaWait<groups>(); Pin(d);
//
// From the fence to the end of the wait nobody may touch d, A in registers, or the shared memory of A and B.
#ifndef BITFLASH_GPU_WGMMA_CUH_
#define BITFLASH_GPU_WGMMA_CUH_

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

namespace bitflash::gpu {

// Descriptors of operands in the image of ptx.cuh (128-byte swizzle, chunks of 64 columns, bases multiples of 1024).
// Bits 0-13: address / 16; 16-29: leading byte offset / 16; 32-45: stride byte offset / 16; 62-63: swizzle.
// K-major (Q, K, P): 8 rows are 1024 bytes; 16 columns further is 32 bytes.
__device__ __forceinline__ uint64_t RowMajorOperand(uint32_t address) { return 0x4000004000010000 + (address >> 4); }
// MN-major (V of kRows keys): the next 64 columns are kRows * 128 bytes away; 16 keys further is 2048 bytes.
template <int kRows>
__device__ __forceinline__ uint64_t ColumnMajorOperand(uint32_t address) {
  return 0x4000004000000000 + (uint64_t{kRows * 8} << 16) + (address >> 4);
}

// Ordinary writes to registers and, after a ProxyFence, to shared memory come before the wgmma that follow.
__device__ __forceinline__ void WgmmaFence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void WgmmaCommit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Until at most `groups` of the committed groups run.
template <int groups>
__device__ __forceinline__ void WgmmaWait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(groups) : "memory");
}
// The compiler may not read these registers before this point, nor write them after it.
template <int N>
__device__ __forceinline__ void Pin(float (&d)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) asm volatile("" : "+f"(d[i])::"memory");
}
template <int N>
__device__ __forceinline__ void Pin(uint32_t (&d)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) asm volatile("" : "+r"(d[i])::"memory");
}

#define BITFLASH_FLOATS_8(i)                                                                                  \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), \
      "+f"(d[i + 7])
#define BITFLASH_FLOATS_16(i) BITFLASH_FLOATS_8(i), BITFLASH_FLOATS_8(i + 8)
#define BITFLASH_FLOATS_32 BITFLASH_FLOATS_16(0), BITFLASH_FLOATS_16(16)
#define BITFLASH_FLOATS_48 BITFLASH_FLOATS_32, BITFLASH_FLOATS_16(32)
#define BITFLASH_FLOATS_64 BITFLASH_FLOATS_48, BITFLASH_FLOATS_16(48)
#define BITFLASH_FLOATS_96 BITFLASH_FLOATS_64, BITFLASH_FLOATS_16(64), BITFLASH_FLOATS_16(80)
#define BITFLASH_FLOATS_128 BITFLASH_FLOATS_96, BITFLASH_FLOATS_16(96), BITFLASH_FLOATS_16(112)
#define BITFLASH_NAMES_32                                                                                              \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30," \
  "%31"
#define BITFLASH_NAMES_48 BITFLASH_NAMES_32 ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47"
#define BITFLASH_NAMES_64 BITFLASH_NAMES_48 ",%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define BITFLASH_NAMES_96                                                                                          \
  BITFLASH_NAMES_64                                                                                                \
  ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%" \
  "91,%92,%93,%94,%95"
#define BITFLASH_NAMES_128                                                                                       \
  BITFLASH_NAMES_96                                                                                              \
  ",%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,%112,%113,%114,%115,%116,%117,%" \
  "118,%119,%120,%121,%122,%123,%124,%125,%126,%127"

// `a` and `b` are operands as they stand in the text, `p` is the number of `accumulate`, `transpose` that of the flag.
#define BITFLASH_WGMMA(n, type, names, floats, a, b, p, transpose, ...)                                 \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " p                                                    \
               ", 0;\n"                                                                                 \
               "wgmma.mma_async.sync.aligned.m64n" n "k16.f32." type "." type " {" names "}, " a ", " b \
               ", p, 1, 1, " transpose ";\n}"                                                           \
               : floats                                                                                 \
               : __VA_ARGS__, "r"(static_cast<int>(accumulate)), "n"(static_cast<int>(kColumnMajorB)))
// A in shared memory, and in registers.
#define BITFLASH_WGMMA_SHARED(n, type, registers, a_, b_, p_, t_) \
  BITFLASH_WGMMA(n, type, BITFLASH_NAMES_##registers, BITFLASH_FLOATS_##registers, a_, b_, p_, "0, " t_, "l"(a), "l"(b))
#define BITFLASH_WGMMA_REGISTERS(n, type, registers, a_, b_, p_, t_)                                          \
  BITFLASH_WGMMA(n, type, BITFLASH_NAMES_##registers, BITFLASH_FLOATS_##registers, a_, b_, p_, t_, "r"(a[0]), \
                 "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))

// D (64 x N) = A (64 x 16) B (16 x N), plus D if `accumulate`; by the 128 threads of a warpgroup. Thread: row 16 warp +
// lane / 4, columns 8 j + 2 (lane % 4) and the next in d[4 j] and d[4 j + 1], the row 8 below in d[4 j + 2], d[4 j +
// 3]. A and B by descriptors.
template <class T, bool kColumnMajorB, int kRegisters>
__device__ __forceinline__ void Wgmma(float (&d)[kRegisters], uint64_t a, uint64_t b, bool accumulate) {
  constexpr bool kHalf = std::is_same_v<T, __half>;
  static_assert(kRegisters == 32 || kRegisters == 48 || kRegisters == 64, "N is 64, 96 or 128");
  if constexpr (kRegisters == 32 && kHalf) {
    BITFLASH_WGMMA_SHARED("64", "f16", 32, "%32", "%33", "%34", "%35");
  } else if constexpr (kRegisters == 32 && !kHalf) {
    BITFLASH_WGMMA_SHARED("64", "bf16", 32, "%32", "%33", "%34", "%35");
  } else if constexpr (kRegisters == 48 && kHalf) {
    BITFLASH_WGMMA_SHARED("96", "f16", 48, "%48", "%49", "%50", "%51");
  } else if constexpr (kRegisters == 48 && !kHalf) {
    BITFLASH_WGMMA_SHARED("96", "bf16", 48, "%48", "%49", "%50", "%51");
  } else if constexpr (kRegisters == 64 && kHalf) {
    BITFLASH_WGMMA_SHARED("128", "f16", 64, "%64", "%65", "%66", "%67");
  } else if constexpr (kRegisters == 64 && !kHalf) {
    BITFLASH_WGMMA_SHARED("128", "bf16", 64, "%64", "%65", "%66", "%67");
  }
}

// The same with A in registers: a[0] = row 16 warp + lane / 4, columns 2 (lane % 4) and the next; a[1] = the row 8
// below; a[2], a[3] = columns + 8. So a[i] holds columns that d[2 i] and d[2 i + 1] of another product have.
template <class T, bool kColumnMajorB, int kRegisters>
__device__ __forceinline__ void Wgmma(float (&d)[kRegisters], const uint32_t* a, uint64_t b, bool accumulate) {
  constexpr bool kHalf = std::is_same_v<T, __half>;
  static_assert(kRegisters == 32 || kRegisters == 48 || kRegisters == 64 || kRegisters == 96 || kRegisters == 128,
                "N is 64, 96, 128, 192 or 256");
  if constexpr (kRegisters == 32 && kHalf) {
    BITFLASH_WGMMA_REGISTERS("64", "f16", 32, "{%32,%33,%34,%35}", "%36", "%37", "%38");
  } else if constexpr (kRegisters == 32 && !kHalf) {
    BITFLASH_WGMMA_REGISTERS("64", "bf16", 32, "{%32,%33,%34,%35}", "%36", "%37", "%38");
  } else if constexpr (kRegisters == 48 && kHalf) {
    BITFLASH_WGMMA_REGISTERS("96", "f16", 48, "{%48,%49,%50,%51}", "%52", "%53", "%54");
  } else if constexpr (kRegisters == 48 && !kHalf) {
    BITFLASH_WGMMA_REGISTERS("96", "bf16", 48, "{%48,%49,%50,%51}", "%52", "%53", "%54");
  } else if constexpr (kRegisters == 64 && kHalf) {
    BITFLASH_WGMMA_REGISTERS("128", "f16", 64, "{%64,%65,%66,%67}", "%68", "%69", "%70");
  } else if constexpr (kRegisters == 64 && !kHalf) {
    BITFLASH_WGMMA_REGISTERS("128", "bf16", 64, "{%64,%65,%66,%67}", "%68", "%69", "%70");
  } else if constexpr (kRegisters == 96 && kHalf) {
    BITFLASH_WGMMA_REGISTERS("192", "f16", 96, "{%96,%97,%98,%99}", "%100", "%101", "%102");
  } else if constexpr (kRegisters == 96 && !kHalf) {
    BITFLASH_WGMMA_REGISTERS("192", "bf16", 96, "{%96,%97,%98,%99}", "%100", "%101", "%102");
  } else if constexpr (kRegisters == 128 && kHalf) {
    BITFLASH_WGMMA_REGISTERS("256", "f16", 128, "{%128,%129,%130,%131}", "%132", "%133", "%134");
  } else if constexpr (kRegisters == 128 && !kHalf) {
    BITFLASH_WGMMA_REGISTERS("256", "bf16", 128, "{%128,%129,%130,%131}", "%132", "%133", "%134");
  }
}

#undef BITFLASH_WGMMA_REGISTERS
#undef BITFLASH_WGMMA_SHARED
#undef BITFLASH_WGMMA
#undef BITFLASH_NAMES_128
#undef BITFLASH_NAMES_96
#undef BITFLASH_NAMES_64
#undef BITFLASH_NAMES_48
#undef BITFLASH_NAMES_32
#undef BITFLASH_FLOATS_128
#undef BITFLASH_FLOATS_96
#undef BITFLASH_FLOATS_64
#undef BITFLASH_FLOATS_48
#undef BITFLASH_FLOATS_32
#undef BITFLASH_FLOATS_16
#undef BITFLASH_FLOATS_8

}  // namespace bitflash::gpu

#endif  // BITFLASH_GPU_WGMMA_CUH_
