// bitflash verify --device cuda: the CUDA kernels of gpu/ against their simulated twins.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "data/error.h"
#include "verify/cases/case_input.h"
#include "verify/cli/check_flags.h"
#include "verify/cli/commands.h"
#include "verify/cli/device_flag.h"
#include "verify/cli/numbers.h"
#include "verify/cli/run_inputs.h"
#include "verify/cli/simulation.h"
#include "verify/cli/suggest.h"
#include "verify/cli/text.h"
#include "verify/cli/verify_flags.h"
#include "verify/cli/verify_result.h"
#include "verify/device/device_run.h"
#include "verify/diagnose/faults.h"
#include "verify/stopwatch.h"

namespace bitflash::verify {
namespace {

using data::Attention;
using data::UndecidedError;
using data::UsageError;

constexpr int64_t kMostRuns = 1000;

// Everything that can be wrong with the command line is said before anything runs.
void Plan(VerifyResult& result) {
  for (KernelVerdict& v : result.kernels) {
    const Attention& attention = result.workload.attention();
    v.plan = PlanDevice(FindTwin(CudaKernels(), v.kernel->name), *v.kernel, attention, result.workload.gpu,
                        ChoiceFor(result.workload, *v.kernel));
    if (result.lengths.ragged()) SetLengths(*v.plan, result.lengths.queries, result.lengths.keys);
    sim::CountKernel(*v.kernel, attention, v.plan->tiling, result.workload.gpu);  // refuses what the twin does not take
  }
}

KernelInputs OfHeads(const KernelInputs& whole, const HeadSubset& heads) {
  const auto some = [](const data::Tensor& tensor, int64_t begin, int64_t count) {
    return tensor.Slice(1, begin, begin + count).Contiguous();
  };
  const int64_t kv = heads.attention.heads_kv;
  return {.q = some(whole.q, heads.q_begin, heads.attention.heads_q),
          .k = some(whole.k, heads.kv_begin, kv),
          .v = some(whole.v, heads.kv_begin, kv)};
}

// A saved case, which `bitflash verify` has for kernels of any kind, as one for the CUDA kernels.
Problem ReadProblem(const VerifyFlags& flags) {
  RefuseProblemFlags(flags);
  if (flags.lengths.any()) throw UsageError("--seqlens-q and --seqlens-k contradict --case: it says the lengths");
  Problem problem = ReadCaseInput(FilesOf(flags), HintsOf(flags)).saved.problem;
  RequireSameShape(flags.workload, problem.attention);
  if (!problem.sinks.empty()) throw UsageError("--case: the CUDA kernels take no attention sinks");
  if (problem.q_scale != 1 || problem.k_scale != 1 || problem.v_scale != 1) {
    throw UsageError("--case: the CUDA kernels take no scales of Q, K and V");
  }
  return problem;
}

// What the twin gives for the heads asked for.
OutputPair Twin(KernelVerdict& v, const VerifyResult& result, const KernelInputs& inputs, const Output& output) {
  const std::string& arch = result.workload.gpu.arch;
  const HeadSubset& heads = result.heads;
  if (result.lengths.ragged()) {
    const Stopwatch stopwatch;
    OutputPair whole =
        SimulateSequences(*v.kernel, heads, v.plan->tiling, arch, OfHeads(inputs, heads), result.lengths);
    v.simulation_seconds = stopwatch.seconds();
    return whole;
  }
  TimedSimulation timed = SimulateShowing(output, *v.kernel, heads, v.plan->tiling, arch, OfHeads(inputs, heads));
  v.simulation_seconds = timed.seconds;
  return {timed.simulated.o, timed.simulated.lse};
}

void Judge(KernelVerdict& v, const VerifyResult& result, const KernelInputs& inputs, int64_t runs,
           const Output& output) try {
  const Attention& attention = result.workload.attention();
  RequireModelled(*v.kernel, attention);
  OutputPair device;
  RunOnDevice(*v.plan, inputs, runs, [&](DeviceOutputs outputs) {
    OutputPair pair{std::move(outputs.o), std::move(outputs.lse)};
    if (v.runs == 0) {
      device = std::move(pair);
    } else {
      v.unstable_elements += CountDifferent(device, pair);
    }
    v.device_seconds = v.runs == 0 ? outputs.seconds : std::min(v.device_seconds, outputs.seconds);
    ++v.runs;
  });
  const HeadSubset& heads = result.heads;
  const OutputPair twin = Twin(v, result, inputs, output);
  const sim::Count count = sim::CountKernel(*v.kernel, attention, v.plan->tiling, result.workload.gpu);
  v.agreement = CompareOutputs({device.o.Slice(1, heads.begin, heads.end), device.lse.Slice(1, heads.begin, heads.end)},
                               twin, attention.format, heads.begin, WritesLse(count));
  v.verdict = v.agreement->identical() && v.unstable_elements == 0 ? Verdict::kPass : Verdict::kFail;
} catch (const UndecidedError& error) {
  v.reason = error.what();
}

}  // namespace

ExitCode VerifyDevice(const VerifyFlags& flags, const Arguments& arguments) {
  const WorkloadFeatures features{.seed = true};
  Output output("verify", flags.output);
  if (ParseDevice(flags.device) != DeviceKind::kCuda) {
    throw UsageError("--device cpu: a simulated kernel is its own twin (--fault NAME judges one with a mistake in it)");
  }
  const int64_t runs = ParseCount("--repeat", flags.runs.value_or("2"), 1, kMostRuns);
  const data::Distribution distribution = data::ParseDistribution(flags.inputs.distribution.value_or("hash-normal"));
  std::optional<FileInputs> files;
  WorkloadFeatures needed = features;
  WorkloadFlags workload_flags = flags.workload;
  std::optional<Problem> problem;
  if (flags.case_file) {
    problem = ReadProblem(flags);
    workload_flags = WithProblem(workload_flags, problem->attention);
    needed.seed = false;
  } else {
    files = ReadInputs(flags.inputs, workload_flags, needed);
  }
  const Lengths lengths =
      problem ? Lengths{problem->seqlens_q, problem->seqlens_k} : LengthsOf(flags.lengths, files, workload_flags);
  Workload workload = ResolveWorkload(workload_flags, needed);
  RequireFitting(lengths, workload.attention());
  VerifyResult result{.workload = workload,
                      .heads = ParseHeads(flags.heads, workload.attention()),
                      .inputs = problem ? *flags.case_file
                                : files ? Join(files->paths)
                                        : fmt::format("{}, seed {}", Name(distribution), workload.seed),
                      .lengths = lengths};
  for (const sim::Kernel* kernel : workload.kernels) {
    result.kernels.push_back({.kernel = kernel, .command = RepeatCommand(arguments, *kernel)});
  }

  bool ready = false;
  try {
    for (const KernelVerdict& v : result.kernels) {
      const gpu::Kernel& cuda_kernel = FindTwin(CudaKernels(), v.kernel->name);
      RequireTaken(cuda_kernel, workload.attention());
      if (lengths.ragged()) RequireRaggedTaken(cuda_kernel, workload.attention(), lengths.queries);
    }
    result.device = CurrentCudaDevice();
    workload = ResolveForDevice(workload_flags, needed, *result.device);
    ready = true;
  } catch (const UndecidedError& error) {
    for (KernelVerdict& v : result.kernels) v.reason = error.what();
  }
  for (const std::string& note : workload.notes) output.Note(note);
  if (ready) {
    Plan(result);
    const HeadSubset all = SelectHeads(workload.attention(), 0, workload.attention().heads_q);
    const KernelInputs inputs = problem ? KernelInputs{problem->q, problem->k, problem->v}
                                : files ? SelectInputs(*files, workload.attention(), all)
                                        : GenerateInputs(workload.attention(), all, distribution, workload.seed);
    for (KernelVerdict& v : result.kernels) Judge(v, result, inputs, runs, output);
  }

  if (output.wants_json()) output.JsonResult(VerifyJson(result));
  if (output.wants_text()) output.Text(VerifyText(result, output.color()));
  output.Finish();
  for (const KernelVerdict& v : result.kernels) {
    if (v.verdict == Verdict::kUndecided) {
      WriteError(fmt::format("bitflash verify: {}: undecided: {}", v.kernel->name, Printable(v.reason)));
    }
  }
  if (result.Count(Verdict::kFail) > 0) return ExitCode::kMismatch;
  return result.Count(Verdict::kUndecided) > 0 ? ExitCode::kUndecided : ExitCode::kPass;
}

}  // namespace bitflash::verify
