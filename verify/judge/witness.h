// The second witness: a kernel of the CPU (cpu_kernel.h) that says what the outputs are where fp64 (truth.h) takes too
// long, with how far it can itself be off added to every bound. It is trusted only after it was held against fp64.
//
// The bounds need no fp64 pass: sums of p |V| come from the same call, as columns of their own, and magnitudes of
// scores from norms of the rows of Q and K. They are never tighter than those of truth.h.
//
// Values that are not finite. What the inputs decide by position is taken from them: a NaN in a row of Q, or in a key
// that it sees, makes its O and LSE NaN, also beside scores of +inf or -inf; a NaN of V that it sees makes that column
// NaN. Infinities follow IEEE 754 in both witnesses, and the second is asked. Where it may have overflowed, or an
// infinity of V met a weight that is 0 only in fp32, it says nothing: the element is open, as one whose bound is
// infinite, and counted.
#ifndef BITFLASH_VERIFY_JUDGE_WITNESS_H_
#define BITFLASH_VERIFY_JUDGE_WITNESS_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "verify/judge/truth.h"
#include "verify/subjects/cpu_kernel.h"

namespace bitflash::verify {

enum class WitnessChoice : uint8_t {
  kAuto,  // fp64 as far as its budget goes, the CPU kernel for the rest
  kFp64,  // fp64 alone: larger problems are sampled
  kSimd,  // the CPU kernel; fp64 for the sample that it is held against
};

// Why the kernel cannot judge the problem, a sentence; empty where it can.
std::string WhyNoWitness(const CpuKernel& kernel, const Problem& problem);

struct Witness {
  // As ComputeTruth's: with bounds that hold the subject's error and the witness's. o_sigma is empty.
  Truth truth;
  // How far the witness itself can be from exact arithmetic; +inf: it says nothing, the element is open.
  std::vector<double> o_error, lse_error;
  int64_t open = 0;  // elements of O and LSE
};

// `part` is a problem as Extract makes it: one sequence without padding. `subject` are the roundings of the kernel that
// is judged, as for ComputeTruth. On all threads; throws as the kernel. Requires that WhyNoWitness is empty.
Witness ComputeWitness(const Problem& part, const reference::Arithmetic& subject, const CpuKernel& kernel);

// The witness held against fp64.
struct WitnessCheck {
  int64_t rows = 0, elements = 0;  // of query heads; of O and of LSE
  int64_t beyond = 0;              // further from fp64 than the witness's own bound, or of another kind
  double worst = 0;                // largest error in units of that bound
  std::optional<std::array<int64_t, 4>> first_beyond;  // sequence, head, row, column; -1: LSE
};

// Adds a part of which both are known.
void AddCheck(const Part& part, int64_t columns, const Witness& witness, const Truth& truth, WitnessCheck* check);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_JUDGE_WITNESS_H_
