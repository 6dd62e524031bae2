// bitflash tune: the tiles that a kernel could take, ranked.
#include "verify/predict/tune.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "data/error.h"
#include "verify/cli/commands.h"
#include "verify/cli/numbers.h"
#include "verify/cli/tune_result.h"

namespace bitflash::verify {

ExitCode TuneCommand(const Arguments& arguments) {
  CommandLine line(
      "tune",
      "Ranks the tiles, stages, warps and splits that a kernel could take for a problem on a GPU: by estimated time,\n"
      "then by bytes. What does not fit is rejected with its reason. --tile, --warps, --stages, --splits and --chunk\n"
      "fix a choice; the others are tried.",
      {{"bitflash tune --model llama-3-8b --seqlen 8192 --gpu h100", "tiles of FlashAttention-2 for a prefill"},
       {"bitflash tune --kernel split-kv --model llama-3-8b --phase decode --seqlen 131072 --gpu h100",
        "how to cut a long cache into parts"},
       {"bitflash tune --heads-q 16 --head-dim 256 --seqlen 4096 --gpu l40s --stages 1 --all",
        "one stage only, and why the others do not fit"},
       {"bitflash tune --kernel fa3 --heads-q 16 --head-dim 128 --seqlen 4096 --csv=tiles.csv", "every candidate"}});
  WorkloadFlags workload_flags;
  OutputFlags output_flags;
  std::optional<std::string> top;
  TuneView view;
  const WorkloadFeatures features{};
  AddWorkloadFlags(line, workload_flags, features);
  line.AddOption("--top", top, "N", "How many of the ranking to print (default: 10)");
  line.AddFlag("--all", view.all, "The rejected ones, too, each with its reason");
  AddOutputFlags(line, output_flags, {.csv = true});
  line.Parse(arguments);

  Output output("tune", output_flags);
  if (top) view.top = ParseCount("--top", *top, 1, 1'000'000);
  const Workload workload = ResolveWorkload(workload_flags, features);
  if (workload.kernels.size() != 1) {
    throw data::UsageError(fmt::format("--kernel names {} kernels: expected one", workload.kernels.size()));
  }
  for (const std::string& note : workload.notes) output.Note(note);
  const sim::Kernel& kernel = *workload.kernels.front();
  const TuneInput input{&kernel, workload.attention(), workload.gpu, ChoiceFor(workload, kernel)};

  const auto candidates = static_cast<int64_t>(TuneGrid(input).size());
  Progress progress(output, "counting", candidates);
  const TuneResult result = Tune(input, [&](int64_t done, int64_t) { progress.Advance(done); });

  if (output.wants_json()) output.JsonResult(TuneJson(workload, input, result, view));
  if (output.wants_csv()) output.CsvResult(TuneCsv(input, result, view));
  if (output.wants_text()) output.Text(TuneText(workload, input, result, view, output.color()));
  output.Finish();
  return ExitCode::kPass;
}

}  // namespace bitflash::verify
