// NumPy's .npy files: one tensor (NEP 1; https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html).
#ifndef BITFLASH_DATA_NPY_H_
#define BITFLASH_DATA_NPY_H_

#include <span>
#include <string_view>
#include <vector>

#include "data/byte_source.h"
#include "data/tensor.h"

namespace bitflash::data {

// One .npy file. Versions 1.0, 2.0 and 3.0, C or Fortran order (which becomes strides). The header, a Python
// dictionary, is matched against a strict grammar and never evaluated. Element types, little-endian only:
//   f2 f4 f8 -> fp16 fp32 fp64      i1 i2 i4 i8, u1 u2 u4 u8 -> integers
//   V2 -> u16, V1 and f1 -> u8: NumPy has no bf16 or fp8, and ml_dtypes saves them as these
//   (github.com/jax-ml/ml_dtypes/issues/41); Tensor::View says which format they hold.
// Throws InputError that names the origin and what is wrong: objects (they hold pickles), other types, a header of more
// than 64 KiB, a shape that overflows or does not match the bytes that follow, trailing bytes.
Tensor ParseNpy(const ByteSource& source);
Tensor ParseNpy(std::span<const std::byte> bytes, std::string_view origin);

// The bytes of a .npy file, version 1.0 and row-major, in pieces that share the tensor's elements. tf32 becomes <f4,
// bf16 <V2 as ml_dtypes writes it, fp8 <V1; data starts at byte 128 or another multiple of 64.
std::vector<Buffer> SerializeNpy(const Tensor& tensor);

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_NPY_H_
