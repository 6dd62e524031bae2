// The flags of `bitflash verify`, and what it can be asked to judge.
#ifndef BITFLASH_VERIFY_CLI_VERIFY_FLAGS_H_
#define BITFLASH_VERIFY_CLI_VERIFY_FLAGS_H_

#include <optional>
#include <string>
#include <vector>

#include "verify/cli/commands.h"
#include "verify/cli/output.h"
#include "verify/cli/run_inputs.h"
#include "verify/cli/workload.h"
#include "verify/report.h"
#include "verify/subjects/cpu_kernel.h"

namespace bitflash::verify {

// As written on the command line.
struct VerifyFlags {
  WorkloadFlags workload;
  LengthFlags lengths;  // --device cuda
  InputFlags inputs;
  OutputFlags output;
  std::optional<std::string> device, plugin, fault, case_file, recipe;         // what is judged
  std::optional<std::string> o, lse, layout, kv_layout, output_dtype, v_in_k;  // tensors
  std::optional<std::string> q_scale, k_scale, v_scale;
  std::optional<std::string> init, timeout, cases;  // plug-ins
  std::optional<std::string> heads, runs;           // --device cuda
  std::optional<std::string> pairs, witness, save, junit;
  bool no_relations = false, no_diagnosis = false, github = false;
};

VerifyFlags ParseVerifyFlags(const Arguments& arguments);

// --device cuda: the CUDA kernels against their twins.
ExitCode VerifyDevice(const VerifyFlags& flags, const Arguments& arguments);

// Tensors of a file, or the case in it, as outputs of an unknown kernel.
Report VerifyTensors(const VerifyFlags& flags, const Arguments& arguments, const Output& output);

// The kernel of the CPU that is judged itself: --kernel names it, and there is no other subject. Else null.
const CpuKernel* CpuSubjectOf(const VerifyFlags& flags);

// --plugin, --fault and kernels of the CPU: kernels that can be called.
Report VerifySubject(const VerifyFlags& flags, const Arguments& arguments, const Output& output);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_VERIFY_FLAGS_H_
