// The elements of a tensor as numbers, and back.
#ifndef BITFLASH_VERIFY_JUDGE_TENSOR_VALUES_H_
#define BITFLASH_VERIFY_JUDGE_TENSOR_VALUES_H_

#include <cstdint>
#include <span>
#include <vector>

#include "data/tensor.h"

namespace bitflash::verify {

// In row-major order, on all threads. Require a contiguous tensor of a float format. Exact, except that ToFloats rounds
// fp64 to nearest even.
std::vector<float> ToFloats(const data::Tensor& tensor);
std::vector<double> ToDoubles(const data::Tensor& tensor);

// The inverse, rounded to nearest even, overflow as data::UsualOverflow. On all threads. Throws UsageError where
// Tensor::Zeros does; requires a float format and as many values as the shape has elements.
data::Tensor FromFloats(std::span<const float> values, data::Format format, std::vector<int64_t> shape);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_JUDGE_TENSOR_VALUES_H_
