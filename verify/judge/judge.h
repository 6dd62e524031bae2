// The judgement of a kernel's outputs: the first rung of a ladder that they stand on, with the evidence for it.
#ifndef BITFLASH_VERIFY_JUDGE_JUDGE_H_
#define BITFLASH_VERIFY_JUDGE_JUDGE_H_

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "verify/cases/problem.h"
#include "verify/diagnose/faults.h"
#include "verify/judge/compare.h"
#include "verify/judge/evidence.h"
#include "verify/judge/flash_rule.h"
#include "verify/judge/score_practice.h"
#include "verify/judge/witness.h"

namespace bitflash::verify {

// From the strongest statement to the weakest.
enum class Rung : uint8_t {
  kExact,         // every bit is that of the kernel that was named
  kExactVariant,  // every bit is that of a correct variant: another recipe, tile, split or order
  kBounded,       // every element is within the bound that every correct kernel keeps, perhaps one that rounds its
                  // scores as a published practice does (Judgement::practice)
  kWrong,         // some element is not: no correct kernel of these formats computes that
  kUndecided,     // nothing could be judged
};
std::string_view Name(Rung rung);  // "exact", "exact-variant", "bounded", "wrong", "undecided"
bool Passes(Rung rung);

// With one simulated kernel, over all parts.
struct BitAgreement {
  std::string kernel;    // "fa2 (128x64, 4 warps, 1 stage, sm90)": what was simulated
  std::string reason;    // why nothing was compared
  int64_t elements = 0;  // of O and of LSE
  int64_t differ = 0;    // whose bits are others
  Difference o;          // a: the kernel that is judged, b: the simulation
  std::optional<Difference> lse;
};

// What the second witness (witness.h) did in a judgement: the rows that fp64 did not reach.
struct WitnessReport {
  std::string kernel;  // "cpu-simd"
  bool used = false;
  std::string reason;  // why it was not used: it does not apply, or it failed its own check
  WitnessCheck check;  // on rows that fp64 judged
  int64_t rows = 0;    // of query heads that it judged
  int64_t beyond = 0;  // elements of these beyond their bounds
  int64_t open = 0;    // elements of these about which it says nothing
  double seconds = 0;  // of its own, the check included
};

struct Judgement {
  Rung rung = Rung::kUndecided;
  std::string reason;  // one sentence: why this rung
  Evidence evidence;   // against the bound of a kernel that keeps its scores in fp32
  // Elements are beyond that bound, and all of them within that of this practice (score_practice.h): kBounded.
  std::optional<PracticeMatch> practice;
  std::vector<Part> parts;  // what fp64 judged; all of the problem, or a sample that the reason speaks of
  bool sampled = false;     // fp64 and the comparison of bits saw a sample; a witness that was used saw the rest
  int64_t fp64_rows = 0;    // of query heads
  std::optional<WitnessReport> witness;  // where fp64 does not reach everything and one was wanted
  std::optional<BitAgreement> named;     // with the kernel that was named
  std::optional<BitAgreement> variant;   // kExactVariant: with the kernel that was found
  std::optional<FlashRule> flash_rule;   // 16-bit formats
  double truth_seconds = 0, simulation_seconds = 0;
};

struct JudgeOptions {
  std::optional<SimulatedKernel> named;
  // Where the bits are not those of the named kernel: search for the recipe that made them (identify.h), in about this
  // many multiply-adds; 0: do not. 2e10 take a second or two on two cores.
  double variant_work = 2e10;
  // Query-key pairs that fp64 may judge: of a larger problem it sees a sample, every head of it, in rows spread over
  // the sequence. 0: everything. About 3e7 a second on two cores.
  int64_t most_pairs = int64_t{1} << 30;
  // The same where the witness sees the rest: what fp64 adds there is a tighter bound, at ten times the cost or more.
  int64_t most_pairs_beside_witness = int64_t{1} << 27;
  // Who judges the rows that fp64 does not reach. kSimd: fp64 sees no more than kWitnessCheckPairs, where it applies.
  WitnessChoice witness = WitnessChoice::kAuto;
  const CpuKernel* witness_kernel = nullptr;  // null: cpu-simd
  std::function<void(double)> progress;       // 0 to 1
};

inline constexpr int64_t kWitnessCheckPairs = int64_t{1} << 26;  // a few seconds of fp64

// The parts that a budget allows: whole sequences, or of every head rows from the beginning, the end and between.
std::vector<Part> ChooseParts(const Problem& problem, int64_t most_pairs);

// Throws UsageError when the outputs have not the shapes of the problem.
Judgement Judge(const Problem& problem, const Outputs& outputs, const JudgeOptions& options);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_JUDGE_JUDGE_H_
