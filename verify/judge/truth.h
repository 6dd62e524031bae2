// What a problem's outputs are in exact arithmetic, and how far a correct kernel can be from them, element by element.
// Everything that judges (judge.h, metamorphic.h, the fault matrix, the tolerance audit) compares with this.
#ifndef BITFLASH_VERIFY_JUDGE_TRUTH_H_
#define BITFLASH_VERIFY_JUDGE_TRUTH_H_

#include <vector>

#include "reference/error_bound.h"
#include "sim/kernels/kernels.h"
#include "verify/cases/problem.h"

namespace bitflash::verify {

// fp64, in the shapes of Outputs: O [batch, heads_q, seqlen_q, head_dim_v], LSE and the others [batch, heads_q,
// seqlen_q]. Padding (rows beyond a sequence's own) is 0 with bound +inf.
struct Truth {
  std::vector<double> o, lse;
  std::vector<double> o_bound, lse_bound;  // hard: no correct kernel of this arithmetic is further away
  std::vector<double> o_sigma;             // likely: the roundings as independent errors, one standard deviation
};

// The roundings of a kernel that is not known: those of its tensor core, its formats, and the most rescales and the
// longest sums that a kernel with tiles of at least 16 keys makes. Scores and O stay in fp32 until O is written.
// Published kernels that round the query or the scores to 16 bits are not covered by a worst case, but followed:
// score_practice.h.
reference::Arithmetic ArithmeticOf(const Problem& problem, data::Format output_format);

// The same for a simulated kernel: as many rescales as it has key tiles, and O in 16 bits between them where the kernel
// keeps it in global memory (fa1, by Algorithm 1 of arXiv 2205.14135; its CUDA code had fp32 there). That costs a
// rounding of O a key tile, which is why a kernel must be named for it.
reference::Arithmetic ArithmeticOf(const Problem& problem, data::Format output_format, const sim::Kernel& kernel,
                                   const sim::Tiling& tiling);

// The formats are fp16, bf16, fp32, e4m3 and e5m2; scales, sinks, softcap and ragged lengths as Problem says. On all
// threads; a problem of 8 heads x 4096 x 4096 x 128 takes a few seconds on two cores.
Truth ComputeTruth(const Problem& problem, const reference::Arithmetic& arithmetic);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_JUDGE_TRUTH_H_
