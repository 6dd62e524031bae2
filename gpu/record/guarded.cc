#include "gpu/record/guarded.h"

namespace bitflash::gpu {

Guarded MakeGuarded(int64_t batch, int64_t heads, int64_t rows, int64_t columns, Layout layout) {
  constexpr int64_t kPad = 8;  // elements, 16 bytes
  Guarded g;
  Strides& strides = g.strides;
  switch (layout) {
    case Layout::kContiguous:
      strides = ContiguousStrides(heads, rows, columns);
      g.offset = 8 * columns;
      g.elements = g.offset + batch * strides.batch + g.offset;
      break;
    case Layout::kHeadMajor:
      strides.row = columns + kPad;
      strides.head = (rows + 1) * strides.row;
      strides.batch = heads * strides.head;
      g.offset = strides.row;
      g.elements = g.offset + batch * strides.batch;
      break;
    case Layout::kTokenMajor:
      strides.head = columns + kPad;
      strides.row = (heads + 1) * strides.head;
      strides.batch = (rows + 1) * strides.row;
      g.offset = strides.row;
      g.elements = g.offset + batch * strides.batch;
      break;
  }
  return g;
}

}  // namespace bitflash::gpu
