// FlashAttention's own rule, said beside the verdict: max |O - ref| <= 2 max |O' - ref|, with ref the truth rounded to
// the inputs' format and O' the same attention in low precision throughout (criteria.h).
#ifndef BITFLASH_VERIFY_JUDGE_FLASH_RULE_H_
#define BITFLASH_VERIFY_JUDGE_FLASH_RULE_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "verify/cases/problem.h"
#include "verify/judge/truth.h"

namespace bitflash::verify {

// It sees one number for the whole tensor; blind rows are those that could be all zeros and pass.
struct FlashRule {
  double error = 0, limit = 0;
  int64_t blind_rows = 0, rows = 0;               // of those that were looked at
  bool sampled = false;                           // error, limit and rows are those of a sample
  bool passes() const { return error <= limit; }  // false for NaN
};

// Over the parts of a problem: what the rule sees of each row is collected, since its limit is known only at the end.
// Low precision costs more than the truth, so of a large problem rows spread over each part are taken, of all heads.
class FlashRuleMeter {
 public:
  // About 2^24 query-key pairs are looked at, a second or two on two cores.
  explicit FlashRuleMeter(int64_t all_pairs);

  // A part as a problem of its own, as for Evidence::Add.
  void Add(const Problem& part, const Outputs& outputs, const Truth& truth);

  // Empty without rows, and for formats and features that the rule is not defined for.
  std::optional<FlashRule> Result() const;

 private:
  void AddRows(const Problem& problem, const std::vector<double>& o, const std::vector<double>& exact_o);

  double share_;
  FlashRule result_;
  double low_precision_error_ = 0;
  bool undefined_ = false;
  std::vector<double> rows_;  // largest |O| of each
};

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_JUDGE_FLASH_RULE_H_
