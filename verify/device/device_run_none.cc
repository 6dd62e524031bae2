#include "data/error.h"
#include "verify/device/device_run.h"

namespace bitflash::verify {
namespace {

[[noreturn]] void Refuse() {
  throw data::UndecidedError(
      "this build has no gpu/: nothing was run (with a CUDA Toolkit: cmake --preset gpu && cmake --build --preset "
      "gpu)");
}

}  // namespace

bool GpuIsBuilt() { return false; }

const std::vector<gpu::Kernel>& CudaKernels() { Refuse(); }

gpu::Device CurrentCudaDevice() { Refuse(); }

void RunOnDevice(const DevicePlan&, const KernelInputs&, int64_t, const std::function<void(DeviceOutputs)>&) {
  Refuse();
}

}  // namespace bitflash::verify
