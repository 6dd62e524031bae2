// The softmax of one key tile, as FlashAttention-2 and -3 and split-KV share it: the running maximum m, the running sum
// l and the rescale of what earlier tiles left. Milakov and Gimelshein 2018 (arXiv 1805.02867), in base 2.
#ifndef BITFLASH_SIM_KERNELS_ONLINE_SOFTMAX_H_
#define BITFLASH_SIM_KERNELS_ONLINE_SOFTMAX_H_

#include <limits>
#include <utility>

#include "sim/block.h"
#include "sim/operands.h"
#include "sim/runs.h"

namespace bitflash::sim {

struct OnlineSoftmax {
  Tile m, l;         // state: maximum of the raw scores, sum of exponentials in four lanes a row
  Tile m_new, c, r;  // of the current tile: new maximum, the same with -inf replaced by 0, rescale factor

  OnlineSoftmax(Block& b, int64_t rows)
      : m(b.RowVector(rows)),
        l(b.RowVector(rows)),
        m_new(b.RowVector(rows)),
        c(b.RowVector(rows)),
        r(b.RowVector(rows)) {
    b.Fill(m, -std::numeric_limits<float>::infinity());
    b.Fill(l, 0);
  }

  // Turns the scores S into unnormalised probabilities and rescales O, which earlier tiles left, to the new maximum.
  void Apply(Block& b, const Attention& a, const Tile& S, const Tile& O, const QueryTile& Qi, const KeyTile& Kj) {
    const float scale_log2 = ScaleLog2(a);
    if (a.softcap > 0) b.Softcap(S, static_cast<float>(a.scale()), static_cast<float>(a.softcap));
    if (Kj.masked) b.Mask(S, Qi, Kj);
    b.RowMax(m_new, S, m);
    b.FiniteOrZero(c, m_new);  // -inf minus -inf is NaN: a row that has seen no key yet
    b.Sub(r, m, c);
    b.Mul(r, r, scale_log2);
    b.Exp2(r, r);  // 2^((m - m_new) scale): 1 when the maximum stays, 0 at the first tile
    b.Mul(c, c, -scale_log2);
    b.FmaRows(S, scale_log2, c);  // one rounding, as ffma
    b.Exp2(S, S);
    b.MulRows(l, r);
    b.AddToLanes(l, S);
    b.MulRows(O, r);
    std::swap(m, m_new);
  }
};

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_KERNELS_ONLINE_SOFTMAX_H_
