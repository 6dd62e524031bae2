// The matrix instructions that tensor_core_probe asks about, each as a device function on a small tile: A [M x K] and
// B [N x K] are patterns of the input format, one per 32-bit word, the columns of B contiguous; C and D [M x N] are
// patterns of the accumulator. Fragments: PTX ISA, "Matrix Fragments for mma.m16n8k..." and "wgmma ... Register
// Fragments".
#ifndef BITFLASH_GPU_PROBES_MATRIX_INSTRUCTIONS_CUH_
#define BITFLASH_GPU_PROBES_MATRIX_INSTRUCTIONS_CUH_

#include <cstdint>

#include "gpu/probes/fdpa.h"

// wgmma exists in code for sm_90a alone.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define PROBE_HAS_WGMMA 1
#else
#define PROBE_HAS_WGMMA 0
#endif

namespace bitflash::gpu::probe {

constexpr int kThreads = 128;  // of every block

// `bits` wide patterns, the first in the low bits.
template <int bits>
__device__ uint32_t PackRegister(const uint32_t* patterns) {
  uint32_t word = 0;
#pragma unroll
  for (int i = 0; i < 32 / bits; ++i) word |= patterns[i] << (i * bits % 32);
  return word;
}

// --- mma.sync --------------------------------------------------------------------------------------------------------
// With P patterns to a 32-bit register, K is 8 P for all of them. Lane = 4 row + quad. a0: row, k = P quad to
// P quad + P - 1; a1: row + 8; a2, a3: the same at k + K / 2. b0, b1: column `row`, the k of a0 and a2.
struct MmaFragments {
  uint32_t a[4], b[2];
};

template <int bits>
__device__ MmaFragments LoadMma(const uint32_t* a, const uint32_t* b) {
  constexpr int P = 32 / bits, K = 8 * P;
  const int row = threadIdx.x % 32 / 4, k = P * (threadIdx.x % 4);
  MmaFragments f;
  f.a[0] = PackRegister<bits>(a + row * K + k);
  f.a[1] = PackRegister<bits>(a + (row + 8) * K + k);
  f.a[2] = PackRegister<bits>(a + row * K + k + K / 2);
  f.a[3] = PackRegister<bits>(a + (row + 8) * K + k + K / 2);
  f.b[0] = PackRegister<bits>(b + row * K + k);
  f.b[1] = PackRegister<bits>(b + row * K + k + K / 2);
  return f;
}

// An fp32 accumulator: four words, rows `row` and row + 8, columns 2 quad and 2 quad + 1. The registers are moved,
// never computed with, so that the payload of a NaN in C arrives.
#define PROBE_MMA_FP32(TEXT)                                                                    \
  const MmaFragments f = LoadMma<LayoutOf(kInput).bits>(a, b);                                  \
  const int at = threadIdx.x % 32 / 4 * 8 + 2 * (threadIdx.x % 4);                              \
  float d0 = __uint_as_float(c[at]), d1 = __uint_as_float(c[at + 1]);                           \
  float d2 = __uint_as_float(c[at + 64]), d3 = __uint_as_float(c[at + 65]);                     \
  asm volatile(TEXT " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"                    \
               : "+f"(d0), "+f"(d1), "+f"(d2), "+f"(d3)                                         \
               : "r"(f.a[0]), "r"(f.a[1]), "r"(f.a[2]), "r"(f.a[3]), "r"(f.b[0]), "r"(f.b[1])); \
  d[at] = __float_as_uint(d0), d[at + 1] = __float_as_uint(d1);                                 \
  d[at + 64] = __float_as_uint(d2), d[at + 65] = __float_as_uint(d3);

// An fp16 accumulator: two words of two.
#define PROBE_MMA_FP16(TEXT)                                                                    \
  const MmaFragments f = LoadMma<LayoutOf(kInput).bits>(a, b);                                  \
  const int at = threadIdx.x % 32 / 4 * 8 + 2 * (threadIdx.x % 4);                              \
  uint32_t d0 = PackRegister<16>(c + at), d1 = PackRegister<16>(c + at + 64);                   \
  asm volatile(TEXT " {%0,%1}, {%2,%3,%4,%5}, {%6,%7}, {%0,%1};"                                \
               : "+r"(d0), "+r"(d1)                                                             \
               : "r"(f.a[0]), "r"(f.a[1]), "r"(f.a[2]), "r"(f.a[3]), "r"(f.b[0]), "r"(f.b[1])); \
  d[at] = d0 & 0xFFFF, d[at + 1] = d0 >> 16, d[at + 64] = d1 & 0xFFFF, d[at + 65] = d1 >> 16;

// --- wgmma -----------------------------------------------------------------------------------------------------------
// m64n8, one warpgroup, A and B in shared memory, K-major with the 128-byte swizzle; the k of one instruction fill the
// first 32 bytes of each 128-byte row. 16-byte unit u of row r lies at r * 128 + ((u ^ (r % 8)) << 4).
template <int bits, int rows>
__device__ void StoreWgmma(unsigned char* tile, const uint32_t* patterns) {
  constexpr int P = 32 / bits;
  for (int word = threadIdx.x; word < rows * 8; word += kThreads) {
    const int row = word / 8, in_row = word % 8;
    const int offset = row * 128 + (((in_row / 4) ^ (row % 8)) << 4) + in_row % 4 * 4;
    *reinterpret_cast<uint32_t*>(tile + offset) = PackRegister<bits>(patterns + word * P);
  }
}

// Start address, 1024 bytes from eight rows to the next, 128-byte swizzle (PTX ISA, "Matrix Descriptor").
__device__ inline uint64_t WgmmaDescriptor(const unsigned char* tile) {
  const uint64_t address = __cvta_generic_to_shared(tile);
  return 0x4000004000010000ull | (address & 0x3FFFF) >> 4;
}

template <int bits>
__device__ void LoadWgmma(const uint32_t* a, const uint32_t* b, uint64_t& descriptor_a, uint64_t& descriptor_b) {
  __shared__ alignas(1024) unsigned char tile[(64 + 8) * 128];
  __syncthreads();  // the tile before has been read
  StoreWgmma<bits, 64>(tile, a);
  StoreWgmma<bits, 8>(tile + 64 * 128, b);
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();
  descriptor_a = WgmmaDescriptor(tile), descriptor_b = WgmmaDescriptor(tile + 64 * 128);
}

// Accumulator of warp w: rows 16 w + lane / 4 and 8 below, columns 2 quad and 2 quad + 1. END: what follows scale-d.
#define PROBE_WGMMA_FP32(TEXT, END)                                                          \
  uint64_t at_a, at_b;                                                                       \
  LoadWgmma<LayoutOf(kInput).bits>(a, b, at_a, at_b);                                        \
  const int at = (threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4) * 8 + 2 * (threadIdx.x % 4); \
  float d0 = __uint_as_float(c[at]), d1 = __uint_as_float(c[at + 1]);                        \
  float d2 = __uint_as_float(c[at + 64]), d3 = __uint_as_float(c[at + 65]);                  \
  asm volatile("{ .reg .pred p;\n setp.eq.u32 p, 0, 0;\n wgmma.fence.sync.aligned;\n" TEXT   \
               " {%0,%1,%2,%3}, %4, %5, p, " END                                             \
               ";\n"                                                                         \
               "wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0; }"        \
               : "+f"(d0), "+f"(d1), "+f"(d2), "+f"(d3)                                      \
               : "l"(at_a), "l"(at_b)                                                        \
               : "memory");                                                                  \
  d[at] = __float_as_uint(d0), d[at + 1] = __float_as_uint(d1);                              \
  d[at + 64] = __float_as_uint(d2), d[at + 65] = __float_as_uint(d3);

#define PROBE_WGMMA_FP16(TEXT, END)                                                                                    \
  uint64_t at_a, at_b;                                                                                                 \
  LoadWgmma<LayoutOf(kInput).bits>(a, b, at_a, at_b);                                                                  \
  const int at = (threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4) * 8 + 2 * (threadIdx.x % 4);                           \
  uint32_t d0 = PackRegister<16>(c + at), d1 = PackRegister<16>(c + at + 64);                                          \
  asm volatile("{ .reg .pred p;\n setp.eq.u32 p, 0, 0;\n wgmma.fence.sync.aligned;\n" TEXT " {%0,%1}, %2, %3, p, " END \
               ";\n"                                                                                                   \
               "wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0; }"                                  \
               : "+r"(d0), "+r"(d1)                                                                                    \
               : "l"(at_a), "l"(at_b)                                                                                  \
               : "memory");                                                                                            \
  d[at] = d0 & 0xFFFF, d[at + 1] = d0 >> 16, d[at + 64] = d1 & 0xFFFF, d[at + 65] = d1 >> 16;

// --- The list --------------------------------------------------------------------------------------------------------
// An instruction that the target of this compilation lacks must not stand in its code: the assembler would refuse it.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 890
#define PROBE_SINCE_89(BODY) BODY
#else
#define PROBE_SINCE_89(BODY) __trap();
#endif
#if PROBE_HAS_WGMMA
#define PROBE_ON_90A(BODY) BODY
#else
#define PROBE_ON_90A(BODY) __trap();
#endif

// SINCE: the least compute capability, times 10, of the code that has it. WGMMA: it needs code for sm_90a.
#define PROBE_INSTRUCTION(TYPE, NAME, INPUT, FP16, ROWS, SINCE, WGMMA, BODY)                                  \
  struct TYPE {                                                                                               \
    static constexpr const char* kName = NAME;                                                                \
    static constexpr Input kInput = INPUT;                                                                    \
    static constexpr bool kFp16Accumulator = FP16;                                                            \
    static constexpr int kM = ROWS, kN = 8, kK = 256 / LayoutOf(INPUT).bits;                                  \
    static constexpr int kSince = SINCE;                                                                      \
    static constexpr bool kWgmma = WGMMA;                                                                     \
    static __device__ void Run(const uint32_t* a, const uint32_t* b, const uint32_t* c, uint32_t* d) { BODY } \
  };
#define PROBE_MMA(TYPE, INPUT, SHAPE, TYPES)                                        \
  PROBE_INSTRUCTION(TYPE, "mma.sync." SHAPE "." TYPES, INPUT, false, 16, 80, false, \
                    PROBE_MMA_FP32("mma.sync.aligned." SHAPE ".row.col." TYPES))

PROBE_MMA(MmaFp16, Input::kFp16, "m16n8k16", "f32.f16.f16.f32")
PROBE_INSTRUCTION(MmaFp16ToFp16, "mma.sync.m16n8k16.f16.f16.f16.f16", Input::kFp16, true, 16, 80, false,
                  PROBE_MMA_FP16("mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16"))
PROBE_MMA(MmaBf16, Input::kBf16, "m16n8k16", "f32.bf16.bf16.f32")
PROBE_MMA(MmaTf32, Input::kTf32, "m16n8k8", "f32.tf32.tf32.f32")
#define PROBE_MMA_FP8(TYPE, INPUT, FORMAT)                                                                \
  PROBE_INSTRUCTION(TYPE, "mma.sync.m16n8k32.f32." FORMAT "." FORMAT ".f32", INPUT, false, 16, 89, false, \
                    PROBE_SINCE_89(PROBE_MMA_FP32("mma.sync.aligned.m16n8k32.row.col.f32." FORMAT "." FORMAT ".f32")))
PROBE_MMA_FP8(MmaE4m3, Input::kE4m3, "e4m3")
PROBE_MMA_FP8(MmaE5m2, Input::kE5m2, "e5m2")

#define PROBE_WGMMA(TYPE, INPUT, FP16, SHAPE, TYPES, BODY, END)                \
  PROBE_INSTRUCTION(TYPE, "wgmma." SHAPE "." TYPES, INPUT, FP16, 64, 90, true, \
                    PROBE_ON_90A(BODY("wgmma.mma_async.sync.aligned." SHAPE "." TYPES, END)))
PROBE_WGMMA(WgmmaFp16, Input::kFp16, false, "m64n8k16", "f32.f16.f16", PROBE_WGMMA_FP32, "1, 1, 0, 0")
PROBE_WGMMA(WgmmaFp16ToFp16, Input::kFp16, true, "m64n8k16", "f16.f16.f16", PROBE_WGMMA_FP16, "1, 1, 0, 0")
PROBE_WGMMA(WgmmaBf16, Input::kBf16, false, "m64n8k16", "f32.bf16.bf16", PROBE_WGMMA_FP32, "1, 1, 0, 0")
PROBE_WGMMA(WgmmaTf32, Input::kTf32, false, "m64n8k8", "f32.tf32.tf32", PROBE_WGMMA_FP32, "1, 1")
PROBE_WGMMA(WgmmaE4m3, Input::kE4m3, false, "m64n8k32", "f32.e4m3.e4m3", PROBE_WGMMA_FP32, "1, 1")
PROBE_WGMMA(WgmmaE5m2, Input::kE5m2, false, "m64n8k32", "f32.e5m2.e5m2", PROBE_WGMMA_FP32, "1, 1")
PROBE_WGMMA(WgmmaE4m3ToFp16, Input::kE4m3, true, "m64n8k32", "f16.e4m3.e4m3", PROBE_WGMMA_FP16, "1, 1")
PROBE_WGMMA(WgmmaE5m2ToFp16, Input::kE5m2, true, "m64n8k32", "f16.e5m2.e5m2", PROBE_WGMMA_FP16, "1, 1")

// Every tile of [tiles][...] arrays: a warp each for mma.sync, a block each for wgmma.
template <class Instruction>
__global__ void __launch_bounds__(kThreads)
    RunInstruction(const uint32_t* a, const uint32_t* b, const uint32_t* c, uint32_t* d, int64_t tiles) {
  constexpr int M = Instruction::kM, N = Instruction::kN, K = Instruction::kK;
  constexpr int kWarps = Instruction::kWgmma ? 1 : kThreads / 32;  // tiles that a block works on at a time
  const int warp = Instruction::kWgmma ? 0 : static_cast<int>(threadIdx.x / 32);
  for (int64_t tile = static_cast<int64_t>(blockIdx.x) * kWarps + warp; tile < tiles;
       tile += static_cast<int64_t>(gridDim.x) * kWarps) {
    Instruction::Run(a + tile * M * K, b + tile * N * K, c + tile * M * N, d + tile * M * N);
  }
}

}  // namespace bitflash::gpu::probe

#endif  // BITFLASH_GPU_PROBES_MATRIX_INSTRUCTIONS_CUH_
