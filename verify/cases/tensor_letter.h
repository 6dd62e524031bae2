// What a tensor is called in what users read: the papers' letters where there are some.
#ifndef BITFLASH_VERIFY_CASES_TENSOR_LETTER_H_
#define BITFLASH_VERIFY_CASES_TENSOR_LETTER_H_

#include <string_view>

#include "sim/tile.h"

namespace bitflash::verify {

// "Q", "LSE", "O parts".
std::string_view Letter(sim::TensorId tensor);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CASES_TENSOR_LETTER_H_
