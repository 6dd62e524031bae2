// Measured times in data/golden: what constants are fitted to, and what the model is judged by. For tests and for the
// program that fits.
#ifndef BITFLASH_SIM_TIME_MEASURED_H_
#define BITFLASH_SIM_TIME_MEASURED_H_

#include <string>
#include <vector>

#include "sim/count.h"

namespace bitflash::sim {

// One launch that Nsight Compute timed, and how its twin runs.
struct MeasuredLaunch {
  std::string file;  // below data/golden
  std::string name;  // "fa2 b1_h8-8_s188x188_d64_bf16_full"
  const Kernel* kernel = nullptr;
  Attention attention;
  Tiling tiling;
  Gpu gpu;
  size_t step = 0;  // of the kernel's launches
  double seconds = 0;
  int64_t blocks_per_sm = 0;  // as the CUDA runtime found for the compiled kernel; 0: not recorded
  // Constants were never fitted to it: its name's FNV-1a hash is odd. Decided before anything was fitted.
  bool held_out = false;
};

// All of data/golden/FILE. `root` is the repository's. Throws InputError.
std::vector<MeasuredLaunch> ReadMeasured(const std::string& root, const std::string& file, const std::string& gpu);

// The files that there are.
std::vector<MeasuredLaunch> ReadAllMeasured(const std::string& root);

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_TIME_MEASURED_H_
