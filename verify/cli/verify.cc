// bitflash verify: is what a kernel computes what it should compute?
#include <fmt/format.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "data/error.h"
#include "verify/cli/ci_report.h"
#include "verify/cli/cpu_kernel_flag.h"
#include "verify/cli/text.h"
#include "verify/cli/verdict_text.h"
#include "verify/cli/verify_flags.h"

namespace bitflash::verify {
namespace {

using data::UsageError;

// Appended, as GitHub's documentation asks for; without the variable there is no summary.
void WriteStepSummary(const Report& report) {
  const char* path = std::getenv("GITHUB_STEP_SUMMARY");
  if (path == nullptr || *path == '\0') return;
  std::ofstream file(path, std::ios::app | std::ios::binary);
  file << GithubSummary(report);
  if (!file.flush()) throw OutputError(fmt::format("{}: cannot be written", Printable(path)));
}

ExitCode ExitCodeOf(const Report& report) {
  if (report.Count(Outcome::kBroken) > 0) return ExitCode::kPlugin;
  if (report.Count(Outcome::kFail) > 0) return ExitCode::kMismatch;
  // A kernel may not take some of the cases; one that takes none was not judged.
  return report.Count(Outcome::kPass) == 0 ? ExitCode::kUndecided : ExitCode::kPass;
}

// Said before anything is read or runs. What only tensors or only a shape contradict is said where they are read.
void RefuseContradictions(const VerifyFlags& flags, bool tensors) {
  if (flags.device && (flags.plugin || flags.fault)) throw UsageError("--device contradicts --plugin and --fault");
  if (flags.device && (flags.o || flags.lse)) {
    throw UsageError("--o and --lse contradict --device cuda: the kernel gives the outputs");
  }
  if (flags.device && flags.case_file && flags.heads) {
    throw UsageError("--heads contradicts --case: a saved case is compared whole");
  }
  if (flags.plugin && flags.fault) {
    throw UsageError("--plugin contradicts --fault: a fault is put into a simulated kernel");
  }
  if (flags.case_file && flags.inputs.FromFiles()) throw UsageError("--case contradicts --in, --q, --k and --v");
  if (flags.recipe && (flags.fault || flags.device)) {
    throw UsageError("--recipe contradicts --fault and --device: it says which bits a kernel should give");
  }
  if (flags.lengths.any() && !flags.device) {
    throw UsageError("--seqlens-q and --seqlens-k need --device cuda: tensors and saved cases say theirs themselves");
  }
  if ((flags.heads || flags.runs) && !flags.device) throw UsageError("--heads and --repeat need --device cuda");
  if ((flags.init || flags.timeout) && !flags.plugin) throw UsageError("--init and --timeout need --plugin");
  if (flags.device && (flags.junit || flags.github || flags.save || flags.cases || flags.pairs || flags.witness)) {
    throw UsageError(
        "--junit, --github, --save, --cases, --pairs and --witness contradict --device cuda: it compares bits, once");
  }
  if (flags.save == "" || flags.junit == "") throw UsageError("--save and --junit: '' is no file name");
  if (const CpuKernel* kernel = CpuSubjectOf(flags)) {
    RefuseSimulationFlags(*kernel, flags.workload);
    if (flags.recipe) {
      throw UsageError(
          fmt::format("--recipe contradicts --kernel {}: a recipe is of a simulated kernel", kernel->name));
    }
    if (flags.witness == "simd" && kernel->name == "cpu-simd") {
      throw UsageError("--witness simd contradicts --kernel cpu-simd: no kernel is its own witness");
    }
    return;
  }
  if (!flags.device && !flags.plugin && !flags.fault && !tensors) {
    throw UsageError(
        "nothing to judge: give tensors (--in FILE, or --q, --k, --v and --o), a saved case (--case FILE), a kernel "
        "(--plugin FILE.so, --device cuda, --kernel cpu-simd) or a mistake (--fault NAME)");
  }
}

}  // namespace

const CpuKernel* CpuSubjectOf(const VerifyFlags& flags) {
  const CpuKernel* kernel = NamedCpuKernel(flags.workload);
  const bool another = flags.device || flags.plugin || flags.fault || flags.o || flags.lse;
  return another ? nullptr : kernel;
}

ExitCode Verify(const Arguments& arguments) {
  const VerifyFlags flags = ParseVerifyFlags(arguments);
  const bool tensors = flags.o || flags.inputs.in || (flags.case_file && !flags.plugin && !flags.fault);
  RefuseContradictions(flags, tensors);
  if (flags.device) return VerifyDevice(flags, arguments);
  Output output("verify", flags.output);
  const Report report = flags.plugin || flags.fault || CpuSubjectOf(flags) ? VerifySubject(flags, arguments, output)
                                                                           : VerifyTensors(flags, arguments, output);
  if (output.wants_json()) output.JsonResult(ReportJson(report));
  if (output.wants_text()) output.Text(ReportText(report, output.color()));
  if (flags.junit) WriteFile(*flags.junit, JUnitXml(report));
  output.Finish();
  if (flags.github) {
    for (const std::string& line : GithubAnnotations(report)) WriteError(line);
    WriteStepSummary(report);
  }
  return ExitCodeOf(report);
}

}  // namespace bitflash::verify
