#include "verify/cli/device_flag.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "data/error.h"
#include "sim/ceil_div.h"
#include "verify/cli/length_flags.h"
#include "verify/cli/suggest.h"
#include "verify/cli/text.h"

namespace bitflash::verify {

using data::UsageError;

DeviceKind ParseDevice(const std::optional<std::string>& text) {
  if (!text || *text == "cpu") return DeviceKind::kSimulated;
  if (*text == "cuda") return DeviceKind::kCuda;
  // No suggestion: the word nearest to "gpu" would be "cpu".
  throw UsageError(fmt::format("unknown device '{}' (accepted: cpu, cuda)", Printable(*text)));
}

Workload ResolveForDevice(WorkloadFlags flags, const WorkloadFeatures& features, const gpu::Device& device) {
  const std::string arch = device.arch();
  if (flags.gpu || flags.arch) {
    Workload workload = ResolveWorkload(flags, features);
    if (workload.gpu.arch != arch) {
      throw UsageError(fmt::format("{} contradicts --device cuda: that is {}, and the device, {}, is {}",
                                   flags.gpu ? "--gpu " + *flags.gpu : "--arch " + *flags.arch, workload.gpu.arch,
                                   device.name, arch));
    }
    return workload;
  }
  const std::vector<std::string> simulated = ArchitectureNames();
  if (std::find(simulated.begin(), simulated.end(), arch) == simulated.end()) {
    throw data::UndecidedError(
        fmt::format("the device, {}, is {}: no such GPU is simulated ({} are)", device.name, arch, Join(simulated)));
  }
  flags.arch = arch;
  Workload workload = ResolveWorkload(flags, features);
  workload.notes.push_back(
      fmt::format("the device, {}, is {}: {} stands for it", device.name, arch, workload.gpu.name));
  return workload;
}

std::string DeviceText(const gpu::Device& device) {
  const std::string driver = device.driver.empty() ? "" : ", driver " + device.driver;
  return fmt::format("{} ({}{}, CUDA {})", device.name, device.arch(), driver, device.driver_cuda);
}

Json DeviceJson(const data::Gpu& gpu) {
  return {{"kind", "simulated"}, {"name", gpu.title},      {"arch", gpu.arch},
          {"driver", nullptr},   {"driver_cuda", nullptr}, {"runtime_cuda", nullptr}};
}

Json DeviceJson(const gpu::Device& device) {
  return {{"kind", "cuda"},
          {"name", device.name},
          {"arch", device.arch()},
          {"driver", device.driver.empty() ? Json(nullptr) : Json(device.driver)},
          {"driver_cuda", device.driver_cuda},
          {"runtime_cuda", device.runtime_cuda}};
}

std::string PagesText(const DevicePlan& plan) {
  if (plan.options.page_size == 0) return "";
  int64_t pages = 0;
  for (int64_t b = 0; b < plan.attention.batch; ++b) {
    const int64_t keys = plan.keys.empty() ? plan.attention.seqlen_k : plan.keys[static_cast<size_t>(b)];
    pages += sim::CeilDiv(keys, plan.options.page_size);
  }
  return fmt::format("K and V in {} pages of {} keys, scattered over the pool", pages, plan.options.page_size);
}

std::string SequencesText(const DevicePlan& plan) {
  if (plan.keys.empty()) return "";
  return (plan.packed() ? "packed, " : "padded, ") + LengthsText(plan.attention, {plan.queries, plan.keys});
}

}  // namespace bitflash::verify
