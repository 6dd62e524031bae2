// Kernels that can be called: plug-ins, kernels of the CPU, and simulated kernels with a mistake in them. Over a saved
// case, the inputs of a file, one shape, or generated cases.
#include <fmt/format.h>

#include <memory>
#include <tuple>

#include "data/error.h"
#include "verify/cases/case_generator.h"
#include "verify/cases/shrink.h"
#include "verify/check.h"
#include "verify/cli/check_flags.h"
#include "verify/cli/cpu_kernel_flag.h"
#include "verify/cli/numbers.h"
#include "verify/cli/save_case.h"
#include "verify/cli/text.h"
#include "verify/cli/verify_flags.h"
#include "verify/subjects/plugin.h"
#include "verify/subjects/simulate.h"
#include "verify/subjects/simulated_subject.h"

namespace bitflash::verify {
namespace {

using data::UsageError;

struct NamedProblem {
  std::string name;
  std::string file;               // its name where it is saved
  std::function<Problem()> make;  // generated cases are made one at a time
};

constexpr const char* kDefaultFolder = "bitflash-cases";

bool GivesShape(const WorkloadFlags& w) {
  return w.model || w.heads_q || w.head_dim || w.seqlen || w.seqlen_q || w.seqlen_k;
}

PluginOptions PluginOptionsOf(const VerifyFlags& flags) {
  PluginOptions options;
  options.path = *flags.plugin;
  if (flags.init) options.init_json = *flags.init;
  if (flags.timeout) options.timeout_s = ParsePositive("--timeout", *flags.timeout);
  if (flags.output_dtype) options.output_format = data::ParseFormat(*flags.output_dtype);
  return options;
}

CaseSpec SpecOfShape(const VerifyFlags& flags, const Workload& workload) {
  return {.attention = workload.attention(),
          .distribution = data::ParseDistribution(flags.inputs.distribution.value_or("hash-normal")),
          .seed = workload.seed};
}

// --cases takes a number, or the name of one generated case, as reports have it.
std::vector<CaseSpec> Specs(const VerifyFlags& flags) {
  const std::string cases = flags.cases.value_or("64");
  if (cases.find('_') != std::string::npos) return {ParseCaseSpec(cases)};
  CaseOptions options;
  options.budget = ParseCount("--cases", cases, 1, 1000000);
  if (flags.workload.seed) options.seed = ParseSeed("--seed", *flags.workload.seed);
  if (flags.workload.dtype) options.formats = {data::ParseFormat(*flags.workload.dtype)};
  if (flags.workload.tile) std::tie(options.tile_q, options.tile_k) = ParseTile("--tile", *flags.workload.tile);
  return GenerateCases(options);
}

std::vector<NamedProblem> Problems(const VerifyFlags& flags, std::vector<std::string>& assumed) {
  if (flags.case_file || flags.inputs.FromFiles()) {
    RefuseProblemFlags(flags);
    const std::vector<NamedFile> files = FilesOf(flags);
    CaseInput input = ReadCaseInput(files, HintsOf(flags));
    RequireSameShape(flags.workload, input.saved.problem.attention);
    assumed = input.assumptions;
    const std::string& path = files.front().path;
    return {{path, MinimalName(path), [problem = input.saved.problem] { return problem; }}};
  }
  RefuseIdleFlags(flags, !GivesShape(flags.workload));
  if (!GivesShape(flags.workload)) {
    std::vector<NamedProblem> problems;
    for (const CaseSpec& spec : Specs(flags)) {
      problems.push_back({Name(spec), Name(spec), [spec] { return Materialize(spec); }});
    }
    return problems;
  }
  if (flags.cases) throw UsageError("--cases contradicts a shape: give one or the other");
  const WorkloadFeatures features{.seed = true, .cpu_kernels = true};
  const Workload workload =
      ResolveWorkload(flags.workload, CpuSubjectOf(flags) != nullptr ? WithoutSimulation(features) : features);
  for (const std::string& what : workload.assumed) {
    // A plug-in is no kernel of bitflash and runs where it likes, unless the user names a kernel to compare with.
    const bool of_kernel = what.starts_with("kernel = ") || what.starts_with("gpu = ");
    if (!of_kernel || !flags.plugin || flags.workload.kernel) assumed.push_back(what);
  }
  const CaseSpec spec = SpecOfShape(flags, workload);
  return {{data::ToString(workload.attention()), Name(spec),
           [spec] { return GenerateProblem(spec.attention, spec.distribution, spec.seed); }}};
}

// The smallest problem that still fails, as a file; with what the kernel gives for it.
void SaveFailure(CaseReport& report, const VerifyFlags& flags, const NamedProblem& named, const Problem& problem,
                 Subject& subject, const Arguments& arguments) {
  // A saved case that is judged again is there already.
  const std::string folder = flags.save.value_or(flags.plugin && !flags.case_file ? kDefaultFolder : "none");
  if (folder == "none") return;
  Case saved{problem, std::nullopt, {{"case", Printable(report.name)}}};
  if (report.outcome == Outcome::kFail) {
    const bool wrong = report.judgement && report.judgement->rung == Rung::kWrong;
    const auto fails = [&](const Problem& candidate) {
      CheckOptions options;
      options.diagnose = false;
      options.judge.variant_work = 0;
      options.metamorphic = !wrong;
      const CaseReport smaller = CheckSubject("", candidate, subject, options);
      // Not another failure than the one that was found.
      return smaller.outcome == Outcome::kFail && (!wrong || smaller.judgement->rung == Rung::kWrong);
    };
    saved.problem = Shrink(problem, fails).problem;
    try {
      saved.observed = subject.Run(saved.problem);
    } catch (const PluginError&) {
      // The inputs are enough to repeat it.
    }
  }
  SaveCase(report, folder, named.file, std::move(saved), arguments);
}

std::unique_ptr<Subject> SimulatedWith(const Fault& fault, const WorkloadFlags& flags) {
  const bool chosen = flags.arch || flags.tile || flags.warps || flags.stages || flags.splits || flags.chunk ||
                      flags.page_size || flags.pack_gqa || flags.fp32_scores;
  if (chosen) {
    return std::make_unique<SimulatedSubject>(
        [flags](const data::Attention& a) { return KernelOf(flags, a, std::nullopt); }, &fault);
  }
  if (const CpuKernel* kernel = NamedCpuKernel(flags)) {
    throw UsageError(
        fmt::format("--fault contradicts --kernel {}: a fault is put into a simulated kernel", kernel->name));
  }
  const sim::Kernel& kernel = sim::FindKernel(flags.kernel.value_or("fa2"));
  return std::make_unique<SimulatedSubject>(PublishedTilings(kernel, data::LoadGpu(flags.gpu.value_or("h200"))),
                                            &fault);
}

}  // namespace

Report VerifySubject(const VerifyFlags& flags, const Arguments& arguments, const Output& output) {
  if (flags.o || flags.lse) throw UsageError("--o and --lse contradict --plugin and --fault: the kernel gives them");
  std::unique_ptr<Subject> subject;
  std::string name;
  const CpuKernel* cpu_kernel = CpuSubjectOf(flags);
  if (cpu_kernel != nullptr) {
    subject = std::make_unique<CpuSubject>(*cpu_kernel);
    name = cpu_kernel->name;
  } else if (flags.plugin) {
    auto plugin = std::make_unique<PluginSubject>(PluginOptionsOf(flags));
    name = plugin->name();
    subject = std::move(plugin);
  } else {
    const Fault& fault = FindFault(*flags.fault);
    subject = SimulatedWith(fault, flags.workload);
    name = fmt::format("{} with {}", flags.workload.kernel.value_or("fa2"), fault.id);
  }
  WorkloadFlags workload = flags.workload;
  const std::optional<RecipeFile> recipe = ReadRecipe(flags.recipe, workload);
  std::vector<std::string> assumed;
  Report report{.subject = name, .cases = {}};
  const std::vector<NamedProblem> problems = Problems(flags, assumed);
  std::optional<Progress> progress;
  if (problems.size() > 1) progress.emplace(output, fmt::format("{} cases", problems.size()), problems.size());
  for (const NamedProblem& named : problems) {
    const Problem problem = named.make();
    CheckOptions options = CheckOptionsOf(flags);
    if (problems.size() > 1 || cpu_kernel != nullptr) options.judge.variant_work = 0;  // seconds a case, or in vain
    // No kernel is its own witness.
    if (name == "cpu-simd") options.judge.witness = WitnessChoice::kFp64;
    std::vector<std::string> of_case = assumed;
    if (flags.plugin) options.judge.named = NamedKernel(workload, recipe, problem, {}, of_case);
    const CheckProgress line(output);
    if (!progress) options.progress = line.function();
    CaseReport c = CheckSubject(named.name, problem, *subject, options);
    c.assumed = of_case;
    c.command = problems.size() == 1 ? CommandText(arguments) : GeneratedText(arguments, named.name);
    if (c.outcome == Outcome::kFail || c.outcome == Outcome::kBroken) {
      SaveFailure(c, flags, named, problem, *subject, arguments);
    }
    report.cases.push_back(std::move(c));
    if (progress) progress->Advance(static_cast<int64_t>(report.cases.size()));
  }
  return report;
}

}  // namespace bitflash::verify
