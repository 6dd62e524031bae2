// From the flags of `verify` to what the library takes: hints about tensors, the kernel that is named, what to check.
#ifndef BITFLASH_VERIFY_CLI_CHECK_FLAGS_H_
#define BITFLASH_VERIFY_CLI_CHECK_FLAGS_H_

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "verify/cases/case_input.h"
#include "verify/check.h"
#include "verify/cli/recipe_flag.h"
#include "verify/cli/verify_flags.h"

namespace bitflash::verify {

// The workload flags of a problem that is there already, for what they say of kernels and GPUs.
WorkloadFlags WithProblem(WorkloadFlags flags, const data::Attention& attention);

CaseHints HintsOf(const VerifyFlags& flags);
CheckOptions CheckOptionsOf(const VerifyFlags& flags);

// The files that the flags name, --case, --in and one for each tensor.
std::vector<NamedFile> FilesOf(const VerifyFlags& flags);

// Throws UsageError for flags that make problems: files hold them.
void RefuseProblemFlags(const VerifyFlags& flags);

// Throws UsageError for a flag about tensors from files where there are none, and, where cases are generated
// (`generated`), for a flag that describes the one problem of a shape.
void RefuseIdleFlags(const VerifyFlags& flags, bool generated);

// Throws UsageError for a flag of the shape that the tensors contradict.
void RequireSameShape(const WorkloadFlags& flags, const data::Attention& attention);

// The one kernel of the flags, fa2 where there is none, with its tile for this problem. A recipe, which is kept by the
// caller, has filled in the flags (ReadRecipe) and replaces the kernel. Throws as ResolveWorkload does.
SimulatedKernel KernelOf(const WorkloadFlags& flags, const data::Attention& attention,
                         const std::optional<RecipeFile>& recipe);

// The kernel whose bits are expected: that of the flags, else the one that the file's notes name (which is then said in
// `assumed`). Empty when there is none.
std::optional<SimulatedKernel> NamedKernel(const WorkloadFlags& flags, const std::optional<RecipeFile>& recipe,
                                           const Problem& problem, const std::map<std::string, std::string>& notes,
                                           std::vector<std::string>& assumed);

// The progress line of one case.
class CheckProgress {
 public:
  explicit CheckProgress(const Output& output) : output_(output) {}
  std::function<void(std::string_view, double)> function() const;

 private:
  const Output& output_;
};

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_CHECK_FLAGS_H_
