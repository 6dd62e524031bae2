// How the kernels' host code starts them. CUDA sources only.
#ifndef BITFLASH_GPU_LAUNCH_H_
#define BITFLASH_GPU_LAUNCH_H_

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <string>
#include <type_traits>

#include "data/attention.h"
#include "gpu/device.h"

namespace bitflash::gpu {

// Calls f(T(), std::integral_constant<int, D>()) for the problem's type and head_dim, which CommonRefusal has let pass.
template <class Function>
void ForTypeAndHeadDim(const data::Attention& a, const Function& f) {
  const auto of_type = [&](auto type) {
    switch (a.head_dim) {
      case 64:
        return f(type, std::integral_constant<int, 64>());
      case 96:
        return f(type, std::integral_constant<int, 96>());
      case 128:
        return f(type, std::integral_constant<int, 128>());
      case 192:
        return f(type, std::integral_constant<int, 192>());
      case 256:
        return f(type, std::integral_constant<int, 256>());
    }
  };
  if (a.format == data::Format::kBf16) return of_type(__nv_bfloat16());
  of_type(__half());
}

struct LaunchShape {
  dim3 grid, block;
  size_t shared_bytes = 0;
  bool overlap = false;  // starts while the kernel before it still runs, and waits itself (WaitForPrimary); sm_90
};

// Starts `kernel`, named `name` in errors.
template <class... Arguments>
void LaunchKernel(void (*kernel)(Arguments...), const char* name, const LaunchShape& shape, Stream& stream,
                  const std::type_identity_t<Arguments>&... arguments) {
  // Beyond 48 KiB, with what is static, a kernel must ask, on every device anew.
  if (shape.shared_bytes > 32 * 1024) {
    Check(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shape.shared_bytes)),
        (std::string(name) + ": " + std::to_string(shape.shared_bytes) + " bytes of shared memory").c_str());
  }
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = stream.get();
  config.attrs = &attribute;
  config.numAttrs = shape.overlap ? 1 : 0;
  Check(cudaLaunchKernelEx(&config, kernel, arguments...), name);
}

// Of the current device.
inline int DeviceAttribute(cudaDeviceAttr attribute) {
  int device = 0, value = 0;
  Check(cudaGetDevice(&device), "cudaGetDevice");
  Check(cudaDeviceGetAttribute(&value, attribute, device), "cudaDeviceGetAttribute");
  return value;
}

// Compute capability 9.0, the only one that runs code for sm_90a (wgmma).
inline bool IsHopper() {
  return DeviceCount() > 0 && DeviceAttribute(cudaDevAttrComputeCapabilityMajor) == 9 &&
         DeviceAttribute(cudaDevAttrComputeCapabilityMinor) == 0;
}

}  // namespace bitflash::gpu

#endif  // BITFLASH_GPU_LAUNCH_H_
