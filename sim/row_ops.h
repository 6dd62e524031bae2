// fp32 operations on the rows of register tiles, with vectors: one rounding each, the same bits on every target.
#ifndef BITFLASH_SIM_ROW_OPS_H_
#define BITFLASH_SIM_ROW_OPS_H_

#include <cstdint>
#include <span>

namespace bitflash::sim {

// The larger of `start` and every element; NaN is ignored unless everything is NaN.
float RowMaximum(std::span<const float> x, float start);

void MultiplyRow(std::span<float> x, float factor);                           // x = x * factor
void SubtractRow(std::span<float> x, float value);                            // x = x - value
void FmaRow(std::span<float> x, float factor, float addend);                  // x = fma(x, factor, addend)
void FmaIntoRow(std::span<float> x, std::span<const float> y, float factor);  // x = fma(y, factor, x)

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_ROW_OPS_H_
