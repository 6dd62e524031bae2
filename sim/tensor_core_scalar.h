// The definition of the fused dot-product-add: integers, slow and obvious. tensor_core_simd.h is the same, fast.
#ifndef BITFLASH_SIM_TENSOR_CORE_SCALAR_H_
#define BITFLASH_SIM_TENSOR_CORE_SCALAR_H_

#include <cstdint>
#include <span>

#include "sim/matrix_view.h"
#include "sim/tensor_core.h"

namespace bitflash::sim {

// A number taken apart: (-1)^negative * significand * 2^(exponent - 23). Subnormals keep the least exponent of their
// format, so the significand is below 2^23 for them and for zero.
struct Decoded {
  enum class Kind : uint8_t { kFinite, kInfinity, kNan };
  Kind kind = Kind::kFinite;
  bool negative = false;
  int exponent = 0;
  int64_t significand = 0;
};

// `bits` is a pattern of `format`, which is any but fp64. The low 13 bits of a tf32 pattern are dropped, as the tensor
// core does: a NaN whose payload lies there alone becomes an infinity.
Decoded Decode(data::Format format, uint32_t bits);

// One step: the pattern of D for at most core.products pairs and the accumulator's pattern c. A shorter step is one
// padded with zeros, which take no part.
uint32_t FusedStep(const TensorCore& core, std::span<const Decoded> a, std::span<const Decoded> b, uint32_t c);

// A whole chain over k = a.size() == b.size() operands, in the core's order: the pattern of D.
uint32_t DotProductAdd(const TensorCore& core, std::span<const Decoded> a, std::span<const Decoded> b, uint32_t c);

// The same on patterns of core.input.
uint32_t DotProductAdd(const TensorCore& core, std::span<const uint32_t> a, std::span<const uint32_t> b, uint32_t c);

// Accumulators in memory are fp32 whatever the format: the pattern of the accumulator that `value` holds, and back.
// The NaN of fp16, 0x7FFF, is held as 0x7FFFE000.
uint32_t AccumulatorPattern(data::Format accumulator, float value);
float AccumulatorValue(data::Format accumulator, uint32_t bits);

// D = A B + C in place: a [m x k] and b [k x n] of core.input; accumulator [m x n], rows `row_stride` floats apart,
// holds C and receives D.
void MultiplyAddScalar(const TensorCore& core, const MatrixView& a, const MatrixView& b, float* accumulator,
                       int64_t row_stride);

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_TENSOR_CORE_SCALAR_H_
