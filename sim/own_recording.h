// The recordings of this repository's own CUDA kernels, data/golden/own: on which GPU, and how the twins run them. For
// tests.
#ifndef BITFLASH_SIM_OWN_RECORDING_H_
#define BITFLASH_SIM_OWN_RECORDING_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/gpu.h"
#include "sim/kernels/kernels.h"

namespace bitflash::sim {

// A launch that no twin has: one thread sets the counter by which fa3's blocks take tiles to 0.
inline constexpr std::string_view kCounterReset = "fa3_reset";

struct OwnRecording {
  Gpu gpu;                    // the built-in facts of the GPU that data/golden/own/manifest.json names
  std::string nsight;         // the file of counters, below data/golden
  int64_t nsight_launches{};  // its rows
};
OwnRecording ReadOwnRecording();

// The kernels that the folder has a recording of, "fa2".
std::vector<std::string> RecordedKernels();

// The twin's own tile for the problem, with the choices that the caller of the CUDA kernel made. Not the recorded tile:
// kernel and twin must not drift apart.
Tiling TwinTiling(const Kernel& kernel, const Attention& a, const Gpu& gpu, int64_t chunk, int64_t page_size,
                  bool fp32_scores);

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_OWN_RECORDING_H_
