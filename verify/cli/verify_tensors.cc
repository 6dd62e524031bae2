// bitflash verify on tensors that some kernel wrote: read, judged, diagnosed.
#include <fmt/format.h>

#include "data/error.h"
#include "verify/cases/case_input.h"
#include "verify/check.h"
#include "verify/cli/check_flags.h"
#include "verify/cli/save_case.h"
#include "verify/cli/suggest.h"
#include "verify/cli/text.h"
#include "verify/cli/verify_flags.h"

namespace bitflash::verify {
namespace {

using data::InputError;

// Where another layout fits the shapes as well, the verdict may be about the wrong reading.
void TryOtherLayouts(CaseReport& report, const VerifyFlags& flags, const std::vector<NamedFile>& files,
                     const std::vector<CaseLayout>& layouts, const CheckOptions& options) {
  for (const CaseLayout layout : layouts) {
    CaseHints hints = HintsOf(flags);
    hints.layout = layout;
    const CaseInput other = ReadCaseInput(files, hints);
    JudgeOptions judge = options.judge;
    judge.named.reset();
    judge.variant_work = 0;
    const Judgement judgement = Judge(other.saved.problem, *other.saved.observed, judge);
    report.advice.insert(report.advice.begin(),
                         fmt::format("as {0} it is {1}{2}", Name(layout), Name(judgement.rung),
                                     Passes(judgement.rung) ? fmt::format(": --layout {}", Name(layout)) : ""));
  }
}

// The sequence and the group of heads with the first wrong element, where they are still wrong alone; else all.
Case Smallest(const Problem& problem, const Outputs& outputs, const Evidence& evidence) {
  const TensorEvidence& wrong = evidence.o().beyond > 0 ? evidence.o() : *evidence.lse();
  const auto& index = wrong.first_beyond->index;
  Part part = WholeSequence(problem, index[0]);
  const int64_t group = problem.attention.group();
  part.heads = {index[1] / group * group, index[1] / group * group + group};
  Case cut{Extract(problem, part), Extract(outputs, part), {}};
  JudgeOptions options;
  options.variant_work = 0;
  if (Judge(cut.problem, *cut.observed, options).rung == Rung::kWrong) return cut;
  return {problem, outputs, {}};
}

}  // namespace

Report VerifyTensors(const VerifyFlags& flags, const Arguments& arguments, const Output& output) {
  RefuseProblemFlags(flags);
  WorkloadFlags workload = flags.workload;
  const std::optional<RecipeFile> recipe = ReadRecipe(flags.recipe, workload);
  const std::vector<NamedFile> files = FilesOf(flags);
  std::vector<std::string> paths;
  for (const NamedFile& file : files) paths.push_back(file.path);
  const CaseInput input = ReadCaseInput(files, HintsOf(flags));
  const Problem& problem = input.saved.problem;
  RequireSameShape(flags.workload, problem.attention);
  if (!input.saved.observed) {
    throw InputError(
        fmt::format("{}: no tensor o: verify needs what the kernel wrote (--o FILE)", Printable(Join(paths))));
  }
  const Outputs& outputs = *input.saved.observed;
  std::vector<std::string> assumed = input.assumptions;
  CheckOptions options = CheckOptionsOf(flags);
  options.judge.named = NamedKernel(workload, recipe, problem, input.saved.notes, assumed);
  const CheckProgress progress(output);
  options.progress = progress.function();
  CaseReport report = CheckOutputs(Join(paths), problem, outputs, options);
  report.assumed = assumed;
  report.command = CommandText(arguments);
  if (report.judgement->rung == Rung::kWrong) {
    TryOtherLayouts(report, flags, files, input.alternatives, options);
    if (flags.save && *flags.save != "none") {
      Case saved = Smallest(problem, outputs, report.judgement->evidence);
      saved.notes = input.saved.notes;
      SaveCase(report, *flags.save, MinimalName(paths.front()), std::move(saved), arguments, {"--output-dtype"});
    }
  }
  return {Join(paths), {std::move(report)}};
}

}  // namespace bitflash::verify
