// Where tensors lie for the L2: tiles of a matrix as numbered granules.
#ifndef BITFLASH_SIM_L2_LAYOUT_H_
#define BITFLASH_SIM_L2_LAYOUT_H_

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "sim/kernels/kernels.h"
#include "sim/operands.h"
#include "sim/tile.h"

namespace bitflash::sim::l2 {

// Bytes of one matrix, cut into granules of `rows` x `cols` elements; numbered row by row of granules.
struct Grain {
  int64_t rows = 1, cols = 1;  // of a granule, elements
  int64_t matrix_rows = 0, matrix_cols = 0;
  int64_t element = 2;     // bytes
  int64_t across = 1;      // granules side by side
  int64_t per_matrix = 0;  // granules
  int64_t first = 0;       // number of the first granule of matrix 0
};

// The tensors of one problem. Granules hold whole rows of narrow matrices and pieces of wide ones (S and P), about
// `granule_bytes` each, so that tiles of rows and of keys are whole numbers of them wherever lengths allow. What the
// hardware makes of addresses is not public: a granule's set and home follow from its number by a hash.
class Layout {
 public:
  Layout(const Attention& attention, const Tiling& tiling, const Kernel& kernel);

  int64_t granules() const { return granules_; }
  int64_t granule_bytes() const { return granule_bytes_; }

  // Which matrix of the tensor belongs to head `head` of Heads(attention, tiling).
  int64_t MatrixOf(TensorId tensor, int64_t head) const;

  // Calls visit(granule, bytes_of_granule) for every granule that the tile touches.
  template <class Visit>
  void ForGranules(TensorId tensor, int64_t head, int64_t row, int64_t rows, int64_t col, int64_t cols,
                   Visit visit) const {
    const Grain& g = grains_[static_cast<int>(tensor)];
    if (g.per_matrix == 0 || rows <= 0 || cols <= 0) return;
    const int64_t base = g.first + MatrixOf(tensor, head) * g.per_matrix;
    for (int64_t r = row / g.rows; r * g.rows < row + rows; ++r) {
      const int64_t height = std::min(g.rows, g.matrix_rows - r * g.rows);
      for (int64_t c = col / g.cols; c * g.cols < col + cols; ++c) {
        const int64_t width = std::min(g.cols, g.matrix_cols - c * g.cols);
        visit(base + r * g.across + c, height * width * g.element);
      }
    }
  }

  const Grain& grain(TensorId tensor) const { return grains_[static_cast<int>(tensor)]; }

 private:
  void Add(const GlobalMatrix& matrix, int64_t tile_rows);

  const Attention& a_;
  const Tiling t_;
  int64_t granule_bytes_ = 0;
  int64_t granules_ = 0;
  std::array<Grain, kTensorCount> grains_{};
};

}  // namespace bitflash::sim::l2

#endif  // BITFLASH_SIM_L2_LAYOUT_H_
