#include "verify/cli/cpu_kernel_flag.h"

#include <fmt/format.h>

#include <string_view>
#include <utility>

#include "data/error.h"

namespace bitflash::verify {

const CpuKernel* NamedCpuKernel(const WorkloadFlags& flags) {
  if (!flags.kernel) return nullptr;
  const CpuKernel* kernel = nullptr;
  size_t names = 0;
  for (std::string_view rest = *flags.kernel;; ++names) {
    const size_t comma = rest.find(',');
    if (const CpuKernel* found = FindCpuKernel(rest.substr(0, comma))) kernel = found;
    if (comma == std::string_view::npos) break;
    rest.remove_prefix(comma + 1);
  }
  if (kernel != nullptr && names > 0) {
    throw data::UsageError(fmt::format("--kernel: {} runs on the CPU, expected it alone", kernel->name));
  }
  return kernel;
}

void RefuseSimulationFlags(const CpuKernel& kernel, const WorkloadFlags& f) {
  const std::pair<const char*, bool> flags[] = {
      {"--gpu", f.gpu.has_value()},     {"--arch", f.arch.has_value()},           {"--tile", f.tile.has_value()},
      {"--warps", f.warps.has_value()}, {"--stages", f.stages.has_value()},       {"--splits", f.splits.has_value()},
      {"--chunk", f.chunk.has_value()}, {"--page-size", f.page_size.has_value()}, {"--pack-gqa", f.pack_gqa},
      {"--fp32-scores", f.fp32_scores}};
  for (const auto& [flag, given] : flags) {
    if (!given) continue;
    throw data::UsageError(fmt::format(
        "{} contradicts --kernel {}, which runs on the CPU and chooses its own tiles: expected only flags of "
        "the attention, the inputs and the output",
        flag, kernel.name));
  }
}

WorkloadFeatures WithoutSimulation(WorkloadFeatures features) {
  features.gpu = features.kernel = false;
  return features;
}

}  // namespace bitflash::verify
