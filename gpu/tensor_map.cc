#include "gpu/tensor_map.h"

#include <cuda_runtime.h>

#include <array>
#include <string>

namespace bitflash::gpu {
namespace {

// From the driver that the runtime has loaded: nothing links to libcuda, which machines without a GPU do not have.
decltype(&cuTensorMapEncodeTiled) EncodeFunction() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found;
#if CUDART_VERSION >= 12050
  Check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found),
        "cudaGetDriverEntryPointByVersion of cuTensorMapEncodeTiled");
#else
  Check(cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &function, cudaEnableDefault, &found),
        "cudaGetDriverEntryPoint of cuTensorMapEncodeTiled");
#endif
  if (found != cudaDriverEntryPointSuccess || function == nullptr) {
    throw CudaError("the driver has no cuTensorMapEncodeTiled: CUDA 12.0 or newer is needed",
                    cudaErrorInsufficientDriver);
  }
  return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
}

}  // namespace

CUtensorMap MakeTensorMap(const MappedTensor& t, int box_rows, Promotion promotion) {
  static const auto encode = EncodeFunction();
  const auto extent = [](int64_t n) { return static_cast<cuuint64_t>(n); };
  const std::array<cuuint64_t, 4> extents = {extent(t.columns), extent(t.rows), extent(t.heads), extent(t.batch)};
  // The stride of a dimension of one is never used, but it is checked.
  const auto stride = [&](int64_t elements, int64_t count) {
    return static_cast<cuuint64_t>(count > 1 ? elements * t.element_bytes : 16);
  };
  const std::array<cuuint64_t, 3> strides = {stride(t.strides.row, t.rows), stride(t.strides.head, t.heads),
                                             stride(t.strides.batch, t.batch)};
  const std::array<cuuint32_t, 4> box = {static_cast<cuuint32_t>(128 / t.element_bytes),
                                         static_cast<cuuint32_t>(box_rows), 1, 1};
  const std::array<cuuint32_t, 4> steps = {1, 1, 1, 1};
  CUtensorMap map;
  // Bits are moved, not numbers: the type only gives the size.
  const CUresult result =
      encode(&map, t.element_bytes == 4 ? CU_TENSOR_MAP_DATA_TYPE_UINT32 : CU_TENSOR_MAP_DATA_TYPE_UINT16, 4,
             const_cast<void*>(t.address), extents.data(), strides.data(), box.data(), steps.data(),
             CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             promotion == Promotion::k256 ? CU_TENSOR_MAP_L2_PROMOTION_L2_256B : CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) {
    const auto text = [](int64_t n) { return std::to_string(n); };
    throw CudaError(std::string("cuTensorMapEncodeTiled of ") + t.name + ", " + text(t.batch) + " x " + text(t.heads) +
                        " x " + text(t.rows) + " x " + text(t.columns) + " with strides " + text(t.strides.batch) +
                        ", " + text(t.strides.head) + ", " + text(t.strides.row) + " elements: CUresult " +
                        text(result) + "; strides from 16 bytes to 2^40 - 16 bytes are accepted",
                    cudaErrorInvalidValue);
  }
  return map;
}

}  // namespace bitflash::gpu
