// bitflash verify: is what a kernel computes what it should compute?
#include <fmt/format.h>

#include <cstdlib>
#include <fstream>

#include "data/error.h"
#include "verify/cli/ci_report.h"
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

}  // namespace

ExitCode Verify(const Arguments& arguments) {
  const VerifyFlags flags = ParseVerifyFlags(arguments);
  const bool tensors = flags.o || flags.inputs.in || (flags.case_file && !flags.plugin && !flags.fault);
  if (flags.device && (flags.plugin || flags.fault)) throw UsageError("--device contradicts --plugin and --fault");
  if (flags.device && (flags.o || flags.lse || flags.case_file)) {
    throw UsageError("--o, --lse and --case contradict --device cuda: the kernel gives the outputs");
  }
  if (flags.plugin && flags.fault)
    throw UsageError("--plugin contradicts --fault: a fault is put into a simulated kernel");
  if (flags.case_file && flags.inputs.FromFiles()) throw UsageError("--case contradicts --in, --q, --k and --v");
  if (flags.device) return VerifyDevice(flags, arguments);
  if (!flags.plugin && !flags.fault && !tensors) {
    throw UsageError(
        "nothing to judge: give tensors (--in FILE, or --q, --k, --v and --o), a saved case (--case FILE), a kernel "
        "(--plugin FILE.so, --device cuda) or a mistake (--fault NAME)");
  }
  Output output("verify", flags.output);
  const Report report =
      flags.plugin || flags.fault ? VerifySubject(flags, arguments, output) : VerifyTensors(flags, arguments, output);
  if (output.wants_json()) output.JsonResult(ReportJson(report));
  if (output.wants_text()) output.Text(ReportText(report, output.color()));
  if (flags.junit) WriteFile(*flags.junit, JUnitXml(report));
  output.Finish();
  if (flags.github) {
    WriteError(GithubAnnotations(report));
    WriteStepSummary(report);
  }
  return ExitCodeOf(report);
}

}  // namespace bitflash::verify
