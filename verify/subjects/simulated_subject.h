// A simulated kernel as a Subject, with or without a mistake in it: what judges are tried on.
#ifndef BITFLASH_VERIFY_SUBJECTS_SIMULATED_SUBJECT_H_
#define BITFLASH_VERIFY_SUBJECTS_SIMULATED_SUBJECT_H_

#include <functional>
#include <string>

#include "sim/count.h"
#include "verify/diagnose/faults.h"
#include "verify/subjects/subject.h"

namespace bitflash::verify {

class SimulatedSubject : public Subject {
 public:
  // `choose` gives the kernel and its tile for a problem; it may throw UndecidedError or UsageError where there is
  // none.
  using Choose = std::function<SimulatedKernel(const data::Attention&)>;
  explicit SimulatedSubject(Choose choose, const Fault* fault = nullptr) : choose_(std::move(choose)), fault_(fault) {}

  std::string name() const override;
  // Throws UndecidedError where the kernel does not take the problem, or the fault cannot change anything.
  Outputs Run(const Problem& problem) override;

 private:
  Choose choose_;
  const Fault* fault_;
};

// The kernel with its published tiling, and the user's choices in it. Throws UndecidedError where the published kernel
// does not run the problem.
SimulatedKernel PublishedKernel(const sim::Kernel& kernel, const data::Attention& attention, const data::Gpu& gpu,
                                const sim::TilingChoice& choice = {});

// The published tiling of the kernel for each problem, on the GPU.
SimulatedSubject::Choose PublishedTilings(const sim::Kernel& kernel, const data::Gpu& gpu);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_SUBJECTS_SIMULATED_SUBJECT_H_
