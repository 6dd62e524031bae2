#include "sim/tile.h"

#include <cassert>
#include <numeric>

#include "sim/ceil_div.h"

namespace bitflash::sim {

int64_t GlobalTile::crossing_bytes() const {
  const int64_t element = data::StorageBytes(matrix.format);
  const auto round_up = [](int64_t x, int64_t unit) { return CeilDiv(x, unit) * unit; };
  switch (matrix.crossing) {
    case Crossing::kBytes:
      break;
    case Crossing::kSectors:
      return matrix.readers * rows.count * round_up(cols.count * element, kSectorBytes);
    case Crossing::kPacked: {
      assert(cols.count == matrix.cols);
      const int64_t row = cols.count * element;
      // Rows begin at multiples of the divisor in a sector, at each equally often.
      const int64_t divisor = std::gcd(row, kSectorBytes);
      return row == 0 ? 0 : matrix.readers * rows.count * (row + kSectorBytes - divisor);
    }
    case Crossing::kBoxes: {
      const Box& box = matrix.box;
      const int64_t columns = round_up(cols.count, box.cols);
      // Where the last box reaches beyond the tensor (V inside K may have fewer columns than it has), and the tensor
      // ends inside a sector, that sector comes twice: part from L2, part zeros.
      const bool ends_in_sector = cols.begin + columns > box.extent && box.extent * element % kSectorBytes != 0;
      return round_up(rows.count, box.rows) * columns * element + (ends_in_sector ? rows.count * kSectorBytes : 0);
    }
  }
  return matrix.readers * bytes();
}

std::string_view Name(TensorId tensor) {
  constexpr std::string_view kNames[kTensorCount] = {"q",   "k", "v", "s",         "p",          "o",
                                                     "lse", "m", "l", "o_partial", "block_table"};
  return kNames[static_cast<int>(tensor)];
}

}  // namespace bitflash::sim
