// Tensor maps: how the tensor memory accelerator of compute capability 9.0 addresses a tensor.
#ifndef BITFLASH_GPU_TENSOR_MAP_H_
#define BITFLASH_GPU_TENSOR_MAP_H_

#include <cuda.h>

#include <cstdint>

#include "gpu/kernels.h"

namespace bitflash::gpu {

// A tensor of [batch, heads, rows, columns]. Strides in elements.
struct MappedTensor {
  const char* name;  // in errors
  const void* address;
  int element_bytes;  // 2 or 4
  int64_t batch, heads, rows, columns;
  Strides strides;
};

enum class Promotion : uint8_t { k128, k256 };  // bytes that L2 fetches at least

// Boxes of `box_rows` rows and 128 bytes of columns, swizzled as the images of ptx.cuh; zeros beyond the tensor. Throws
// CudaError that names the tensor.
CUtensorMap MakeTensorMap(const MappedTensor& tensor, int box_rows, Promotion promotion = Promotion::k128);

// Boxes of `box_rows` whole rows of a multiple of 128 bytes: the lines of 128 bytes lie in the order of the tensor,
// their 16-byte units exchanged by XOR with the line's number modulo 8. Throws as MakeTensorMap.
CUtensorMap MakeRowsMap(const MappedTensor& tensor, int box_rows, Promotion promotion = Promotion::k128);

// Bytes of the allocation of `address` that lie in front of it; 0 where the driver does not know.
int64_t AllocatedBefore(const void* address);

}  // namespace bitflash::gpu

#endif  // BITFLASH_GPU_TENSOR_MAP_H_
