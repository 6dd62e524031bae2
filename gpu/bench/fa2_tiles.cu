// Times fa2_forward with tiles that nobody ships, for data/golden/time: what the model of time says about tiles is held
// against it. Not part of the build (a minute for the compiler); on a machine with the GPU, from the repository's root:
//   nvcc -std=c++20 -O3 --expt-relaxed-constexpr -gencode=arch=compute_90a,code=sm_90a -I. gpu/bench/fa2_tiles.cu \
//     build/gpu/data/libbitflash_data.a -lz -o fa2_tiles
//   ncu --clock-control none --metrics gpu__time_duration.sum,sm__cycles_elapsed.max --csv --page raw ./fa2_tiles
// Prints a line for every launch, in order: tile, problem, registers, bytes of spills, shared memory, blocks an SM.
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>

#include "gpu/fa2_forward.cuh"

namespace bitflash::gpu {
namespace {

constexpr int64_t kTensorBytes = int64_t{64} << 20;

const data::Attention kProblems[] = {
    {.batch = 1, .heads_q = 16, .heads_kv = 16, .seqlen_q = 4096, .seqlen_k = 4096},
    {.batch = 4, .heads_q = 32, .heads_kv = 8, .seqlen_q = 2048, .seqlen_k = 2048, .mask = data::Mask::Causal()},
    {.batch = 1, .heads_q = 8, .heads_kv = 8, .seqlen_q = 1024, .seqlen_k = 1024},
};

// As the shipped configurations, but with as many blocks an SM as registers and shared memory leave room for.
template <int D, int Br, int Bc, int kWarps, int kStages, int kBlocks>
struct Tiled : fa2::Config<__nv_bfloat16, D, Br, Bc, kWarps, kStages> {
  static constexpr int kBlocksPerSm = kBlocks;
};

Strides Contiguous(int64_t heads, int64_t rows, int64_t columns) {
  return {.batch = heads * rows * columns, .head = rows * columns, .row = columns};
}

template <int D, int Br, int Bc, int kWarps, int kStages, int kBlocks>
void Time(char* memory) {
  using C = Tiled<D, Br, Bc, kWarps, kStages, kBlocks>;
  const auto kernel = fa2::fa2_forward<C>;
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, C::kSharedBytes);
  cudaFuncAttributes attributes{};
  cudaFuncGetAttributes(&attributes, kernel);
  int blocks = 0;
  cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, C::kThreads, C::kSharedBytes);
  for (data::Attention a : kProblems) {
    a.head_dim = a.head_dim_v = D;
    a.format = data::Format::kBf16;
    fa2::Parameters p{};
    p.t.q = memory, p.t.k = memory + kTensorBytes, p.t.v = memory + 2 * kTensorBytes, p.t.o = memory + 3 * kTensorBytes;
    p.t.lse = reinterpret_cast<float*>(memory + 4 * kTensorBytes);
    p.t.q_strides = p.t.o_strides = Contiguous(a.heads_q, a.seqlen_q, D);
    p.t.k_strides = p.t.v_strides = Contiguous(a.heads_kv, a.seqlen_k, D);
    p.seqlen_q = static_cast<int>(a.seqlen_q), p.group = static_cast<int>(a.group());
    p.visible = VisibleKeys(a.mask, a.seqlen_q, static_cast<int>(a.seqlen_k));
    p.scale = ScaleOf(a);
    const dim3 grid(static_cast<unsigned>((a.seqlen_q + Br - 1) / Br), static_cast<unsigned>(a.heads_q),
                    static_cast<unsigned>(a.batch));
    kernel<<<grid, C::kThreads, C::kSharedBytes>>>(p);
    const cudaError_t error = cudaDeviceSynchronize();
    std::printf("%dx%d, %d warps, %d stages; %s; registers %d, spilled %d, shared %d, blocks %d: %s\n", Br, Bc, kWarps,
                kStages, data::ToString(a).c_str(), attributes.numRegs, static_cast<int>(attributes.localSizeBytes),
                C::kSharedBytes, blocks, cudaGetErrorString(error));
  }
}

void TimeAll(char* m) {
  Time<128, 128, 64, 4, 1, 2>(m), Time<128, 128, 64, 4, 2, 2>(m), Time<128, 64, 64, 4, 1, 3>(m);
  Time<128, 64, 64, 4, 2, 2>(m), Time<128, 128, 32, 4, 2, 2>(m), Time<128, 64, 128, 4, 1, 2>(m);
  Time<128, 64, 32, 4, 2, 3>(m), Time<128, 128, 64, 8, 1, 1>(m), Time<128, 128, 64, 8, 2, 1>(m);
  Time<128, 128, 128, 8, 1, 1>(m), Time<128, 128, 128, 8, 2, 1>(m), Time<128, 64, 64, 2, 2, 2>(m);
  Time<128, 32, 64, 2, 1, 4>(m), Time<128, 256, 64, 8, 1, 1>(m);
  Time<64, 128, 128, 4, 1, 2>(m), Time<64, 128, 128, 4, 2, 2>(m), Time<64, 128, 64, 4, 1, 2>(m);
  Time<64, 128, 64, 4, 2, 2>(m), Time<64, 64, 128, 4, 2, 3>(m), Time<64, 64, 64, 4, 2, 4>(m);
  Time<64, 64, 64, 4, 1, 4>(m), Time<64, 128, 128, 8, 2, 1>(m), Time<64, 128, 64, 8, 2, 2>(m);
  Time<64, 64, 256, 4, 1, 2>(m);
}

}  // namespace
}  // namespace bitflash::gpu

int main() {
  char* memory = nullptr;
  if (cudaMalloc(&memory, 5 * bitflash::gpu::kTensorBytes) != cudaSuccess) return 1;
  cudaMemset(memory, 0, 5 * bitflash::gpu::kTensorBytes);
  bitflash::gpu::TimeAll(memory);
  return 0;
}
