// The JSON header of a safetensors file.
#ifndef BITFLASH_DATA_SAFETENSORS_HEADER_H_
#define BITFLASH_DATA_SAFETENSORS_HEADER_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/element_type.h"

namespace bitflash::data {

// What the header says about one tensor; nothing is checked against anything yet.
struct SafetensorsEntry {
  std::string name;
  std::string dtype;
  std::vector<uint64_t> shape;
  std::vector<uint64_t> data_offsets;  // exactly 2: begin and end, from the first byte after the header
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  // in the order of the file
  std::map<std::string, std::string> metadata;
};

// Throws InputError without an origin: for JSON that is not well-formed UTF-8 JSON or not of this structure.
SafetensorsHeader ParseSafetensorsHeader(std::string_view json);

// The element types of safetensors in the order of its reference implementation (safetensors/src/tensor.rs, enum
// Dtype), which sorts tensors by it.
struct SafetensorsType {
  std::string_view name;  // "BF16"
  ElementType type;
};
const std::vector<SafetensorsType>& SafetensorsTypes();

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_SAFETENSORS_HEADER_H_
