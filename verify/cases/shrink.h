// The smallest problem that still fails: what a person wants to see of a kernel that is wrong.
#ifndef BITFLASH_VERIFY_CASES_SHRINK_H_
#define BITFLASH_VERIFY_CASES_SHRINK_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "verify/cases/problem.h"

namespace bitflash::verify {

struct Shrunk {
  Problem problem;                 // fails; the given one where nothing smaller does
  std::vector<std::string> steps;  // what was left out, in order: "seqlen_k 193 -> 65", "q = 0"
  int64_t evaluations = 0;         // of the predicate
  bool finished = false;           // no further step fails; false: max_evaluations came first
};

// Leaves out sequences, heads, rows, keys, columns, padding, the mask, softcap, sinks and scales, and takes simpler
// values (hash-normal, then ones and zeros), as long as `fails` stays true (delta debugging, Zeller and Hildebrandt,
// IEEE TSE 28(2), 2002). Lengths are also tried at powers of two and one beside, where tiles end. A problem that the
// kernel does not take, for which `fails` throws UndecidedError, counts as one that does not fail. Deterministic.
// Requires that `problem` fails.
Shrunk Shrink(const Problem& problem, const std::function<bool(const Problem&)>& fails, int64_t max_evaluations = 300);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CASES_SHRINK_H_
