// What the vector code of tensor_core_simd.cc and its surroundings tell each other. Not for other files.
#ifndef BITFLASH_SIM_TENSOR_CORE_PANEL_H_
#define BITFLASH_SIM_TENSOR_CORE_PANEL_H_

#include <cstdint>

#include "sim/packed_operand.h"
#include "sim/tensor_core.h"

namespace bitflash::sim {

// Rows [row_begin, row_end) of A times one panel of B, added to the accumulator's columns of that panel.
struct PanelProduct {
  const TensorCore& core;
  const PackedRows& a;
  const float* b_values;
  const int16_t* b_exponents;
  int64_t columns;     // of the panel that exist, 1..kPanelColumns
  float* accumulator;  // row 0, the panel's first column
  int64_t row_stride;
  int64_t row_begin, row_end;
};

// One step of one element by the scalar definition; A's operands lie side by side, B's kPanelColumns apart.
float PanelStepOneByOne(const TensorCore& core, const float* a_values, const int32_t* a_exponents,
                        const float* b_values, const int16_t* b_exponents, float c);

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_TENSOR_CORE_PANEL_H_
