#include "sim/kernels/kernels.h"

#include <string>

#include "data/error.h"
#include "sim/kernels/entries.h"

namespace bitflash::sim {

const std::vector<Kernel>& Kernels() {
  static const std::vector<Kernel> kernels = {
      StandardForward(), Fa1Forward(), Fa2Forward(), Fa3Forward(), SplitKvDecode(),
  };
  return kernels;
}

const Kernel& FindKernel(std::string_view name) {
  std::string accepted;
  for (const Kernel& kernel : Kernels()) {
    if (kernel.name == name) return kernel;
    accepted += (accepted.empty() ? "" : ", ") + std::string(kernel.name);
  }
  throw data::UsageError("unknown kernel '" + std::string(name) + "': expected one of " + accepted);
}

}  // namespace bitflash::sim
