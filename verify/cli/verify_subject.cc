// Kernels that can be called: plug-ins, and simulated kernels with a mistake in them. Over a saved case, the inputs of
// a file, one shape, or generated cases.
#include <fmt/format.h>

#include <cctype>
#include <memory>
#include <tuple>

#include "data/error.h"
#include "verify/case_generator.h"
#include "verify/check.h"
#include "verify/cli/check_flags.h"
#include "verify/cli/numbers.h"
#include "verify/cli/suggest.h"
#include "verify/cli/text.h"
#include "verify/cli/verify_flags.h"
#include "verify/cli/verify_result.h"
#include "verify/plugin.h"
#include "verify/shrink.h"
#include "verify/simulate.h"
#include "verify/simulated_subject.h"

namespace bitflash::verify {
namespace {

using data::UsageError;

struct NamedProblem {
  std::string name;
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

Problem ProblemOfShape(const VerifyFlags& flags, const Workload& workload) {
  const auto distribution = data::ParseDistribution(flags.inputs.distribution.value_or("hash-normal"));
  const data::Attention& a = workload.attention();
  KernelInputs inputs = GenerateInputs(a, SelectHeads(a, 0, a.heads_q), distribution, workload.seed);
  Problem problem;
  problem.attention = a;
  problem.q = std::move(inputs.q);
  problem.k = std::move(inputs.k);
  problem.v = std::move(inputs.v);
  return problem;
}

std::vector<NamedProblem> Generated(const VerifyFlags& flags) {
  CaseOptions options;
  options.budget = ParseCount("--cases", flags.cases.value_or("64"), 1, 1000000);
  if (flags.workload.seed) options.seed = ParseSeed("--seed", *flags.workload.seed);
  if (flags.workload.dtype) options.formats = {data::ParseFormat(*flags.workload.dtype)};
  if (flags.workload.tile) std::tie(options.tile_q, options.tile_k) = ParseTile("--tile", *flags.workload.tile);
  std::vector<NamedProblem> problems;
  for (const CaseSpec& spec : GenerateCases(options)) {
    problems.push_back({Name(spec), [spec] { return Materialize(spec); }});
  }
  return problems;
}

std::vector<NamedProblem> Problems(const VerifyFlags& flags, std::vector<std::string>& assumed) {
  if (flags.case_file || flags.inputs.FromFiles()) {
    std::vector<NamedFile> files;
    const auto add = [&](const char* tensor, const std::optional<std::string>& path) {
      if (path) files.push_back({tensor, *path});
    };
    add("", flags.case_file);
    add("", flags.inputs.in);
    add("q", flags.inputs.q);
    add("k", flags.inputs.k);
    add("v", flags.inputs.v);
    CaseInput input = ReadCaseInput(files, HintsOf(flags));
    assumed = input.assumptions;
    return {{files.front().path, [problem = input.saved.problem] { return problem; }}};
  }
  if (!GivesShape(flags.workload)) return Generated(flags);
  if (flags.cases) throw UsageError("--cases contradicts a shape: give one or the other");
  const Workload workload = ResolveWorkload(flags.workload, {.seed = true});
  for (const std::string& what : workload.assumed) {
    // A plug-in is no kernel of bitflash, unless the user names one to compare with.
    if (!flags.plugin || what.rfind("kernel = ", 0) != 0) assumed.push_back(what);
  }
  return {{data::ToString(workload.attention()), [&flags, workload] { return ProblemOfShape(flags, workload); }}};
}

// The smallest problem that still fails, as a file; with what the kernel gives for it.
void SaveFailure(CaseReport& report, const VerifyFlags& flags, const Problem& problem, Subject& subject,
                 const Arguments& arguments) {
  const std::string folder = flags.save.value_or(flags.plugin ? kDefaultFolder : "none");
  if (folder == "none") return;
  Case saved{problem, std::nullopt, {{"case", report.name}}};
  if (report.outcome == Outcome::kFail) {
    const auto fails = [&](const Problem& candidate) {
      CheckOptions options;
      options.diagnose = false;
      options.judge.variant_work = 0;
      options.metamorphic = report.judgement && report.judgement->rung != Rung::kWrong;
      return CheckSubject("", candidate, subject, options).outcome == Outcome::kFail;
    };
    saved.problem = Shrink(problem, fails).problem;
    try {
      saved.observed = subject.Run(saved.problem);
    } catch (const PluginError&) {
      // The inputs are enough to repeat it.
    }
  }
  std::string name;
  for (const char c : report.name.substr(report.name.find_last_of('/') + 1)) {
    name += std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' ? c : '_';
  }
  report.saved = SaveCase(folder, name, std::move(saved));
  report.command = CommandText(arguments) + " --case " + ShellWords({report.saved}, {}).substr(1);
}

}  // namespace

Report VerifySubject(const VerifyFlags& flags, const Arguments& arguments, const Output& output) {
  if (flags.o || flags.lse) throw UsageError("--o and --lse contradict --plugin and --fault: the kernel gives them");
  std::unique_ptr<Subject> subject;
  std::string name;
  if (flags.plugin) {
    auto plugin = std::make_unique<PluginSubject>(PluginOptionsOf(flags));
    name = plugin->name();
    subject = std::move(plugin);
  } else {
    const Fault& fault = FindFault(*flags.fault);
    const WorkloadFlags& w = flags.workload;
    const sim::Kernel& kernel = sim::FindKernel(w.kernel.value_or("fa2"));
    const data::Gpu gpu = data::LoadGpu(w.gpu.value_or("h200"));
    subject = std::make_unique<SimulatedSubject>(PublishedTilings(kernel, gpu), &fault);
    name = fmt::format("{} with {}", kernel.name, fault.id);
  }
  std::vector<std::string> assumed;
  Report report{.subject = name, .cases = {}};
  const std::vector<NamedProblem> problems = Problems(flags, assumed);
  std::optional<Progress> progress;
  if (problems.size() > 1) progress.emplace(output, fmt::format("{} cases", problems.size()), problems.size());
  for (const NamedProblem& named : problems) {
    const Problem problem = named.make();
    CheckOptions options = CheckOptionsOf(flags);
    if (problems.size() > 1) options.judge.variant_work = 0;  // seconds a case
    std::vector<std::string> of_case = assumed;
    if (flags.plugin) options.judge.named = NamedKernel(flags, problem, {}, of_case);
    const CheckProgress line(output);
    if (!progress) options.progress = line.function();
    CaseReport c = CheckSubject(named.name, problem, *subject, options);
    c.assumed = of_case;
    c.command = CommandText(arguments);
    if (c.outcome == Outcome::kFail || c.outcome == Outcome::kBroken) {
      SaveFailure(c, flags, problem, *subject, arguments);
    }
    report.cases.push_back(std::move(c));
    if (progress) progress->Advance(static_cast<int64_t>(report.cases.size()));
  }
  return report;
}

}  // namespace bitflash::verify
