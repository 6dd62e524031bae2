// bitflash doctor: what this build and this machine have.
#include <fmt/format.h>
#include <hwy/highway.h>
#include <omp.h>
#include <unistd.h>
#include <zlib.h>

#include <CLI/Version.hpp>
#include <exception>
#include <nlohmann/json.hpp>
#include <optional>

#include "verify/cli/commands.h"
#include "verify/cli/cuda_probe.h"
#include "verify/cli/device_flag.h"
#include "verify/cli/output.h"
#include "verify/cli/suggest.h"
#include "verify/cli/table.h"
#include "verify/cli/text.h"
#include "verify/cli/units.h"
#include "verify/device/device_run.h"
#include "verify/subjects/cpu_kernel.h"

namespace bitflash::verify {
namespace {

std::vector<std::string> TargetNames(int64_t targets) {
  std::vector<std::string> names;
  // Better targets have lower bits (hwy/detect_targets.h).
  for (int bit = 0; bit < 62; ++bit) {
    if (targets & (int64_t{1} << bit)) names.emplace_back(hwy::TargetName(int64_t{1} << bit));
  }
  return names;
}

std::string Compiler() {
#ifdef __clang__
  return "clang " __clang_version__;
#else
  return "g++ " __VERSION__;
#endif
}

const char* BuildType() {
#ifdef NDEBUG
  return "release (assertions off)";
#else
  return "debug (assertions on)";
#endif
}

const char* Sanitizers() {
#ifdef __SANITIZE_ADDRESS__
  return "address, undefined";
#else
  return "none";
#endif
}

// The CUDA kernels and what the CUDA runtime says of the current device.
struct GpuFolder {
  std::vector<gpu::Kernel> kernels;
  std::optional<gpu::Device> device;
  std::string no_device;  // why there is none
};

GpuFolder InspectGpu() {
  GpuFolder folder;
  try {
    folder.kernels = CudaKernels();
    folder.device = CurrentCudaDevice();
  } catch (const std::exception& error) {
    folder.no_device = error.what();
  }
  return folder;
}

Json KernelJson(const gpu::Kernel& kernel) {
  return {{"name", kernel.name}, {"title", kernel.title}, {"launches", kernel.launches}};
}

Json FactsJson(const gpu::Device& d) {
  Json json = DeviceJson(d);
  json.erase("kind");
  json.update({{"sms", d.sms},
               {"memory_bytes", d.memory_bytes},
               {"l2_bytes", d.l2_bytes},
               {"shared_bytes_per_block", d.shared_bytes_per_block},
               {"shared_bytes_per_sm", d.shared_bytes_per_sm},
               {"shared_bytes_reserved", d.shared_bytes_reserved},
               {"registers_per_sm", d.registers_per_sm},
               {"threads_per_sm", d.threads_per_sm},
               {"threads_per_block", d.threads_per_block},
               {"blocks_per_sm", d.blocks_per_sm},
               {"clock_khz", d.clock_khz},
               {"memory_clock_khz", d.memory_clock_khz},
               {"memory_bus_bits", d.memory_bus_bits}});
  return json;
}

void AddGpuRows(Table& table, const GpuFolder& folder) {
  std::string built = GpuIsBuilt() ? "built, without kernels" : "not built (the CPU needs nothing of it)";
  if (!folder.kernels.empty()) built = fmt::format("built, {} kernels", folder.kernels.size());
  table.Row({"gpu/", built});
  for (const gpu::Kernel& kernel : folder.kernels) {
    const std::vector<std::string> launches(kernel.launches.begin(), kernel.launches.end());
    table.Row({"", fmt::format("{}: {} ({})", kernel.name, kernel.title, Join(launches))});
  }
  if (!folder.device) {
    if (GpuIsBuilt()) table.Row({"", Printable(folder.no_device)});
    return;
  }
  const gpu::Device& d = *folder.device;
  table.Row({"device", fmt::format("{}; built with CUDA {}", Printable(DeviceText(d)), d.runtime_cuda)});
  table.Row({"", fmt::format("memory {}, L2 {}, {} SMs", Bytes(d.memory_bytes), Bytes(d.l2_bytes), d.sms)});
  table.Row({"", fmt::format("shared memory {} a block, {} an SM, {} reserved a block", Bytes(d.shared_bytes_per_block),
                             Bytes(d.shared_bytes_per_sm), Bytes(d.shared_bytes_reserved))});
  table.Row({"", fmt::format("an SM has {} registers, {} threads, {} blocks at most", Grouped(d.registers_per_sm),
                             Grouped(d.threads_per_sm), d.blocks_per_sm)});
  const std::string memory_clock =
      d.memory_clock_khz == 0 ? "not told" : fmt::format("{} MHz", Grouped(d.memory_clock_khz / 1000));
  table.Row({"", fmt::format("highest SM clock {} MHz, memory clock {}, bus of {} bits", Grouped(d.clock_khz / 1000),
                             memory_clock, Grouped(d.memory_bus_bits))});
}

}  // namespace

ExitCode Doctor(const Arguments& arguments) {
  CommandLine line("doctor", "Says what this build and this machine have. Nothing that it reports is an error.",
                   {{"bitflash doctor", "SIMD targets, threads, memory, CUDA"}});
  OutputFlags flags;
  AddOutputFlags(line, flags);
  line.Parse(arguments);
  Output output("doctor", flags);

  // The targets that dynamic dispatch may choose from: compiled in, and of this processor.
  const std::vector<std::string> compiled = TargetNames(HWY_TARGETS);
  const std::vector<std::string> usable = TargetNames(HWY_TARGETS & hwy::SupportedTargets());
  const int64_t memory_bytes = int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGE_SIZE);
  const CudaProbe cuda = ProbeCuda();
  const GpuFolder folder = InspectGpu();
  const std::vector<std::pair<std::string, std::string>> libraries = {
      {"highway", fmt::format("{}.{}.{}", HWY_MAJOR, HWY_MINOR, HWY_PATCH)},
      {"cli11", CLI11_VERSION},
      {"fmt", fmt::format("{}.{}.{}", FMT_VERSION / 10000, FMT_VERSION / 100 % 100, FMT_VERSION % 100)},
      {"nlohmann_json",
       fmt::format("{}.{}.{}", NLOHMANN_JSON_VERSION_MAJOR, NLOHMANN_JSON_VERSION_MINOR, NLOHMANN_JSON_VERSION_PATCH)},
      {"zlib", zlibVersion()}};

