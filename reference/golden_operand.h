// Reading the operands of the golden attention: bounds are checked once, then rows are copied out as fp64.
#ifndef BITFLASH_REFERENCE_GOLDEN_OPERAND_H_
#define BITFLASH_REFERENCE_GOLDEN_OPERAND_H_

#include <cstdint>

#include "reference/golden.h"

namespace bitflash::reference {

// An Operand whose every index is known to lie inside its elements.
class Tensor {
 public:
  // Throws UsageError that names the tensor when the elements do not cover the shape, or a stride is negative.
  Tensor(const char* name, const Operand& operand, int64_t batch, int64_t heads, int64_t rows, int64_t columns);

  // Writes rows [first_row, first_row + rows) of one head, the first `columns` of each, to `out` [rows, columns].
  void Load(int64_t batch, int64_t head, int64_t first_row, int64_t rows, int64_t columns, double* out) const;

 private:
  Operand operand_;
  Strides strides_;
};

}  // namespace bitflash::reference

#endif  // BITFLASH_REFERENCE_GOLDEN_OPERAND_H_
