#include "reference/golden_operand.h"

#include <algorithm>
#include <string>

#include "data/error.h"

namespace bitflash::reference {

Tensor::Tensor(const char* name, const Operand& operand, int64_t batch, int64_t heads, int64_t rows, int64_t columns)
    : operand_(operand), strides_(operand.strides.value_or(Strides{heads * rows * columns, rows * columns, columns})) {
  if (batch == 0 || heads == 0 || rows == 0 || columns == 0) return;  // nothing will be read
  const int64_t elements = std::visit([](auto span) { return static_cast<int64_t>(span.size()); }, operand.elements);
  // Elements that may still lie beyond the last one reached; subtracting cannot overflow where multiplying could.
  int64_t beyond = elements - columns;
  const auto step = [&](int64_t extent, int64_t stride) {
    if (extent == 1 || beyond < 0) return;
    beyond = stride <= beyond / (extent - 1) ? beyond - stride * (extent - 1) : -1;
  };
  if (std::min({strides_.batch, strides_.head, strides_.row}) >= 0) {
    step(batch, strides_.batch);
    step(heads, strides_.head);
    step(rows, strides_.row);
    if (beyond >= 0) return;
  }
  const auto text = [](int64_t number) { return std::to_string(number); };
  throw data::UsageError("tensor " + std::string(name) + " has " + text(elements) + " elements and strides " +
                         text(strides_.batch) + ", " + text(strides_.head) + ", " + text(strides_.row) +
                         ", 1: expected strides of 0 or more that keep the shape " + text(batch) + " x " + text(heads) +
                         " x " + text(rows) + " x " + text(columns) + " inside the elements");
}

void Tensor::Load(int64_t batch, int64_t head, int64_t first_row, int64_t rows, int64_t columns, double* out) const {
  const int64_t origin = batch * strides_.batch + head * strides_.head + first_row * strides_.row;
  std::visit(
      [&](auto span) {
        for (int64_t i = 0; i < rows; ++i) {
          std::copy_n(span.data() + origin + i * strides_.row, columns, out + i * columns);
        }
      },
      operand_.elements);
}

}  // namespace bitflash::reference
