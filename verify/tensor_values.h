// The elements of a tensor as numbers.
#ifndef BITFLASH_VERIFY_TENSOR_VALUES_H_
#define BITFLASH_VERIFY_TENSOR_VALUES_H_

#include <vector>

#include "data/tensor.h"

namespace bitflash::verify {

// Exact. Requires a contiguous tensor of a float format. On all threads.
std::vector<double> ToDoubles(const data::Tensor& tensor);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_TENSOR_VALUES_H_
