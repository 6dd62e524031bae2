// bitflash doctor: what this build and this machine have.
#include <fmt/format.h>
#include <hwy/highway.h>
#include <omp.h>
#include <unistd.h>
#include <zlib.h>

#include <CLI/Version.hpp>

#include "verify/cli/commands.h"
#include "verify/cli/cuda_probe.h"
#include "verify/cli/output.h"
#include "verify/cli/suggest.h"
#include "verify/cli/table.h"
#include "verify/cli/units.h"

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
      {"build",
       {{"compiler", Compiler()}, {"type", BuildType()}, {"sanitizers", Sanitizers()}, {"gpu", BITFLASH_HAS_GPU != 0}}},
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
  table.Row({"threads", fmt::format("{} of {} processors", omp_get_max_threads(), omp_get_num_procs())});
  table.Row({"memory", Bytes(memory_bytes)});
  table.Row({"gpu/", BITFLASH_HAS_GPU ? "built" : "not built (the CPU needs nothing of it)"});
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
