// --device: the simulated GPU, or the one in this machine. What it does to the workload, and how results name it.
#ifndef BITFLASH_VERIFY_CLI_DEVICE_FLAG_H_
#define BITFLASH_VERIFY_CLI_DEVICE_FLAG_H_

#include <optional>
#include <string>

#include "gpu/device.h"
#include "verify/cli/command_line.h"
#include "verify/cli/output.h"
#include "verify/cli/workload.h"
#include "verify/device/device_plan.h"

namespace bitflash::verify {

enum class DeviceKind { kSimulated, kCuda };

// "cpu" or nothing, "cuda". Throws UsageError.
DeviceKind ParseDevice(const std::optional<std::string>& text);

// The workload on the GPU that stands for the device's architecture, with a note that says so. Throws UsageError when
// --gpu or --arch is of another architecture, UndecidedError when none is simulated like the device.
Workload ResolveForDevice(WorkloadFlags flags, const WorkloadFeatures& features, const gpu::Device& device);

// "NVIDIA H200 (sm90, driver 580.159.04, CUDA 13.0)".
std::string DeviceText(const gpu::Device& device);

// "device" in verify/schemas/run.schema.json. The first is the simulated GPU.
Json DeviceJson(const data::Gpu& gpu);
Json DeviceJson(const gpu::Device& device);

// "K and V in 12 pages of 16 keys, scattered over the pool"; empty for a contiguous cache.
std::string PagesText(const DevicePlan& plan);

// "packed, 200 x 257, 1 x 300" queries and keys, the first few, or "padded, ..."; empty where all sequences have the
// problem's lengths.
std::string SequencesText(const DevicePlan& plan);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_DEVICE_FLAG_H_
