#include <algorithm>
#include <numeric>
#include <set>

#include "sim/enumeration.h"

namespace bitflash::sim {
namespace {

constexpr Direction kRead = Direction::kRead;
constexpr int64_t kSector = 32;  // bytes

}  // namespace

void EnumeratedLaunch::Cross(TensorId tensor, Direction direction, int64_t bytes) {
  Traffic& traffic = At(ledger_.l2_to_sm, tensor);
  (direction == kRead ? traffic.read : traffic.write) += bytes;
}

void EnumeratedLaunch::Move(TensorId tensor, Direction direction, int64_t matrix, int64_t row, int64_t col,
                            int64_t cols, int64_t bytes) {
  Cross(tensor, direction, cols * bytes);
  Use(tensor, direction, matrix, row, col, cols, bytes);
}

void EnumeratedLaunch::MoveSectors(TensorId tensor, Direction direction, int64_t matrix, int64_t row, int64_t col,
                                   int64_t cols, int64_t bytes) {
  std::set<int64_t> sectors;
  for (int64_t c = col; c < col + cols; ++c) sectors.insert(c * bytes / kSector);
  Cross(tensor, direction, kSector * static_cast<int64_t>(sectors.size()));
  Use(tensor, direction, matrix, row, col, cols, bytes);
}

void EnumeratedLaunch::Use(TensorId tensor, Direction direction, int64_t matrix, int64_t row, int64_t col, int64_t cols,
                           int64_t bytes) {
  Touched& touched = touched_[{tensor, direction, matrix}];
  touched.bytes = bytes;
  std::vector<uint8_t>& marks = touched.rows[row];
  if (static_cast<int64_t>(marks.size()) < col + cols) marks.resize(col + cols);
  std::fill_n(marks.begin() + col, cols, uint8_t{1});
}

Ledger EnumeratedLaunch::Finish() const {
  Ledger ledger = ledger_;
  for (const auto& [key, touched] : touched_) {
    const auto& [tensor, direction, matrix] = key;
    Traffic& traffic = At(ledger.hbm_compulsory, tensor);
    for (const auto& [row, marks] : touched.rows) {
      const int64_t elements = std::accumulate(marks.begin(), marks.end(), int64_t{0});
      (direction == kRead ? traffic.read : traffic.write) += elements * touched.bytes;
    }
  }
  return ledger;
}

}  // namespace bitflash::sim
