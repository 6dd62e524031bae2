#include "verify/subjects/simulated_subject.h"

#include <algorithm>

#include "data/error.h"

namespace bitflash::verify {

std::string SimulatedSubject::name() const {
  return fault_ ? "simulated kernel with " + std::string(fault_->id) : "simulated kernel";
}

Outputs SimulatedSubject::Run(const Problem& problem) try {
  const SimulatedKernel kernel = choose_(problem.attention);
  if (!fault_) return RunSimulated(kernel, problem);
  if (!fault_->Applies(kernel, problem)) {
    throw data::UndecidedError(std::string(fault_->id) +
                               " cannot change anything here: " + std::string(fault_->mistake));
  }
  return fault_->Run(kernel, problem);
} catch (const data::UsageError& error) {
  throw data::UndecidedError(error.what());  // the kernel does not take the problem
}

SimulatedKernel PublishedKernel(const sim::Kernel& kernel, const data::Attention& a, const data::Gpu& gpu,
                                const sim::TilingChoice& choice) {
  if (a.seqlen_q < kernel.min_seqlen_q) {
    throw data::UndecidedError(std::string(kernel.name) + " answers " + std::to_string(a.seqlen_q) +
                               " query rows with another kernel");
  }
  const sim::Tiling tiling = sim::ResolveTiling(kernel, a, gpu, choice);
  const std::string problem = sim::Infeasible(kernel, a, tiling, gpu);
  if (!problem.empty()) throw data::UndecidedError(std::string(kernel.name) + ": " + problem);
  return {&kernel, tiling, gpu.arch};
}

SimulatedSubject::Choose PublishedTilings(const sim::Kernel& kernel, const data::Gpu& gpu) {
  return [&kernel, gpu](const data::Attention& a) { return PublishedKernel(kernel, a, gpu); };
}

}  // namespace bitflash::verify
