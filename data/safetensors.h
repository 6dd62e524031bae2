// Safetensors files: named tensors and strings (https://github.com/huggingface/safetensors, "Format").
#ifndef BITFLASH_DATA_SAFETENSORS_H_
#define BITFLASH_DATA_SAFETENSORS_H_

#include <span>
#include <string_view>
#include <vector>

#include "data/byte_source.h"
#include "data/tensor_map.h"

namespace bitflash::data {

// One file: 8 bytes of header length, a JSON header, data. Element types F64 F32 F16 BF16 F8_E4M3 F8_E5M2, I8 to I64
// and U8 to U64; BOOL, complex and packed types are refused, attention has no use for them. As the format demands, and
// more: a header of at most 100 MB that starts with '{', no key twice (also inside a tensor and in __metadata__),
// exactly the keys dtype, shape and data_offsets, extents and offsets that are integers written as such, byte size =
// shape x dtype without overflow, and tensors that fill the data from its first byte to its last without overlap or
// hole. Throws InputError that names the origin, the tensor and what is wrong.
TensorFile ParseSafetensors(const ByteSource& source);
TensorFile ParseSafetensors(std::span<const std::byte> bytes, std::string_view origin);

// The bytes of a file, in pieces that share the elements of contiguous tensors. As the reference implementation writes
// them: larger and later listed element types first, so that every tensor is aligned, then by name, and a header padded
// with spaces to a multiple of 8. tf32 becomes F32. Throws UsageError for a tensor named "__metadata__", for names and
// metadata that are not UTF-8, and for a header beyond 100 MB.
std::vector<Buffer> SerializeSafetensors(const TensorFile& file);

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_SAFETENSORS_H_
