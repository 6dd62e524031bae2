// The part of a problem that hypotheses are simulated on, and how much of a kernel's error one of them explains.
#ifndef BITFLASH_VERIFY_DIAGNOSE_DIAGNOSE_SAMPLE_H_
#define BITFLASH_VERIFY_DIAGNOSE_DIAGNOSE_SAMPLE_H_

#include <cstdint>
#include <vector>

#include "verify/cases/problem.h"
#include "verify/judge/evidence.h"
#include "verify/judge/truth.h"

namespace bitflash::verify {

// A problem, what the kernel gave for it, and what it should have given.
struct Sample {
  Problem problem;
  Outputs outputs;
  Truth truth;
  std::vector<double> o, lse;  // the kernel's
  // Squared errors of the kernel in units of each element's bound, an element at most 1e4: of O, and of LSE.
  double penalty_o = 0, penalty_lse = 0;
};

Sample MakeSample(Problem problem, Outputs outputs);

// The whole problem, or rows around the first error in as many heads as `most_pairs` query-key pairs have room for. The
// rows begin where a tile of query rows would.
Sample SampleOf(const Problem& problem, const Outputs& outputs, const Evidence& evidence, int64_t most_pairs);

// A query head of the sample as a problem with one head, and of its rows a window of about `most_pairs` query-key
// pairs: the last rows, whose keys end where the sequence's do, or others if the last ones are not what is looked for.
// Query tiles of at most 128 rows begin in it as they do in the sample.
enum class Probe : uint8_t {
  kWorst,  // where most is wrong: what the mistake does
  kBest,   // where least is: what the kernel does apart from it
};
Sample ProbeOf(const Sample& sample, Probe probe, int64_t most_pairs);

struct Match {
  int64_t elements = 0;  // of O and LSE that were compared
  int64_t equal = 0;     // whose bits are equal
  double agreement = 0;  // the share of equal elements of O, plus that of LSE
  double explained = 0;  // 1: all of the error, 0: none, below: it makes more
  bool identical() const { return elements > 0 && equal == elements; }
};

Match Compared(const Sample& sample, const Outputs& hypothesis);

// Better first: equal bits, then what is explained.
bool Better(const Match& a, const Match& b);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_DIAGNOSE_DIAGNOSE_SAMPLE_H_
