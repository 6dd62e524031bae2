// Named tensors in files of any format that bitflash reads.
#ifndef BITFLASH_DATA_TENSOR_FILE_H_
#define BITFLASH_DATA_TENSOR_FILE_H_

#include <string>
#include <string_view>

#include "data/byte_source.h"
#include "data/tensor.h"
#include "data/tensor_map.h"

namespace bitflash::data {

// The tensors of a .npy, .npz or .safetensors file; its content says which, not its name. The tensor of a .npy file is
// named after the file: "q" for dir/q.npy. torch.save files are refused with a hint, because loading a pickle runs it.
// Throws InputError that names the file and what is wrong.
TensorFile ReadTensors(const std::string& path);

// The same from bytes; `source.origin()` stands for the path.
TensorFile ParseTensors(const ByteSource& source);

// The tensor of that name, or the only one of the file when `name` is empty. Throws InputError that lists the names.
Tensor ReadTensor(const std::string& path, std::string_view name = "");

// Writes atomically (data/atomic_file.h) by the extension: .npy (exactly one tensor), .npz (stored), .safetensors.
// Throws UsageError for another extension, for metadata outside of .safetensors and for a name that the format cannot
// hold, InputError when the file cannot be written.
void WriteTensors(const std::string& path, const TensorFile& file);

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_TENSOR_FILE_H_
