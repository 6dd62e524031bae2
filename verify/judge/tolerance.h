// "Would my test catch a broken kernel?" Known mistakes put through a tolerance, on one problem and its data.
#ifndef BITFLASH_VERIFY_JUDGE_TOLERANCE_H_
#define BITFLASH_VERIFY_JUDGE_TOLERANCE_H_

#include <functional>
#include <optional>
#include <vector>

#include "verify/diagnose/faults.h"
#include "verify/judge/criteria.h"
#include "verify/judge/truth.h"

namespace bitflash::verify {

struct Tolerance {
  double atol = 0, rtol = 0;
};

// One mistake, judged by several criteria. O and, where there is one, LSE.
struct FaultAudit {
  const Fault* fault = nullptr;
  CriterionResult o;                        // AllClose of O
  std::optional<CriterionResult> lse;       // AllClose of LSE
  CriterionResult nmse;                     // of O, 5e-4
  std::optional<CriterionResult> fa2, fa3;  // FlashAttention's rules for O, where they are defined
  int64_t beyond_bound = 0;                 // elements of O and LSE that no correct kernel can give
  double worst_ratio = 0;                   // the largest error of an element in units of its bound; infinite for NaN

  bool passes_tolerance() const { return o.passes && (!lse || lse->passes); }
  // Let through although it is wrong.
  bool escapes() const { return passes_tolerance() && beyond_bound > 0; }
};

struct ToleranceAudit {
  Tolerance tolerance;
  std::vector<FaultAudit> faults;   // those that apply, in the order of Faults()
  std::optional<FaultAudit> right;  // the kernel without a mistake; fault is null. Empty: it is not modelled
  int64_t not_applicable = 0;       // faults that cannot show here

  // Of the elements of O that have a finite bound.
  double largest_bound = 0, median_bound = 0;
  // With rtol as given, the smallest atol that no correct kernel can exceed.
  double tightest_atol = 0;
  int64_t rows = 0;        // of O, without padding
  int64_t blind_rows = 0;  // those that could be zeros and pass
  std::optional<double> fa2_limit, fa3_limit;
  std::optional<int64_t> fa2_blind_rows, fa3_blind_rows;

  int64_t escaped() const;   // mistakes that the tolerance lets through although they are wrong
  int64_t harmless() const;  // within every element's bound here: no test of this problem can tell
};

// `progress` is called with the number of mistakes that were run and how many there are. Throws UsageError for
// tolerances that are negative or not finite, UndecidedError when no mistake can be simulated.
ToleranceAudit AuditTolerance(const SimulatedKernel& kernel, const Problem& problem, const Tolerance& tolerance,
                              const std::function<void(int64_t, int64_t)>& progress = {});

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_JUDGE_TOLERANCE_H_
