// The launches of standard attention's two matrix products, portable and with wgmma; for standard_forward.cu only.
#ifndef BITFLASH_GPU_STANDARD_LAUNCH_H_
#define BITFLASH_GPU_STANDARD_LAUNCH_H_

#include "gpu/standard.cuh"

namespace bitflash::gpu {

// Br of the two; Bc is kKeysPerTile. A 128 x 128 tile of S at head_dim 128 asks L2 for 64 KiB where it writes 32: twice
// HBM's rate beside the writes is more than the L2 of an H200 is sure to deliver. 256 rows ask for a quarter less.
inline constexpr int kPortableRows = 128, kHopperRows = 256;

// Device memory of a call. S is fp32 or in the input format.
struct StandardTensors {
  const void *q, *k, *v;
  void *s, *p, *o;
};

// Compute capability 9.0; at least one key.
template <class T, class S>
void LaunchHopperScores(const StandardProblem& problem, const StandardTensors& tensors, CUstream_st* stream);
template <class T>
void LaunchHopperOutput(const StandardProblem& problem, const StandardTensors& tensors, CUstream_st* stream);

}  // namespace bitflash::gpu

#endif  // BITFLASH_GPU_STANDARD_LAUNCH_H_
