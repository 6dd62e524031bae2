// The a-priori bounds of one row of attention, from magnitudes of what the row sees: what BoundAttention
// (error_bound.h) evaluates with magnitudes computed exactly, for callers that have bounds of them instead.
#ifndef BITFLASH_REFERENCE_ROW_BOUND_H_
#define BITFLASH_REFERENCE_ROW_BOUND_H_

#include <cstdint>

#include "data/attention.h"
#include "reference/error_bound.h"

namespace bitflash::reference {

// Every result rises with `qk`, `score_max`, `score_abs` and the arguments of O, so upper bounds of them give bounds.
class RowBound {
 public:
  // `qk`, `score_max` and `score_abs` as Magnitudes (golden.h); `lse` with the sink, -inf without one. The row sees
  // `keys` of them, 1 or more. `arithmetic` is kept by reference.
  RowBound(const data::Attention& attention, const Arithmetic& arithmetic, int64_t keys, double qk, double score_max,
           double score_abs, double sink, double lse);

  double Lse() const;

  // |o| of the result; pv and v as Magnitudes, of V as scaled and with the sink's share of p. +inf where the result may
  // overflow.
  double O(double o, double pv, double v) const;

  // One standard deviation.
  double Sigma(double o, double pv, double p2v2, double v) const;

 private:
  double Steps(int64_t products) const;
  double StepUnit() const;

  const Arithmetic& r_;
  double keys_, lse_;
  double largest_, ds_, rescales_, sums_, chain_, relative_, p_floor_, floor_;
  double own_, shared_, bias_;
};

}  // namespace bitflash::reference

#endif  // BITFLASH_REFERENCE_ROW_BOUND_H_
