// FlashAttention-3, forward, for compute capability 9.0: Shah et al. 2024 (arXiv 2407.08608). Twin:
// sim/kernels/fa3_forward.cc; what decides bits is its recipe "bitflash" and Bc.
//
// One block an SM takes one query tile after another. Its first warpgroup hands registers to the others; one of its
// threads, the producer (fa3_producer.cuh), keeps rings of K and V tiles filled by TMA. Every other warpgroup, a
// consumer (fa3_consumer.cuh), multiplies 64 rows of the query tile with them by wgmma. They meet at barriers in shared
// memory only (fa3_tile.cuh); fa3_schedule.cuh says which tile is next.
#ifndef BITFLASH_GPU_FA3_FORWARD_CUH_
#define BITFLASH_GPU_FA3_FORWARD_CUH_

#include "gpu/fa3_consumer.cuh"
#include "gpu/fa3_producer.cuh"

namespace bitflash::gpu::fa3 {

// Before every launch that counts tiles: a workspace may hold anything.
__global__ void fa3_reset(int* next_tile) {
  LaunchDependents();
  WaitForPrimary();  // a launch before may still count
  *next_tile = 0;
}

template <class C>
__global__ void __launch_bounds__(C::kThreads, 1) fa3_forward(const __grid_constant__ Parameters p) {
#if BITFLASH_HOPPER_DEVICE
  extern __shared__ unsigned char raw[];
  const Shared<C> shared(AlignedShared(raw));
  if (threadIdx.x == 0) shared.InitBarriers();
  __syncthreads();
  LaunchDependents();  // whose blocks take the place of those of this kernel that are done

  const int group = WarpGroup();
  if (group == 0) {
    LowerRegisters<C::kShape.producer_registers>();
    if (threadIdx.x == 0) {
      WaitForPrimary();
      Producer<C>(p, shared).Run();
    }
  } else {
    RaiseRegisters<C::kShape.consumer_registers>();
    Consumer<C>(p, shared, group - 1).Run();
  }
#else
  NotForThisDevice();
#endif
}

}  // namespace bitflash::gpu::fa3

#endif  // BITFLASH_GPU_FA3_FORWARD_CUH_
