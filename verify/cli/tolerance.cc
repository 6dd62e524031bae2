// bitflash tolerance: would a test with this tolerance catch a broken kernel?
#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "data/error.h"
#include "sim/count.h"
#include "verify/cli/commands.h"
#include "verify/cli/run_inputs.h"
#include "verify/cli/simulation.h"
#include "verify/cli/suggest.h"
#include "verify/cli/text.h"
#include "verify/cli/tolerance_result.h"

namespace bitflash::verify {
namespace {

using data::UsageError;

double ParseTolerance(std::string_view flag, const std::optional<std::string>& text) {
  if (!text) throw UsageError(fmt::format("{} is missing: expected a number such as 1e-2, 0 or more", flag));
  double value = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (error != std::errc() || end != text->data() + text->size() || !std::isfinite(value) || value < 0) {
    throw UsageError(fmt::format("{}: '{}' is not a number such as 1e-2, 0 or more", flag, Printable(*text)));
  }
  return value;
}

}  // namespace

ExitCode ToleranceCommand(const Arguments& arguments) {
  CommandLine line(
      "tolerance",
      "Runs a simulated kernel with every known mistake (bitflash list faults) that can show on a problem, and says\n"
      "which of them a test with |x - exact| <= ATOL + RTOL |exact| on O and LSE would let through, beside other\n"
      "criteria in use, the bound that no correct kernel exceeds, and the rows that could be zeros unnoticed.\n"
      "Exit code 0: every wrong kernel is caught; 1: some pass. Mistakes that stay within every bound do not count.",
      {{"bitflash tolerance --atol 1e-2 --rtol 1e-2 --heads-q 2 --head-dim 64 --seqlen 256 --causal",
        "torch.allclose with usual tolerances"},
       {"bitflash tolerance --atol 1e-3 --rtol 1e-3 --kernel pytorch-fa2 --dtype fp16 --heads-q 4 --heads-kv 2 "
        "--head-dim 128 --seqlen-q 1 --seqlen-k 2048 --splits 4 --json",
        "a decode step whose keys are split, as JSON"},
       {"bitflash tolerance --atol 0.02 --rtol 0 --heads-q 1 --head-dim 64 --seqlen 1024 --causal --distribution sinks",
        "on data like that of models with attention sinks"}});
  WorkloadFlags workload_flags;
  InputFlags input_flags;
  OutputFlags output_flags;
  std::optional<std::string> atol, rtol;
  const WorkloadFeatures features{.seed = true};
  line.Group("Tolerance");
  line.AddOption("--atol", atol, "NUMBER", "Absolute part of the tolerance");
  line.AddOption("--rtol", rtol, "NUMBER", "Relative part, times |exact|");
  AddWorkloadFlags(line, workload_flags, features);
  AddInputFlags(line, input_flags);
  line.Group("Output");
  AddOutputFlags(line, output_flags);
  line.Parse(arguments);

  Output output("tolerance", output_flags);
  const Tolerance tolerance{ParseTolerance("--atol", atol), ParseTolerance("--rtol", rtol)};
  const data::Distribution distribution = data::ParseDistribution(input_flags.distribution.value_or("hash-normal"));
  WorkloadFeatures needed = features;
  const std::optional<FileInputs> files = ReadInputs(input_flags, workload_flags, needed);
  RequireOneLength(files, "tolerance");
  const Workload workload = ResolveWorkload(workload_flags, needed);
  if (workload.kernels.size() != 1) throw UsageError("--kernel: tolerance takes one kernel at a time");
  for (const std::string& note : workload.notes) output.Note(note);
  const sim::Kernel& kernel = *workload.kernels.front();
  const data::Attention& attention = workload.attention();
  const sim::Tiling tiling = ChooseTiling(workload, kernel, attention);
  sim::CountKernel(kernel, attention, tiling, workload.gpu);  // refuses what the kernel does not take

  const HeadSubset all = SelectHeads(attention, 0, attention.heads_q);
  const KernelInputs inputs =
      files ? SelectInputs(*files, attention, all) : GenerateInputs(attention, all, distribution, workload.seed);
  Problem problem;
  problem.attention = attention;
  problem.q = inputs.q;
  problem.k = inputs.k;
  problem.v = inputs.v;
  ToleranceResult result{
      .workload = workload,
      .kernel = {&kernel, tiling, workload.gpu.arch},
      .inputs = files ? Join(files->paths) : fmt::format("{}, seed {}", Name(distribution), workload.seed),
      .audit = {}};
  {
    std::optional<Progress> progress;
    result.audit = AuditTolerance(result.kernel, problem, tolerance, [&](int64_t done, int64_t total) {
      if (!progress) progress.emplace(output, "running mistakes", total);
      progress->Advance(done);
    });
  }
  if (output.wants_json()) output.JsonResult(ToleranceJson(result));
  if (output.wants_text()) output.Text(ToleranceText(result, output.color()));
  output.Finish();
  return result.audit.escaped() > 0 ? ExitCode::kMismatch : ExitCode::kPass;
}

}  // namespace bitflash::verify
