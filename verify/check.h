// One case from end to end: the judgement, the checks that need no reference, and the diagnosis of what is wrong.
#ifndef BITFLASH_VERIFY_CHECK_H_
#define BITFLASH_VERIFY_CHECK_H_

#include <functional>
#include <string>
#include <string_view>

#include "verify/report.h"
#include "verify/subjects/plugin.h"
#include "verify/subjects/subject.h"

namespace bitflash::verify {

struct CheckOptions {
  JudgeOptions judge;
  bool metamorphic = true;  // subjects only: needs more calls
  bool diagnose = true;
  // What is being done, and how much of it, 0 to 1.
  std::function<void(std::string_view step, double share)> progress;
};

// Tensors that a kernel has written.
CaseReport CheckOutputs(const std::string& name, const Problem& problem, const Outputs& outputs,
                        const CheckOptions& options);

// A kernel that can be called. PluginError and UndecidedError end in the report; others are thrown.
CaseReport CheckSubject(const std::string& name, const Problem& problem, Subject& subject, const CheckOptions& options);

// "batch 2, heads 8/2, ..., lengths of keys 3 to 17, sinks".
std::string Describe(const Problem& problem);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CHECK_H_
