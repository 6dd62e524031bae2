// Tensors that some kernel wrote: read, judged, diagnosed.
#include <fmt/format.h>

#include "data/error.h"
#include "verify/case_input.h"
#include "verify/check.h"
#include "verify/cli/check_flags.h"
#include "verify/cli/numbers.h"
#include "verify/cli/suggest.h"
#include "verify/cli/text.h"
#include "verify/cli/verify_flags.h"

namespace bitflash::verify {
namespace {

using data::InputError;

std::vector<NamedFile> Files(const VerifyFlags& flags) {
  std::vector<NamedFile> files;
  const auto add = [&](const char* tensor, const std::optional<std::string>& path) {
    if (path) files.push_back({tensor, *path});
  };
  add("", flags.case_file);
  add("", flags.inputs.in);
  add("q", flags.inputs.q);
  add("k", flags.inputs.k);
  add("v", flags.inputs.v);
  add("o", flags.o);
  add("lse", flags.lse);
  return files;
}

}  // namespace

Report VerifyTensors(const VerifyFlags& flags, const Arguments& arguments, const Output& output) {
  const std::vector<NamedFile> files = Files(flags);
  std::vector<std::string> paths;
  for (const NamedFile& file : files) paths.push_back(file.path);
  const CaseInput input = ReadCaseInput(files, HintsOf(flags));
  if (!input.saved.observed) {
    throw InputError(
        fmt::format("{}: no tensor o: verify needs what the kernel wrote (--o FILE)", Printable(Join(paths))));
  }
  const Problem& problem = input.saved.problem;
  std::vector<std::string> assumed = input.assumptions;
  CheckOptions options = CheckOptionsOf(flags);
  options.judge.named = NamedKernel(flags, problem, input.saved.notes, assumed);
  const CheckProgress progress(output);
  options.progress = progress.function();
  CaseReport report = CheckOutputs(Join(paths), problem, *input.saved.observed, options);
  report.assumed = assumed;
  report.command = CommandText(arguments);
  if (flags.save && *flags.save != "none") {
    report.saved = SaveCase(*flags.save, "case", {problem, input.saved.observed, input.saved.notes});
  }
  return {Join(paths), {std::move(report)}};
}

}  // namespace bitflash::verify
