// The launches of standard attention's two matrix products, portable and with wgmma; for standard_forward.cu only.
#ifndef BITFLASH_GPU_STANDARD_LAUNCH_H_
#define BITFLASH_GPU_STANDARD_LAUNCH_H_

#include "gpu/standard.cuh"

namespace bitflash::gpu {

// Bc is kKeysPerTile. Two fifths fewer bytes between L2 and the SMs are what 256 rows are for: with 128 x 128 tiles the
// scores of head_dim 128 ask L2 for four bytes where they write two, more than it delivers while HBM is busy.
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
