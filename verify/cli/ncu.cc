// bitflash ncu: predictions against Nsight Compute.
#include <fmt/format.h>

#include <algorithm>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "data/error.h"
#include "verify/cli/commands.h"
#include "verify/cli/ncu_result.h"
#include "verify/cli/numbers.h"
#include "verify/cli/suggest.h"
#include "verify/cli/text.h"
#include "verify/cli/traffic_result.h"
#include "verify/predict/nsight_kernels.h"

namespace bitflash::verify {
namespace {

using data::UsageError;

std::vector<std::string> Split(const std::string& text) {
  std::vector<std::string> words;
  for (size_t at = 0; at <= text.size();) {
    const size_t comma = std::min(text.find(',', at), text.size());
    words.push_back(text.substr(at, comma - at));
    at = comma + 1;
  }
  return words;
}

data::NsightTable ReadTable(const std::string& path) {
  if (path != "-") return data::ReadNsight(path);
  const std::string text{std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
  return data::ParseNsight(text, "standard input");
}

// The kernels that the file shows, those that are simulated.
std::string KernelsOf(const data::NsightTable& table) {
  std::vector<std::string> kernels;
  for (const data::NsightLaunch& launch : table.launches) {
    const std::string kernel = SimulatedKernelOf(launch.kernel);
    if (!kernel.empty() && std::find(kernels.begin(), kernels.end(), kernel) == kernels.end())
      kernels.push_back(kernel);
  }
  return Join(kernels, ",");
}

// Leaves the launches of --id in the table.
void Select(data::NsightTable& table, const std::string& ids) {
  std::vector<std::string> there;
  for (const data::NsightLaunch& launch : table.launches) there.push_back(launch.id);
  const std::vector<std::string> wanted = Split(ids);
  for (const std::string& id : wanted) {
    if (std::find(there.begin(), there.end(), id) == there.end())
      throw UsageError(fmt::format(
          "--id: '{}' is no launch in {}: expected {}", Printable(id), table.origin,
          there.empty() ? "none, it has no launches" : fmt::format("{} to {}", there.front(), there.back())));
  }
  std::erase_if(table.launches, [&](const data::NsightLaunch& launch) {
    return std::find(wanted.begin(), wanted.end(), launch.id) == wanted.end();
  });
}

std::vector<std::string> ParseFields(const std::optional<std::string>& text) {
  if (!text) return {};
  std::vector<std::string> accepted;
  for (const NsightField& field : NsightFields()) accepted.push_back(field.name);
  const std::vector<std::string> names = Split(*text);
  for (const std::string& name : names) {
    if (std::find(accepted.begin(), accepted.end(), name) == accepted.end())
      throw UsageError("--fields: " + UnknownName("field", Printable(name), accepted));
  }
  return names;
}

std::vector<NsightMapping> ParseMappings(const std::vector<std::string>& texts,
                                         const std::vector<PredictedLaunch>& predictions) {
  std::vector<std::string> launches;
  for (const PredictedLaunch& prediction : predictions) launches.push_back(prediction.count.name);
  std::vector<NsightMapping> mappings;
  for (const std::string& text : texts) {
    const size_t equals = text.rfind('=');
    if (equals == std::string::npos || equals == 0)
      throw UsageError(
          fmt::format("--map: '{}': expected TEXT=LAUNCH, where TEXT is in the kernel's name and LAUNCH is "
                      "one of {}",
                      Printable(text), Join(launches)));
    const std::string launch = text.substr(equals + 1);
    if (std::find(launches.begin(), launches.end(), launch) == launches.end())
      throw UsageError("--map: " + UnknownName("launch", Printable(launch), launches));
    mappings.push_back({text.substr(0, equals), launch});
  }
  return mappings;
}

// Kernels that the user named must take the problem; of those that a file shows, one that does not is told of.
std::vector<PredictedLaunch> Predict(const Workload& workload, bool named, const Output& output) {
  std::vector<PredictedLaunch> predictions;
  std::string first_reason;
  for (const sim::Kernel* kernel : workload.kernels) {
    try {
      const sim::Tiling tiling = ChooseTiling(workload, *kernel, workload.attention());
      const sim::Count count = sim::CountKernel(*kernel, workload.attention(), tiling, workload.gpu);
      // As a profiler counts by default: it flushes L2 before every launch.
      const auto behind_l2 = PredictL2({.start = sim::l2::Start::kFlushed}, false, *kernel, workload.attention(),
                                       tiling, workload.gpu, count);
      for (size_t i = 0; i < count.launches.size(); ++i) {
        const sim::l2::Prediction& l2 = behind_l2->launches[i];
        predictions.push_back(
            {kernel, workload.attention(), tiling, count.launches[i], l2.dram_read.value, l2.dram_write.value});
      }
    } catch (const UsageError& error) {
      if (named) throw;
      if (first_reason.empty()) first_reason = error.what();
      output.Note(error.what());
    }
  }
  if (predictions.empty()) throw UsageError(first_reason);
  return predictions;
}

// Every metric that says something about a predicted launch, under its name on this GPU.
std::string ProfileCommand(const Workload& workload, const std::vector<std::string>& mapped) {
  std::vector<std::string> metrics, kernels;
  for (const NsightField& field : NsightFields()) {
    const std::vector<std::string> names =
        NamesFor(field, ComputeCapability(workload.gpu), workload.attention().format);
    if (!names.empty()) metrics.push_back(names.front());
  }
  for (const sim::Kernel* kernel : workload.kernels) kernels.emplace_back(kernel->name);
  const std::string filter = KernelNameFilter(kernels, mapped);
  return fmt::format("ncu --metrics {}{} --csv --page raw --print-units base --log-file counters.csv PROGRAM",
                     Join(metrics, ","), filter.empty() ? "" : " --kernel-name " + ShellWord(filter));
}

// The same flags with the file that the profile command writes.
std::string CompareCommand(const Arguments& arguments) {
  std::string command = "bitflash ncu counters.csv";
  for (const std::string& argument : arguments) command += " " + ShellWord(argument);
  return command;
}

ExitCode Judge(const NcuResult& result) {
  if (result.comparison.compared == 0)
    throw data::UndecidedError(
        fmt::format("none of the {} launches in {} is of a predicted kernel; --map TEXT=LAUNCH "
                    "says which one stands for a kernel whose name has TEXT",
                    result.table->launches.size(), result.table->origin));
  if (!result.limit_percent) return ExitCode::kPass;
  if (result.comparison.held == 0)
    throw data::UndecidedError("no measured field is held to --limit; --fields names others");
  return result.comparison.failed > 0 ? ExitCode::kMismatch : ExitCode::kPass;
}

}  // namespace

ExitCode Ncu(const Arguments& arguments) {
  CommandLine line(
      "ncu",
      "Predictions against Nsight Compute. Without FILE: what a kernel's counters will be, and the command that\n"
      "measures them. With FILE, what `ncu --csv` wrote: each launch of it beside its prediction. Kernels are matched\n"
      "by name; the problem is that of the flags. Exit code 1 when an error passes --limit.",
      {{"bitflash ncu --kernel fa2 --heads-q 16 --head-dim 128 --seqlen 4096 --gpu h100",
        "predictions, their metrics, and the command that would falsify them"},
       {"bitflash ncu counters.csv --heads-q 16 --head-dim 128 --seqlen 4096 --gpu h100",
        "compare; the kernels are those that the file shows"},
       {"bitflash ncu counters.csv --kernel fa2 --map my_attention=fa2_forward --heads-q 16 --head-dim 128 --seqlen "
        "4096",
        "a kernel of your own beside FlashAttention-2"},
       {"bitflash ncu counters.csv --heads-q 16 --head-dim 128 --seqlen 4096 --limit 0.1 --json",
        "exit code 1 when sm.read or tensor.flop is off by more than 0.1 %"}});
  WorkloadFlags workload_flags;
  OutputFlags output_flags;
  std::optional<std::string> file, csv, ids, limit, fields;
  std::vector<std::string> maps;
  line.AddPositional("FILE", file, "CSV that Nsight Compute wrote; - is standard input");
  AddWorkloadFlags(line, workload_flags, {});
  line.Group("Comparison");
  line.AddOption("--csv", csv, "FILE", "The same as FILE");
  line.AddOption("--id", ids, "N[,N]", "Only these launches, by the ID that Nsight Compute gave them");
  line.AddOption("--map", maps, "TEXT=LAUNCH", "Kernels whose name has TEXT are this launch; repeatable");
  line.AddOption("--limit", limit, "PERCENT", "Largest error of a held field");
  line.AddOption("--fields", fields, "NAME[,NAME]", "Held fields (default: those that are predicted exactly)");
  line.Group("Output");
  AddOutputFlags(line, output_flags);
  line.Parse(arguments);

  Output output("ncu", output_flags);
  if (file && csv) throw UsageError("FILE and --csv are the same; give one of them");
  if (csv) file = csv;
  if (!file && (limit || fields || ids)) throw UsageError("--id, --limit and --fields need FILE, which they are about");
  if (fields && !limit) throw UsageError("--fields needs --limit");
  NcuResult result;
  if (limit) result.limit_percent = *limit == "0" ? 0 : ParsePositive("--limit", *limit);
  const std::vector<std::string> held = ParseFields(fields);
  if (file) result.table = ReadTable(*file);
  if (ids) Select(*result.table, *ids);

  const bool named = workload_flags.kernel.has_value();
  if (!named && result.table && maps.empty()) {
    const std::string found = KernelsOf(*result.table);
    if (!found.empty()) workload_flags.kernel = found;
  }
  Workload workload = ResolveWorkload(workload_flags, {});
  if (!named && workload_flags.kernel) {
    workload.assumed.push_back(fmt::format("kernel = {} (of the launches in the file)", *workload_flags.kernel));
  }
  for (const std::string& note : workload.notes) output.Note(note);
  result.predictions = Predict(workload, named || !workload_flags.kernel, output);
  const std::vector<NsightMapping> mappings = ParseMappings(maps, result.predictions);
  std::vector<std::string> mapped;
  for (const NsightMapping& mapping : mappings) mapped.push_back(mapping.part);
  result.profile = ProfileCommand(workload, mapped);
  if (!file) result.compare = CompareCommand(arguments);
  if (result.table) {
    result.comparison = Compare(result.predictions, *result.table, mappings, held, result.limit_percent);
  }

  if (output.wants_json()) output.JsonResult(NcuJson(workload, result));
  if (output.wants_text())
    output.Text(result.table ? NcuComparisonText(workload, result, output.color())
                             : NcuPredictionText(workload, result, output.color()));
  output.Finish();
  return result.table ? Judge(result) : ExitCode::kPass;
}

}  // namespace bitflash::verify
