// What `verify` found, and its two forms: JSON, and text for people.
#ifndef BITFLASH_VERIFY_CLI_VERIFY_RESULT_H_
#define BITFLASH_VERIFY_CLI_VERIFY_RESULT_H_

#include <optional>
#include <string>
#include <vector>

#include "gpu/device.h"
#include "verify/cli/length_flags.h"
#include "verify/cli/output.h"
#include "verify/cli/workload.h"
#include "verify/device/device_plan.h"
#include "verify/device/device_verify.h"
#include "verify/subjects/simulate.h"

namespace bitflash::verify {

enum class Verdict { kPass, kFail, kUndecided };

// "pass", "fail", "undecided".
std::string_view Name(Verdict verdict);

// One CUDA kernel against its twin.
struct KernelVerdict {
  const sim::Kernel* kernel = nullptr;
  Verdict verdict = Verdict::kUndecided;
  std::string reason;   // why nothing was decided
  std::string command;  // repeats this kernel alone

  // Only with a device, whatever the verdict.
  std::optional<DevicePlan> plan;
  // Empty when nothing was decided.
  std::optional<Agreement> agreement;
  int64_t runs = 0;               // on the device
  int64_t unstable_elements = 0;  // that changed from the first run to another, counted for each
  double device_seconds = 0;      // of the fastest run
  double simulation_seconds = 0;
};

struct VerifyResult {
  const Workload& workload;
  HeadSubset heads;
  std::string inputs;                 // "hash-normal, seed 7" or the files
  Lengths lengths = {};
  std::optional<gpu::Device> device = {};  // empty: there is none
  std::vector<KernelVerdict> kernels = {};

  int64_t Count(Verdict verdict) const;
};

// A flag that a repeated command leaves out.
struct DroppedFlag {
  std::string_view flag;
  bool takes_value;  // in the next word, unless there is a '='
};

// The arguments as a shell takes them, each after a blank, without some flags.
std::string ShellWords(const std::vector<std::string>& arguments, const std::vector<DroppedFlag>& dropped);

// The arguments as a command line that a shell takes, for this kernel alone: without --json and without the choices
// that mean something only to others.
std::string RepeatCommand(const std::vector<std::string>& arguments, const sim::Kernel& kernel);

// verify/schemas/verify.schema.json.
Json VerifyJson(const VerifyResult& result);

// The last line is "RESULT pass=1 fail=0 undecided=0".
std::string VerifyText(const VerifyResult& result, bool color);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_VERIFY_RESULT_H_
