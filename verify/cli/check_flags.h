// From the flags of `verify` to what the library takes: hints about tensors, the kernel that is named, what to check.
#ifndef BITFLASH_VERIFY_CLI_CHECK_FLAGS_H_
#define BITFLASH_VERIFY_CLI_CHECK_FLAGS_H_

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "verify/case_input.h"
#include "verify/check.h"
#include "verify/cli/verify_flags.h"

namespace bitflash::verify {

CaseHints HintsOf(const VerifyFlags& flags);
CheckOptions CheckOptionsOf(const VerifyFlags& flags);

// The kernel whose bits are expected: --kernel with its tile, else the one that the file's notes name (which is then
// said in `assumed`). Empty when there is none.
std::optional<SimulatedKernel> NamedKernel(const VerifyFlags& flags, const Problem& problem,
                                           const std::map<std::string, std::string>& notes,
                                           std::vector<std::string>& assumed);

// The command line that was given, as a shell takes it, without --json and the other files that it writes.
std::string CommandText(const Arguments& arguments);

// Writes DIR/NAME.safetensors, with the folder; returns its path. Throws OutputError.
std::string SaveCase(const std::string& folder, const std::string& name, Case saved);

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
