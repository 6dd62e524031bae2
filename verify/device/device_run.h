// Where verify/ meets gpu/: the CUDA kernels on tensors in host memory. device_run_cuda.cc is the whole of it where
// gpu/ is built; device_run_none.cc says that it is not.
#ifndef BITFLASH_VERIFY_DEVICE_DEVICE_RUN_H_
#define BITFLASH_VERIFY_DEVICE_DEVICE_RUN_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "data/tensor.h"
#include "gpu/device.h"
#include "gpu/kernels.h"
#include "verify/device/device_plan.h"
#include "verify/subjects/simulate.h"

namespace bitflash::verify {

bool GpuIsBuilt();

// The CUDA kernels. Throws UndecidedError in a build without gpu/, saying how to get it.
const std::vector<gpu::Kernel>& CudaKernels();

// The current device. Throws UndecidedError when there is none, and in a build without gpu/.
gpu::Device CurrentCudaDevice();

struct DeviceOutputs {
  data::Tensor o;      // [batch, heads_q, seqlen_q, head_dim_v], 16-bit patterns
  data::Tensor lse;    // [batch, heads_q, seqlen_q], fp32; both with zeros in rows that a sequence does not have
  double seconds = 0;  // from the start of the first launch to the end of the last
};

// Copies the inputs of the whole problem to the device (packed, if the plan says so), with NaNs behind them and in keys
// beyond a sequence, and for
// each of `times` runs: fills O, LSE and the workspace with 0xFF bytes, launches, waits, and hands the outputs to
// `take`. Throws what the kernel throws and UndecidedError when the device has not enough memory or cannot run the code
// of this build.
void RunOnDevice(const DevicePlan& plan, const KernelInputs& inputs, int64_t times,
                 const std::function<void(DeviceOutputs)>& take);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_DEVICE_DEVICE_RUN_H_
