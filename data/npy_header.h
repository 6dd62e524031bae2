// The text header of a .npy file: a Python dictionary literal of three keys.
#ifndef BITFLASH_DATA_NPY_HEADER_H_
#define BITFLASH_DATA_NPY_HEADER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/element_type.h"

namespace bitflash::data {

struct NpyHeader {
  std::string descr;  // "<f2"
  bool fortran_order = false;
  std::vector<int64_t> shape;
};

// Parses {'descr': '<f2', 'fortran_order': False, 'shape': (3, 4), } followed by spaces and one newline. The keys may
// come in any order, each exactly once. Throws InputError without an origin: what is wrong and at which byte.
NpyHeader ParseNpyHeader(std::string_view text);

// What the elements of a `descr` are; throws InputError without an origin.
ElementType ParseNpyType(std::string_view descr);

// The inverse: "<f2".
std::string NpyType(const ElementType& type);

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_NPY_HEADER_H_
