// The changed problems of metamorphic.h.
#ifndef BITFLASH_VERIFY_JUDGE_METAMORPHIC_PROBLEMS_H_
#define BITFLASH_VERIFY_JUDGE_METAMORPHIC_PROBLEMS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "verify/cases/problem.h"

namespace bitflash::verify {

// An element of the problem's format as often as the tensor has elements.
data::Tensor Constant(const data::Tensor& like, double value);

// The element that is nearest to the value; infinite where the format has infinities.
uint64_t BitsOf(data::Format format, double value);

// The problem with one more column's worth of freedom: the last column of Q and K is 0 in `without`, and in `with`
// makes every logit larger by `shift`, exactly; sinks move along. `why_not` says why there is none.
struct Shifted {
  Problem without, with;
  double shift = 0;
  std::string why_not;
};
Shifted ShiftLogits(const Problem& problem, bool up);

// Keys in another order within each sequence, the same for all heads. Requires that all rows see all keys.
Problem PermuteKeys(const Problem& problem, uint64_t seed);
bool SeesAllKeys(const Problem& problem);

// V where a hash of the key is `part` (0 or 1), 0 elsewhere; with its sign changed if `negated`. Requires a tensor V.
Problem HalfOfV(const Problem& problem, int part, bool negated);

// One sequence at the places 1 and 3 of a batch of four, at 0 and 2 neighbours with other values; that at 0 half as
// long if the problem is ragged. Copies that read a neighbour's data, or all the first one's, show it.
Problem WithNeighbours(const Problem& problem, int64_t sequence);
// A batch of that sequence alone.
Problem Alone(const Problem& problem, int64_t sequence);

// One sequence without padding whose keys are split: the first and the second part, each a problem.
struct SplitKeys {
  Problem whole, first, second;
  std::string why_not;
};
SplitKeys SplitInTwo(const Problem& problem);

// The sequence with most keys.
int64_t LongestSequence(const Problem& problem);

// The problem with padding: its own, or behind every sequence some keys that are not in use. All padding of Q, K and V
// holds `bits`.
Problem WithPadding(const Problem& problem, uint64_t bits);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_JUDGE_METAMORPHIC_PROBLEMS_H_
