// Which simulated launch stands for a kernel that Nsight Compute names.
#ifndef BITFLASH_VERIFY_PREDICT_NSIGHT_KERNELS_H_
#define BITFLASH_VERIFY_PREDICT_NSIGHT_KERNELS_H_

#include <string>
#include <string_view>
#include <vector>

namespace bitflash::verify {

// A kernel whose name has `part` is this launch of this simulated kernel. Parts are found in names with and without
// their mangling, namespaces and arguments.
struct KernelPattern {
  std::string part;    // "flash_fwd_kernel"
  std::string kernel;  // "pytorch-fa2"; empty: known, and not simulated
  std::string launch;  // "fa2_forward"; if not simulated, what it is
};

// More specific ones first. Of several with one part, the first is whose it is; the others are its likes.
const std::vector<KernelPattern>& KernelPatterns();

// The simulated kernel that a name is of, "" for one that is known and not simulated or not known at all.
std::string SimulatedKernelOf(std::string_view name);

// The launch of `kernel` that a name stands for, or "".
std::string LaunchOf(std::string_view name, std::string_view kernel);

// Why a name has no simulated launch, if it is known: "memory-efficient attention of PyTorch is not simulated".
std::string WhyNotSimulated(std::string_view name);

// What to give to `ncu --kernel-name` so that the launches of these kernels are profiled and no others:
// "regex:fa2_forward|flash_fwd_kernel".
std::string KernelNameFilter(const std::vector<std::string>& kernels, const std::vector<std::string>& also);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_PREDICT_NSIGHT_KERNELS_H_
