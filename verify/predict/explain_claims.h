// Common claims about FlashAttention, held against the counts of one workload.
#ifndef BITFLASH_VERIFY_PREDICT_EXPLAIN_CLAIMS_H_
#define BITFLASH_VERIFY_PREDICT_EXPLAIN_CLAIMS_H_

#include <vector>

#include "verify/predict/explain.h"

namespace bitflash::verify {

// Every claim of the list, in the order in which they are printed. Reads what Explain has filled in before: both cases,
// the loop, what is on chip, the sweep. Costs a few counts.
std::vector<Claim> CheckClaims(const Explanation& explanation);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_PREDICT_EXPLAIN_CLAIMS_H_
