// NumPy's .npz files: a zip archive of one .npy file per tensor.
#ifndef BITFLASH_DATA_NPZ_H_
#define BITFLASH_DATA_NPZ_H_

#include <span>
#include <string_view>
#include <vector>

#include "data/byte_source.h"
#include "data/tensor_map.h"
#include "data/zip.h"

namespace bitflash::data {

// The tensors of a .npz file, named as their entries without ".npy". Throws InputError that names the origin, the entry
// and what is wrong: what ReadZip and ParseNpy refuse, and entries that are not .npy files.
TensorMap ParseNpz(const ByteSource& source);
TensorMap ParseNpz(std::span<const std::byte> bytes, std::string_view origin);

// The bytes of a .npz file, in pieces. Throws UsageError for a name that ReadZip refuses.
std::vector<Buffer> SerializeNpz(const TensorMap& tensors, Compression compression = Compression::kStored);

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_NPZ_H_
