// What `verify` found, case by case, in a form that every writer (terminal, JSON, JUnit, GitHub) takes.
#ifndef BITFLASH_VERIFY_REPORT_H_
#define BITFLASH_VERIFY_REPORT_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "verify/diagnose/diagnose.h"
#include "verify/diagnose/locality.h"
#include "verify/judge/judge.h"
#include "verify/judge/metamorphic.h"

namespace bitflash::verify {

enum class Outcome : uint8_t {
  kPass,
  kFail,       // the outputs are wrong, or a check failed
  kUndecided,  // nothing was judged: never a pass
  kBroken,     // the plug-in failed: a crash, a timeout, a write outside
};
std::string_view Name(Outcome outcome);  // "pass", "fail", "undecided", "broken"

// Two calls of a plug-in with the same inputs.
struct CallFacts {
  int64_t unwritten_o = 0, unwritten_lse = 0;  // elements that still hold what outputs were filled with
  int64_t differing_o = 0, differing_lse = 0;  // elements whose bits changed from the first call to the second
  int64_t stale_o = 0;                         // elements that did not change when V was negated
  std::string fp_control_note;                 // the floating-point control word was left changed
  std::string printed;                         // the end of what it printed
  double seconds = 0;
};

struct CaseReport {
  std::string name;     // of the case: a file, or "b2_h6-2_s127x129_d64_bf16_causal_spiky_seed7"
  std::string problem;  // data::ToString, and what it leaves out
  Outcome outcome = Outcome::kUndecided;
  std::string reason;                // one sentence
  std::vector<std::string> assumed;  // what was not said, and the value taken

  std::optional<Judgement> judgement;
  std::optional<CallFacts> calls;
  std::vector<MetamorphicResult> metamorphic;
  std::optional<Locality> locality;    // when something is beyond its bound
  std::optional<Diagnosis> diagnosis;  // likewise
  std::vector<std::string> advice;     // what to try next

  std::string saved;          // the file that holds the case, or a smaller one that fails too; empty: none
  std::string saved_problem;  // what it holds, as `problem`
  std::string command;        // repeats this case alone
  double seconds = 0;
};

// What a check found, in a sentence: "O with the keys permuted: 3 elements, first (0, 1, 2, 3), error 0.1, bound 0.01".
std::string RelationText(const MetamorphicResult& check);

struct Report {
  std::string subject;  // "libmykernel.so (my-attention 1.2.0)", "o.safetensors"
  std::vector<CaseReport> cases;

  int64_t Count(Outcome outcome) const;
};

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_REPORT_H_
