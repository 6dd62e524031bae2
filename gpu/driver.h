// Functions of the driver, from the one that the runtime has loaded: nothing links to libcuda, which machines without a
// GPU do not have. CUDA code only.
#ifndef BITFLASH_GPU_DRIVER_H_
#define BITFLASH_GPU_DRIVER_H_

#include <cuda.h>
#include <cuda_runtime.h>

#include <string>

#include "gpu/device.h"

namespace bitflash::gpu {

// As CUDA 12.0 has it: DriverFunction<decltype(&cuTensorMapEncodeTiled)>("cuTensorMapEncodeTiled"). Throws CudaError
// where the driver is older.
template <class Function>
Function DriverFunction(const char* name) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found;
#if CUDART_VERSION >= 12050
  Check(cudaGetDriverEntryPointByVersion(name, &function, 12000, cudaEnableDefault, &found),
        (std::string("cudaGetDriverEntryPointByVersion of ") + name).c_str());
#else
  Check(cudaGetDriverEntryPoint(name, &function, cudaEnableDefault, &found),
        (std::string("cudaGetDriverEntryPoint of ") + name).c_str());
#endif
  if (found != cudaDriverEntryPointSuccess || function == nullptr) {
    throw CudaError(std::string("the driver has no ") + name + ": CUDA 12.0 or newer is needed",
                    cudaErrorInsufficientDriver);
  }
  return reinterpret_cast<Function>(function);
}

}  // namespace bitflash::gpu

#endif  // BITFLASH_GPU_DRIVER_H_
