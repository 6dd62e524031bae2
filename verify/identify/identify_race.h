// Running many candidates on blocks of rows: racing them, weighing one against its alternatives, verifying one.
#ifndef BITFLASH_VERIFY_IDENTIFY_IDENTIFY_RACE_H_
#define BITFLASH_VERIFY_IDENTIFY_IDENTIFY_RACE_H_

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "verify/identify/identify.h"
#include "verify/identify/identify_space.h"

namespace bitflash::verify {

struct Scored {
  Candidate candidate;
  int64_t differ = 0;  // elements of O, and rows of LSE where it counts
};

// What every step needs, and how much it has simulated. Candidates and blocks run on the threads of OpenMP; results do
// not depend on their number.
struct Lab {
  bool lse = false;         // LSE counts
  double work = 0;          // of one step
  int64_t simulations = 0;  // so far
  std::function<void(double share)> progress;
};

// Scores the candidates on one block after the other and drops, after each, those that are plainly worse than the best;
// at the end at most `keep` remain, best first, equally good ones in their order. Ends early, after `least_blocks`,
// when no more than `keep` are left, when nobody was dropped for a while, and when the work is used up.
std::vector<Scored> Race(const std::vector<Candidate>& candidates, std::span<const Block> blocks, size_t keep,
                         size_t least_blocks, Lab& lab);

// An alternative against the candidate that it changes: elements that only one of the two explains.
struct Weighed {
  Alternative alternative;
  int64_t better = 0;  // the candidate explains them
  int64_t worse = 0;   // the alternative does
  bool same = true;    // the same bits everywhere
};

// Runs over `blocks`, then over the blocks of `more` in the order `numbers`, until every alternative is decided by
// kEnoughElements or the work is used up.
std::vector<Weighed> Weigh(const Candidate& candidate, const std::vector<Alternative>& alternatives,
                           std::span<const Block> blocks, const Blocks& more, std::span<const int64_t> numbers,
                           Lab& lab);

// A row with elements that the candidate does not explain.
struct DifferentRow {
  int64_t sequence = 0, head = 0, row = 0;
  int64_t elements = 0;  // of O
  bool lse = false;
};

struct Verification {
  int64_t rows = 0, elements = 0, equal = 0, lse_rows = 0, lse_equal = 0;
  std::vector<DifferentRow> different;   // by sequence, head, row
  std::vector<Unexplained> unexplained;  // the first ones in that order
};

// Compares the candidate with what was observed, in the blocks with these numbers.
Verification Verify(const Candidate& candidate, const Blocks& blocks, std::span<const int64_t> numbers,
                    data::Format format, Lab& lab);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_IDENTIFY_IDENTIFY_RACE_H_
