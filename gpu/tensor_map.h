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
// UsageError for a stride that TMA does not take, naming the tensor, the dimension and what is accepted, and CudaError
// that names the tensor for what else the driver refuses. Strides of dimensions of one do not matter.
CUtensorMap MakeTensorMap(const MappedTensor& tensor, int box_rows, Promotion promotion = Promotion::k128);

// The same with a dimension more, for sequences of several lengths, one behind the other in a tensor of [1, heads,
// rows, columns] ("packed"): zeros beyond a sequence, though the next one lies there. Row r of the sequence [start,
// start + length) is at {column, kPackedRows - length + r, head, start + length, kPackedTurns}: the rows of a box end
// where the row dimension does. Throws as MakeTensorMap.
//
// No address in front of the tensor takes part. Coordinates count from the tensor's own address, which they pass by
// kPackedRows rows too many; the last dimension takes them back by a stride of 2^35 bytes less a row, because 2^30 *
// 2^35 is 0 modulo 2^64. (A base that many rows before the tensor does not do: loads fault where that is not mapped.)
inline constexpr int kPackedRows = 1 << 30, kPackedTurns = 1 << 30;
CUtensorMap MakePackedMap(const MappedTensor& tensor, int box_rows);
// And for tensors that are not packed: {column, row, head, batch, 0}.
CUtensorMap MakeUnpackedMap(const MappedTensor& tensor, int box_rows);

// Boxes of `box_rows` whole rows of a multiple of 128 bytes: the lines of 128 bytes lie in the order of the tensor,
// their 16-byte units exchanged by XOR with the line's number modulo 8. Throws as MakeTensorMap.
CUtensorMap MakeRowsMap(const MappedTensor& tensor, int box_rows, Promotion promotion = Promotion::k128);

}  // namespace bitflash::gpu

#endif  // BITFLASH_GPU_TENSOR_MAP_H_
