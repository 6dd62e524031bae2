// Tensors by name, as a file holds them.
#ifndef BITFLASH_DATA_TENSOR_MAP_H_
#define BITFLASH_DATA_TENSOR_MAP_H_

#include <map>
#include <string>

#include "data/tensor.h"

namespace bitflash::data {

using TensorMap = std::map<std::string, Tensor>;

// The content of a file of tensors.
struct TensorFile {
  TensorMap tensors;
  std::map<std::string, std::string> metadata;  // of .safetensors: the strings of "__metadata__"

  bool operator==(const TensorFile&) const = default;
};

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_TENSOR_MAP_H_
