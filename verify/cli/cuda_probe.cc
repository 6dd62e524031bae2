#include "verify/cli/cuda_probe.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <array>

namespace bitflash::verify {
namespace {

// The signatures and numbers of the CUDA Driver API, sections "Initialization", "Version Management" and "Device
// Management": CUresult and CUdevice are int; 0 is success.
using Init = int (*)(unsigned flags);
using GetVersion = int (*)(int* version);  // 1000 major + 10 minor
using GetCount = int (*)(int* count);
using GetDevice = int (*)(int* device, int ordinal);
using GetName = int (*)(char* name, int length, int device);
using GetAttribute = int (*)(int* value, int attribute, int device);
using GetMemory = int (*)(size_t* bytes, int device);
constexpr int kMultiprocessorCount = 16;
constexpr int kComputeCapabilityMajor = 75;
constexpr int kComputeCapabilityMinor = 76;
constexpr int kErrorNoDevice = 100;

class Driver {
 public:
  Driver() : handle_(dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL)) {}
  ~Driver() {
    if (handle_) dlclose(handle_);
  }
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;

  bool loaded() const { return handle_ != nullptr; }
  template <class Function>
  bool Find(const char* name, Function& function) {
    function = reinterpret_cast<Function>(dlsym(handle_, name));
    return function != nullptr;
  }

 private:
  void* handle_;
};

}  // namespace

CudaProbe ProbeCuda() {
  CudaProbe probe;
  Driver driver;
  if (!driver.loaded()) {
    probe.status = "no driver (libcuda.so.1 cannot be opened)";
    return probe;
  }
  Init init;
  GetVersion get_version;
  GetCount get_count;
  GetDevice get_device;
  GetName get_name;
  GetAttribute get_attribute;
  GetMemory get_memory;
  if (!driver.Find("cuInit", init) || !driver.Find("cuDriverGetVersion", get_version) ||
      !driver.Find("cuDeviceGetCount", get_count) || !driver.Find("cuDeviceGet", get_device) ||
      !driver.Find("cuDeviceGetName", get_name) || !driver.Find("cuDeviceGetAttribute", get_attribute) ||
      !driver.Find("cuDeviceTotalMem_v2", get_memory)) {
    probe.status = "libcuda.so.1 is not a CUDA driver";
    return probe;
  }
  const int error = init(0);
  int version = 0;
  if (get_version(&version) == 0) probe.driver_version = fmt::format("{}.{}", version / 1000, version % 1000 / 10);
  int count = 0;
  if (error == kErrorNoDevice || (error == 0 && get_count(&count) == 0 && count == 0)) {
    probe.status = "a driver, but no device";
    return probe;
  }
  if (error != 0 || count == 0) {
    probe.status = fmt::format("the driver does not start (CUresult {})", error);
    return probe;
  }
  probe.status = "ok";
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    int device = 0, major = 0, minor = 0, sms = 0;
    size_t bytes = 0;
    std::array<char, 256> name{};
    if (get_device(&device, ordinal) != 0) continue;
    get_name(name.data(), static_cast<int>(name.size()) - 1, device);
    get_attribute(&major, kComputeCapabilityMajor, device);
    get_attribute(&minor, kComputeCapabilityMinor, device);
    get_attribute(&sms, kMultiprocessorCount, device);
    get_memory(&bytes, device);
    probe.devices.push_back({name.data(), fmt::format("sm{}{}", major, minor), sms, static_cast<int64_t>(bytes)});
  }
  return probe;
}

}  // namespace bitflash::verify
