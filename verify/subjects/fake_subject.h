// A kernel for the tests of what judges kernels: attention in fp64, rounded once, and the same with a planted mistake.
// It shares no code with the truth that it is judged by.
#ifndef BITFLASH_VERIFY_SUBJECTS_FAKE_SUBJECT_H_
#define BITFLASH_VERIFY_SUBJECTS_FAKE_SUBJECT_H_

#include <string>

#include "verify/subjects/subject.h"

namespace bitflash::verify {

enum class Planted : uint8_t {
  kNothing,
  kTail,              // the last key is skipped where seqlen_k % 64 == 1
  kLastKeyOfSum,      // the row sum lacks the last visible key
  kBase2,             // LSE in base 2
  kNoMaximum,         // exp in fp32 without subtracting the largest logit
  kFirstSequence,     // every sequence reads K and V of the first one
  kBatchBits,         // O is rounded toward zero in batches of more than one: correct, but other bits
  kPaddingTimesZero,  // keys behind the end take part with weight 0
  kCounts,            // every other call rounds toward zero
  kSkipsZeroV,        // keys whose V begins with 0 do not count
  kLastKeyTwice,      // the last key counts twice
};

class FakeSubject : public Subject {
 public:
  explicit FakeSubject(Planted planted = Planted::kNothing, data::Format output = data::Format::kBf16)
      : planted_(planted), output_(output) {}

  std::string name() const override { return "fake"; }
  Outputs Run(const Problem& problem) override;

  int64_t calls() const { return calls_; }

 private:
  void Row(const Problem& p, int64_t b, int64_t h, int64_t i, Outputs& outputs) const;

  Planted planted_;
  data::Format output_;
  int64_t calls_ = 0;
};

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_SUBJECTS_FAKE_SUBJECT_H_
