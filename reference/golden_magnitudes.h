// Magnitudes of one block of query rows, beside the golden attention's own sums: the same products with every operand
// replaced by its absolute value, on the same block steps.
#ifndef BITFLASH_REFERENCE_GOLDEN_MAGNITUDES_H_
#define BITFLASH_REFERENCE_GOLDEN_MAGNITUDES_H_

#include <cstdint>
#include <functional>

#include "reference/aligned_array.h"
#include "reference/golden.h"
#include "reference/golden_block.h"
#include "reference/visible.h"

namespace bitflash::reference {

// One thread's. For every block of rows: StartRows, then for every block of keys AddScores, KeepMaxima, AddValues in
// the places that they name, then WriteRows.
class MagnitudeBlock {
 public:
  // Room for blocks of up to rows x keys, `keys_padded` doubles between rows of scores.
  MagnitudeBlock(const data::Attention& attention, int64_t rows, int64_t keys, int64_t keys_padded);

  // b.Q is loaded.
  void StartRows(const Block& b, double operand_floor);

  // b.K is loaded; b.S holds scores, -inf where a key is not visible.
  void AddScores(const Block& b, const BlockSteps& steps);

  // Before `softmax`, which changes b.m.
  void KeepMaxima(const Block& b);

  // b.S holds P. `accumulate` adds b.S b.V to b.O without touching what is not visible; row i sees the keys
  // seen(i), counted from the block's first.
  void AddValues(const Block& b, const std::function<void(const Block&)>& accumulate,
                 const std::function<KeyRange(int64_t)>& seen);

  // b.l is final. To the rows [at, at + b.rows) of `out`.
  void WriteRows(const Block& b, int64_t at, Magnitudes* out) const;

 private:
  void Absolute(const double* from, int64_t count, double* to) const;
  void AddVisibleSums(const Block& b, const std::function<KeyRange(int64_t)>& seen);

  double floor_ = 0;
  AlignedDoubles Q_, K_, V_, V2_, S_;
  AlignedDoubles m_, qk_, score_max_, score_abs_;  // [rows]
  AlignedDoubles PV_, P2V2_, sum_V_;               // [rows, head_dim_v]
  AlignedDoubles key_sum_;                         // [head_dim_v]
};

}  // namespace bitflash::reference

#endif  // BITFLASH_REFERENCE_GOLDEN_MAGNITUDES_H_
