// Something that computes attention and is to be judged: a plug-in, a CUDA kernel of gpu/, a simulated kernel with or
// without a fault. Checks that need more than one call (metamorphic.h, cases.h) take a Subject.
#ifndef BITFLASH_VERIFY_SUBJECTS_SUBJECT_H_
#define BITFLASH_VERIFY_SUBJECTS_SUBJECT_H_

#include <string>

#include "verify/cases/problem.h"

namespace bitflash::verify {

class Subject {
 public:
  virtual ~Subject() = default;

  // "fa2 (simulated)", "libmykernel.so".
  virtual std::string name() const = 0;

  // Calls the kernel once. Throws UndecidedError when it does not take the problem, PluginError (plugin.h) when it
  // fails in a way that is its own fault: a crash, a timeout, writes outside its outputs.
  virtual Outputs Run(const Problem& problem) = 0;
};

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_SUBJECTS_SUBJECT_H_