  Json json = {
      {"schema", "bitflash.doctor/1"},
      {"version", BITFLASH_VERSION},
      {"build", {{"compiler", Compiler()}, {"type", BuildType()}, {"sanitizers", Sanitizers()}, {"gpu", GpuIsBuilt()}}},
      {"libraries", Json::object()},
      {"simd", {{"compiled", compiled}, {"usable", usable}}},
      {"threads", {{"used", omp_get_max_threads()}, {"processors", omp_get_num_procs()}}},
      {"memory_bytes", memory_bytes},
      {"cuda", {{"status", cuda.status}, {"driver_version", cuda.driver_version}, {"devices", Json::array()}}}};
  Table table({{""}, {""}});
  table.Row({"bitflash", BITFLASH_VERSION});
  table.Row({"compiler", Compiler()});
  table.Row({"build", fmt::format("{}, sanitizers: {}", BuildType(), Sanitizers())});
  std::string versions;
  for (const auto& [name, version] : libraries) {
    json["libraries"][name] = version;
    versions += fmt::format("{}{} {}", versions.empty() ? "" : ", ", name, version);
  }
  table.Row({"libraries", versions});
  table.Row({"SIMD", fmt::format("{} (usable here: {}; compiled: {})", usable.empty() ? "none" : usable.front(),
                                 Join(usable), Join(compiled))});
  json["cpu_kernels"] = Json::array();
  for (const CpuKernel& kernel : CpuKernels()) {
    const std::string why = kernel.unavailable();
    json["cpu_kernels"].push_back({{"name", kernel.name}, {"unavailable", why.empty() ? Json(nullptr) : Json(why)}});
    table.Row({&kernel == &CpuKernels().front() ? "CPU kernels" : "",
               fmt::format("{}{}", kernel.name, why.empty() ? "" : ": not here, " + why)});
  }
  table.Row({"threads", fmt::format("{} of {} processors", omp_get_max_threads(), omp_get_num_procs())});
  table.Row({"memory", Bytes(memory_bytes)});
  AddGpuRows(table, folder);
  json["gpu"] = {{"kernels", Json::array()},
                 {"device", folder.device ? FactsJson(*folder.device) : Json(nullptr)},
                 {"no_device", folder.device ? Json(nullptr) : Json(folder.no_device)}};
  for (const gpu::Kernel& kernel : folder.kernels) json["gpu"]["kernels"].push_back(KernelJson(kernel));
  table.Row(
      {"CUDA", cuda.driver_version.empty() ? cuda.status : cuda.status + ", driver for CUDA " + cuda.driver_version});
  for (const CudaDevice& device : cuda.devices) {
    json["cuda"]["devices"].push_back(
        {{"name", device.name}, {"arch", device.arch}, {"sms", device.sms}, {"memory_bytes", device.memory_bytes}});
    table.Row(
        {"", fmt::format("{} ({}, {} SMs, {})", device.name, device.arch, device.sms, Bytes(device.memory_bytes))});
  }
  if (output.wants_json()) output.JsonResult(json);
  output.Text(table.ToString(output.color()));
  output.Finish();
  return ExitCode::kPass;
}

}  // namespace bitflash::verify
