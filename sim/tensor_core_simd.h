// The fused dot-product-add of whole tiles, on vectors: bit for bit what tensor_core_scalar.h defines, on every target.
#ifndef BITFLASH_SIM_TENSOR_CORE_SIMD_H_
#define BITFLASH_SIM_TENSOR_CORE_SIMD_H_

#include <cstdint>

#include "sim/packed_operand.h"
#include "sim/tensor_core.h"

namespace bitflash::sim {

// D = A B + C in place, for the rows [row_begin, row_end) of A: accumulator [a.rows() x b.columns()], rows `row_stride`
// floats apart, holds C and receives D. Rows are independent, so threads may share A and B and split the rows.
// A zero-filled accumulator gives A B. Throws UsageError when the formats of A and B are not core.input or their depths
// differ.
//
// fp32 accumulators run on vectors, lanes across columns; an fp16 accumulator, and AccumulatorAdd::kAfterInstruction,
// run on the scalar definition, some 50 times slower.
void MultiplyAdd(const TensorCore& core, const PackedRows& a, const PackedColumns& b, float* accumulator,
                 int64_t row_stride, int64_t row_begin, int64_t row_end);

// All rows.
inline void MultiplyAdd(const TensorCore& core, const PackedRows& a, const PackedColumns& b, float* accumulator,
                        int64_t row_stride) {
  MultiplyAdd(core, a, b, accumulator, row_stride, 0, a.rows());
}

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_TENSOR_CORE_SIMD_H_
