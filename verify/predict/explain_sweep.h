// How the comparison changes with the sequence length, and where it turns.
#ifndef BITFLASH_VERIFY_PREDICT_EXPLAIN_SWEEP_H_
#define BITFLASH_VERIFY_PREDICT_EXPLAIN_SWEEP_H_

#include "verify/predict/explain.h"

namespace bitflash::verify {

// Powers of two from 128 to 131,072 and the length that was asked about, whose predictions are taken over; the others'
// are closed forms.
LengthSweep SweepLengths(const Contrast& asked, data::Phase phase, const data::Gpu& gpu, bool fp32_scores);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_PREDICT_EXPLAIN_SWEEP_H_
