// bitflash traffic: the bytes of kernels by level and tensor.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "data/error.h"
#include "verify/cli/commands.h"
#include "verify/cli/numbers.h"
#include "verify/cli/text.h"
#include "verify/cli/traffic_result.h"
#include "verify/cli/units.h"
#include "verify/predict/trace.h"

namespace bitflash::verify {
namespace {

std::string PointName(const Workload& workload, const TrafficResult& result) {
  std::string name = fmt::format("kernel {}", result.kernel->name);
  for (const std::string& swept : workload.swept) {
    const data::Attention& a = result.attention;
    const int64_t value = swept == "batch" ? a.batch : swept == "seqlen_q" ? a.seqlen_q : a.seqlen_k;
    name += fmt::format(", {} {}", swept, value);
  }
  return name;
}

std::vector<TrafficResult> CountAll(const Workload& workload, const L2Choice& l2,
                                    const std::vector<Assertion>& assertions, const Output& output) {
  const bool sweep = workload.points.size() * workload.kernels.size() > 1;
  std::vector<TrafficResult> results;
  Progress progress(output, "counting", static_cast<int64_t>(workload.points.size()));
  for (const data::Attention& attention : workload.points) {
    for (const sim::Kernel* kernel : workload.kernels) {
      TrafficResult result{kernel, attention, ChooseTiling(workload, *kernel, attention), {}, {}, {}, {}};
      try {
        result.count = sim::CountKernel(*kernel, attention, result.tiling, workload.gpu);
        const sim::l2::Rereads rereads =
            sim::l2::RereadsOf(*kernel, attention, result.tiling, workload.gpu, result.count);
        result.l2 = PredictL2(l2, sweep, *kernel, attention, result.tiling, workload.gpu, result.count, &rereads);
        result.time = sim::EstimateTime(*kernel, attention, result.tiling, workload.gpu, result.count, &rereads);
      } catch (const data::UsageError& error) {
        result.infeasible = error.what();
      }
      if (!assertions.empty() && result.infeasible.empty()) {
        const Json total = LedgerJson(result.count.total, result.l2 ? &result.l2->total : nullptr, true);
        for (const Assertion& assertion : assertions) result.outcomes.push_back(Evaluate(assertion, total));
      }
      results.push_back(std::move(result));
    }
    progress.Advance(static_cast<int64_t>(results.size() / workload.kernels.size()));
  }
  // One infeasible point of many is a result; a command that counted nothing has failed.
  const auto infeasible = [](const TrafficResult& result) { return !result.infeasible.empty(); };
  if (std::all_of(results.begin(), results.end(), infeasible)) {
    const std::string& reason = results.front().infeasible;
    if (results.size() == 1) throw data::UsageError(reason);
    throw data::UsageError(fmt::format("none of the {} points is feasible; {}: {}", results.size(),
                                       PointName(workload, results.front()), reason));
  }
  return results;
}

// Says on standard error which assertions do not hold.
ExitCode Judge(const Workload& workload, const std::vector<Assertion>& assertions,
               const std::vector<TrafficResult>& results) {
  ExitCode code = ExitCode::kPass;
  const auto fail = [&](const Assertion& assertion, const TrafficResult& result, const std::string& why) {
    code = ExitCode::kMismatch;
    WriteError(Shorten(fmt::format("bitflash traffic: assertion failed: {}: {} ({})", Printable(assertion.text), why,
                                   PointName(workload, result))));
  };
  for (const TrafficResult& result : results) {
    for (size_t i = 0; i < assertions.size(); ++i) {
      if (!result.infeasible.empty()) {
        fail(assertions[i], result, fmt::format("infeasible: {}", Printable(result.infeasible)));
      } else if (const Outcome& outcome = result.outcomes[i]; !outcome.holds) {
        fail(assertions[i], result, fmt::format("{} = {}", outcome.field, outcome.value));
      }
    }
  }
  return code;
}

std::string Text(const Workload& workload, const std::vector<Assertion>& assertions,
                 const std::vector<TrafficResult>& results, bool color) {
  std::string text;
  if (!workload.swept.empty()) text = TrafficSweepTable(workload, results, color);
  for (const TrafficResult& result : results) {
    if (workload.swept.empty() && !result.infeasible.empty()) {
      text += fmt::format("{}{}  infeasible: {}\n", text.empty() ? "" : "\n",
                          Paint(result.kernel->name, Colour::kBold, color), Printable(result.infeasible));
    } else if (workload.swept.empty()) {
      if (!text.empty()) text += "\n";
      text += TrafficTables(workload, result, color);
    } else if (!assertions.empty()) {
      text += PointName(workload, result) + "\n";
    }
    text += AssertionLines(assertions, result, color);
  }
  return text;
}

struct TraceFlags {
  std::optional<std::string> path, sms;
};

void WriteTraceFile(const TraceFlags& flags, const Workload& workload, const std::vector<TrafficResult>& results,
                    const Output& output) try {
  if (!flags.path && flags.sms) throw data::UsageError("--trace-sms means something only with --trace FILE");
  if (!flags.path) return;
  if (results.size() != 1) {
    throw data::UsageError(fmt::format("--trace takes one kernel and one problem, not {}", results.size()));
  }
  const TrafficResult& result = results.front();
  TraceLimits limits;
  if (flags.sms) limits.sms = ParseCount("--trace-sms", *flags.sms, 1, 100'000);
  const TraceSummary summary =
      WriteTrace(*flags.path, *result.kernel, result.attention, result.tiling, workload.gpu, result.count, limits);
  output.Note(fmt::format("{}: {}, {} of {} blocks{}; open it at ui.perfetto.dev", *flags.path, Bytes(summary.bytes),
                          Grouped(summary.drawn_blocks), Grouped(summary.blocks),
                          summary.tiles_left_out ? " without their tiles" : ""));
} catch (const data::InputError& error) {
  throw OutputError(error.what());
}

}  // namespace

ExitCode Traffic(const Arguments& arguments) {
  CommandLine line(
      "traffic",
      "Counts the bytes that attention kernels move between HBM, L2, shared memory and registers, and their "
      "operations,\n"
      "without executing them, and estimates their time. HBM has three numbers: compulsory (every byte once),\n"
      "predicted (behind a model of the L2) and requested (as if there were no L2).",
      {{"bitflash traffic --model llama-3-8b --seqlen 8192", "one layer of a model, prefill, on an H200"},
       {"bitflash traffic --kernel standard,fa2 --heads-q 16 --head-dim 128 --seqlen 4096 --gpu a100-80gb",
        "two kernels on the same problem"},
       {"bitflash traffic --model llama-3-8b --phase decode --seqlen 512:131072:x2 --csv=decode.csv", "a sweep"},
       {"bitflash traffic --model llama-3-8b --seqlen 8192 --assert \"hbm.read<=1.2GB\"",
        "exit code 1 when the claim does not hold; hbm.read means predicted where known, else requested"},
       {"bitflash traffic --heads-q 8 --head-dim 128 --seqlen 2048 --gpu h100 --trace trace.json",
        "blocks and tiles over time, for ui.perfetto.dev"}});
  WorkloadFlags workload_flags;
  OutputFlags output_flags;
  std::vector<std::string> assertion_texts;
  std::optional<std::string> l2_mode, l2_start;
  const WorkloadFeatures features{.sweep = true};
  AddWorkloadFlags(line, workload_flags, features);
  line.AddOption("--assert", assertion_texts, "CLAIM", "FIELD OP VALUE, e.g. \"l2_to_sm.read<=1.2GB\"; repeatable");
  line.AddOption("--l2", l2_mode, "MODE",
                 "HBM behind L2: auto, exact (a replay), closed (a formula; auto in sweeps), off");
  line.AddOption("--l2-start", l2_start, "STATE",
                 "What L2 holds: stream (what earlier launches left), flushed (as profilers do), again");
  TraceFlags trace;
  line.AddOption("--trace", trace.path, "FILE",
                 "The estimated schedule as Chrome-trace JSON: blocks on SMs, tiles, bytes");
  line.AddOption("--trace-sms", trace.sms, "N", "How many SMs a trace shows (default: 8)");
  AddOutputFlags(line, output_flags, {.csv = true});
  line.Parse(arguments);

  Output output("traffic", output_flags);
  std::vector<Assertion> assertions;
  for (const std::string& text : assertion_texts) assertions.push_back(ParseAssertion(text));
  const L2Choice l2 = ParseL2(l2_mode, l2_start);
  const Workload workload = ResolveWorkload(workload_flags, features);
  for (const std::string& note : workload.notes) output.Note(note);
  const std::vector<TrafficResult> results = CountAll(workload, l2, assertions, output);

  WriteTraceFile(trace, workload, results, output);
  if (output.wants_json()) output.JsonResult(TrafficJson(workload, assertions, results));
  if (output.wants_csv()) output.CsvResult(TrafficCsv(results));
  if (output.wants_text()) output.Text(Text(workload, assertions, results, output.color()));
  output.Finish();

  return Judge(workload, assertions, results);
}

}  // namespace bitflash::verify
