// Checks that compare a kernel with itself: what must not change when the problem is changed in a way that attention
// does not see. They need no reference for the values; how far two answers may differ follows from the bounds of
// truth.h, those of both calls added.
#ifndef BITFLASH_VERIFY_JUDGE_METAMORPHIC_H_
#define BITFLASH_VERIFY_JUDGE_METAMORPHIC_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "reference/error_bound.h"
#include "verify/subjects/subject.h"

namespace bitflash::verify {

struct MetamorphicOptions {
  // The kernel claims that a sequence has the same bits whatever else is in the batch: MM4 then demands them.
  bool batch_invariant = false;
  // Roundings of the kernel; empty: ArithmeticOf, which is generous.
  std::optional<reference::Arithmetic> arithmetic;
  std::vector<std::string> only;  // ids; empty: all
};

enum class MetamorphicStatus : uint8_t { kPassed, kFailed, kNotApplicable };

struct MetamorphicResult {
  std::string id;    // "MM1"; stable
  std::string name;  // "V = 1 gives O = 1"
  MetamorphicStatus status = MetamorphicStatus::kPassed;
  std::string note;      // why not applicable; else what was compared, or ""
  std::string suggests;  // kFailed: where to look

  // Of the comparison with the largest error in units of its bound. Bits that differ where they must not: bound 0.
  std::string compared;  // "O with the keys permuted"
  double error = 0, bound = 0;
  std::vector<int64_t> index;  // kFailed: the first element beyond its bound, of the problem's O or LSE
  int64_t failures = 0;        // elements beyond their bounds
};

struct MetamorphicCheck {
  std::string_view id, name, suggests;
};

// MM1 to MM8, in their order:
//   MM1  V = 1 gives O = 1 (less with sinks)
//   MM2  a constant added to all logits of a row leaves O, and moves LSE by it: exact, as a column of Q and K of powers
//        of two. Compared with the problem without that column. Does not apply where it fails and a practice of
//        score_practice.h explains the raised logits.
//   MM3  permuted keys change nothing (full mask)
//   MM4  a sequence does not depend on its neighbours, nor on its place in the batch
//   MM5  O is linear in V: V = V1 + V2, each with the other's keys zero, and O = O(V1) - O(-V2)
//   MM6  keys split in two and merged by LSE give the unsplit O and LSE
//   MM7  NaN, infinity and large numbers behind the lengths of sequences change no bit
//   MM8  a second call, and one after a call with another problem, gives the same bits
const std::vector<MetamorphicCheck>& MetamorphicChecks();

// About 20 calls of the subject. A check whose problem the subject does not take (UndecidedError) is not applicable;
// other exceptions of the subject come through. Throws UsageError for an invalid problem and an unknown id.
std::vector<MetamorphicResult> RunMetamorphic(Subject& subject, const Problem& problem,
                                              const MetamorphicOptions& options = {});

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_JUDGE_METAMORPHIC_H_
