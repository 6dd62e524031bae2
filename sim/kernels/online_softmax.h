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
  Tile m, l;                 // state: maximum of the raw scores, sum of exponentials in four lanes a row
  Tile m_new, c, n, r, sum;  // of one tile: new maximum, the same with -inf as 0, its multiple, rescale factor, row sum

  OnlineSoftmax(Block& b, int64_t rows)
      : m(b.RowVector(rows)),
        l(b.RowVector(rows)),
        m_new(b.RowVector(rows)),
        c(b.RowVector(rows)),
        n(b.RowVector(rows)),
        r(b.RowVector(rows)),
        sum(b.RowVector(rows)) {
    b.Fill(m, -std::numeric_limits<float>::infinity());
    b.Fill(l, 0);
  }

  // Turns the scores S into unnormalised probabilities and rescales O, which earlier tiles left, to the new maximum.
  void Apply(Block& b, const Attention& a, const Recipe& recipe, const Tile& S, const Tile& O, const QueryTile& Qi,
             const KeyTile& Kj) {
    const float cs = ScaleLog2(a, recipe);
    if (a.softcap > 0) b.Softcap(S, static_cast<float>(a.scale()), static_cast<float>(a.softcap));
    if (Kj.masked) b.Mask(S, Qi, Kj);
    b.RowMax(m_new, S, m);
    b.FiniteOrZero(c, m_new);  // -inf minus -inf is NaN: a row that has seen no key yet

    if (recipe.rescale == Recipe::Rescale::kDifference) {
      b.Sub(r, m, c);
      b.Mul(r, r, cs);
    } else {
      b.Mul(r, m, cs);
      b.Mul(n, c, cs);
      b.Sub(r, r, n);
    }
    b.Exp2(r, r, recipe);  // 2^((m - m_new) cs): 1 when the maximum stays, 0 at the first tile

    if (recipe.exponent == Recipe::Exponent::kFused) {
      b.Mul(n, c, -cs);
      b.FmaRows(S, cs, n);  // one rounding, as ffma
    } else {
      b.Mul(n, c, cs);
      b.MulScalar(S, cs);
      b.SubRows(S, n);
    }
    b.Exp2(S, S, recipe);

    switch (recipe.row_sum) {
      case Recipe::RowSum::kRescaleThenAdd:
        b.MulRows(l, r);
        b.AddToLanes(l, S);
        break;
      case Recipe::RowSum::kFirstFused:
        b.RescaleAndAddToLanes(l, r, S);
        break;
      case Recipe::RowSum::kTileThenFused:
        b.Fill(sum, 0);
        b.AddToLanes(sum, S);
        b.FmaVector(l, l, r, sum);
        break;
    }
    b.MulRows(O, r);
    std::swap(m, m_new);
  }

  // Divides O by the row sums; LSE ends in `r`.
  void Finish(Block& b, const Attention& a, const Recipe& recipe, const Tile& O) {
    b.SumQuad(l, recipe);
    b.Invert(n, l, recipe);
    b.MulRows(O, n);
    b.LogSumExp(r, m, l, static_cast<float>(a.scale()), recipe);
  }
};

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_KERNELS_ONLINE_SOFTMAX_H_
