// Attention kernels that run on the CPU of this machine, by name: real kernels, nothing of them is simulated. `run`
// and `verify` take them as --kernel, and cpu-simd is the second witness of the judge (witness.h).
#ifndef BITFLASH_VERIFY_SUBJECTS_CPU_KERNEL_H_
#define BITFLASH_VERIFY_SUBJECTS_CPU_KERNEL_H_

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/format.h"
#include "reference/cpu_attention.h"
#include "verify/subjects/subject.h"

namespace bitflash::verify {

struct CpuKernel {
  std::string_view name;     // "cpu-simd"
  std::string_view title;    // one line
  std::string_view summary;  // a few sentences: what it computes, and that it is not a simulation
  std::string_view source;
  std::vector<data::Format> formats;  // of Q, K and V, and of O

  // As reference::CpuAttention, with its errors. `threads`: 0 is OpenMP's choice.
  std::function<void(const data::Attention&, const reference::CpuAttentionInputs&,
                     const reference::CpuAttentionOutputs&, int threads)>
      run;
  // Its roundings, for reference::BoundAttention, with O in this format.
  reference::Arithmetic (*arithmetic)(const data::Attention& attention, data::Format output) = nullptr;
  // Why this machine cannot run it, a sentence; empty where it can.
  std::function<std::string()> unavailable = [] { return std::string(); };
};

// In the order in which they are listed.
std::span<const CpuKernel> CpuKernels();

// Null when no kernel has the name.
const CpuKernel* FindCpuKernel(std::string_view name);

// Throws UndecidedError where this machine cannot run the kernel, or the kernel does not take the format.
void RequireTaken(const CpuKernel& kernel, const data::Attention& attention);

// O in the format of the inputs, and LSE. v_scale multiplies O in fp32. Throws as RequireTaken and as the kernel, and
// UndecidedError for sinks.
Outputs RunCpuKernel(const CpuKernel& kernel, const Problem& problem);

class CpuSubject : public Subject {
 public:
  explicit CpuSubject(const CpuKernel& kernel) : kernel_(kernel) {}
  std::string name() const override { return std::string(kernel_.name); }
  Outputs Run(const Problem& problem) override { return RunCpuKernel(kernel_, problem); }

 private:
  const CpuKernel& kernel_;
};

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_SUBJECTS_CPU_KERNEL_H_
