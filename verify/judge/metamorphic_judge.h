// Comparisons of metamorphic.h, collected in a MetamorphicResult.
#ifndef BITFLASH_VERIFY_JUDGE_METAMORPHIC_JUDGE_H_
#define BITFLASH_VERIFY_JUDGE_METAMORPHIC_JUDGE_H_

#include <string>
#include <vector>

#include "verify/judge/metamorphic.h"

namespace bitflash::verify {

// x[i] + y[i]; elementwise.
std::vector<double> Sum(const std::vector<double>& x, const std::vector<double>& y);

// How far `got` is from `want`, both [batch, heads_q, seqlen_q, columns] of the problem (columns 1: LSE). Padding and
// elements whose bound is infinite count nothing; a NaN where there is a bound counts as infinitely far. Fails the
// result when an element is beyond its bound.
void CompareValues(const Problem& problem, int64_t columns, const std::vector<double>& got,
                   const std::vector<double>& want, const std::vector<double>& bound, const std::string& compared,
                   MetamorphicResult& result);

// Bits of all rows but padding. True when none differs.
bool SameBits(const Problem& problem, const Outputs& a, const Outputs& b);

// The same; fails the result when one differs.
void CompareBits(const Problem& problem, const Outputs& got, const Outputs& want, const std::string& compared,
                 MetamorphicResult& result);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_JUDGE_METAMORPHIC_JUDGE_H_
