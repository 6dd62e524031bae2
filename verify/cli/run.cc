// bitflash run: a kernel, bit by bit.
#include <fmt/format.h>
#include <omp.h>

#include <filesystem>

#include "data/error.h"
#include "data/tensor_file.h"
#include "sim/count.h"
#include "verify/cli/commands.h"
#include "verify/cli/cpu_kernel_flag.h"
#include "verify/cli/device_flag.h"
#include "verify/cli/recipe_flag.h"
#include "verify/cli/run_cpu.h"
#include "verify/cli/run_inputs.h"
#include "verify/cli/run_result.h"
#include "verify/cli/simulation.h"
#include "verify/cli/suggest.h"
#include "verify/cli/text.h"
#include "verify/device/device_run.h"
#include "verify/stopwatch.h"

namespace bitflash::verify {
namespace {

using data::Attention;
using data::UsageError;

struct OutputPaths {
  std::optional<std::string> o, lse;
};

// A name that cannot be written should not cost a long simulation first.
void CheckPath(const char* flag, const std::optional<std::string>& path) {
  if (!path) return;
  const std::filesystem::path file(*path);
  if (path->empty() || file.extension() != ".npy") {
    throw UsageError(fmt::format("{}: '{}' is not the name of a .npy file", flag, Printable(*path)));
  }
  const std::filesystem::path folder = file.has_parent_path() ? file.parent_path() : ".";
  std::error_code ignored;
  if (!std::filesystem::is_directory(folder, ignored)) {
    throw OutputError(fmt::format("cannot write {}: there is no folder {}", Printable(*path), folder.string()));
  }
}

void CheckPaths(const OutputPaths& paths) {
  CheckPath("--out", paths.o);
  CheckPath("--lse", paths.lse);
  if (paths.o && paths.o == paths.lse)
    throw UsageError(fmt::format("--out and --lse name the same file, {}", *paths.o));
}

void RequireLse(const sim::Kernel& kernel, bool has_lse) {
  if (has_lse) return;
  throw UsageError(fmt::format("--lse: kernel {} keeps the maximum and the sum of each row, m and l, and writes no LSE",
                               kernel.name));
}

template <typename Result>
void Write(Result& result, const OutputPaths& paths) try {
  const auto write = [&](const std::optional<std::string>& path, const char* name, const data::Tensor& tensor) {
    if (!path) return;
    data::WriteTensors(*path, {{{name, tensor}}, {}});
    result.files.push_back({*path, name, Name(tensor.type()), tensor.shape()});
  };
  write(paths.o, "o", result.o);
  write(paths.lse, "lse", result.lse);
} catch (const data::InputError& error) {
  throw OutputError(error.what());
}

void FromSimulation(RunResult& result, const Output& output, const KernelInputs& inputs) {
  TimedSimulation timed =
      SimulateShowing(output, result.kernel, result.heads, result.tiling, result.workload.gpu.arch, inputs);
  result.o = std::move(timed.simulated.o);
  result.lse = std::move(timed.simulated.lse);
  result.hashes = std::move(timed.simulated.hashes);
  for (const auto& launch : timed.simulated.executed.launches) result.launches.push_back(launch.name);
  result.multiply_adds = timed.simulated.executed.total.matrix_flops / 2;
  result.seconds = timed.seconds;
}

// Every sequence by itself.
void FromRaggedSimulation(RunResult& result, const KernelInputs& inputs) {
  const Stopwatch stopwatch;
  OutputPair outputs =
      SimulateSequences(result.kernel, result.heads, result.tiling, result.workload.gpu.arch, inputs, result.lengths);
  result.seconds = stopwatch.seconds();
  result.o = std::move(outputs.o);
  result.lse = std::move(outputs.lse);
  result.hashes = HashHeads(result.o, result.lse, result.heads.begin);
}

// Whole tiles of all sequences.
int64_t MultiplyAdds(const RunResult& result, const Attention& attention) {
  if (!result.lengths.ragged())
    return sim::CountKernel(result.kernel, attention, result.tiling, result.workload.gpu).total.matrix_flops / 2;
  int64_t sum = 0;
  for (int64_t b = 0; b < attention.batch; ++b) {
    const Attention one = SequenceOf(attention, result.lengths, b);
    if (one.seqlen_q == 0) continue;
    sum += sim::CountKernel(result.kernel, one, result.tiling, result.workload.gpu).total.matrix_flops / 2;
  }
  return sum;
}

// The whole problem runs, whichever heads are asked for. Twice, because the first run also loads the code.
void FromDevice(RunResult& result, const DevicePlan& plan, const KernelInputs& inputs) {
  RunOnDevice(plan, inputs, 2, [&](DeviceOutputs outputs) {
    result.o = outputs.o.Slice(1, result.heads.begin, result.heads.end).Contiguous();
    result.lse = outputs.lse.Slice(1, result.heads.begin, result.heads.end).Contiguous();
    result.seconds = outputs.seconds;
  });
  result.hashes = HashHeads(result.o, result.lse, result.heads.begin);
  for (const std::string_view launch : plan.kernel->launches) result.launches.emplace_back(launch);
  result.multiply_adds = MultiplyAdds(result, result.workload.attention());
}

std::string InputText(const std::optional<FileInputs>& files, data::Distribution distribution, uint64_t seed) {
  return files ? Join(files->paths) : fmt::format("{}, seed {}", Name(distribution), seed);
}

// A kernel of the CPU, with the flags that all kernels take.
ExitCode RunCpu(const CpuKernel& kernel, Output& output, const Workload& workload, const HeadSubset& heads,
                const Lengths& lengths, const std::optional<FileInputs>& files, data::Distribution distribution,
                const OutputPaths& paths) {
  for (const std::string& note : workload.notes) output.Note(note);
  RequireTaken(kernel, workload.attention());
  CpuRunResult result{.workload = workload,
                      .kernel = kernel,
                      .heads = heads,
                      .inputs = InputText(files, distribution, workload.seed),
                      .threads = omp_get_max_threads(),
                      .lengths = lengths};
  RunOnCpu(result, files ? SelectInputs(*files, workload.attention(), heads)
                         : GenerateInputs(workload.attention(), heads, distribution, workload.seed));
  Write(result, paths);
  if (output.wants_json()) output.JsonResult(RunJson(result));
  output.Text(RunText(result, output.color()));
  output.Finish();
  return ExitCode::kPass;
}

}  // namespace

ExitCode Run(const Arguments& arguments) {
  CommandLine line(
      "run",
      "Runs an attention kernel bit by bit as its GPU would, or with --device cuda on the GPU in this machine, and\n"
      "prints a hash of every head's output. The bits do not depend on the number of threads nor on which heads are\n"
      "simulated. O is written as 16-bit patterns [batch, heads, seqlen_q, head_dim_v], LSE as fp32 [batch, heads,\n"
      "seqlen_q]. --kernel cpu-simd is no simulation but a kernel of the CPU, timed on this machine (the fastest of\n"
      "several runs where one is short); it also takes --dtype fp32, and --gpu, --tile and the like mean nothing to "
      "it.",
      {{"bitflash run --kernel pytorch-fa2 --heads-q 2 --head-dim 64 --seqlen 512 --causal --out o.npy --lse lse.npy",
        "PyTorch's FlashAttention-2 on an H200"},
       {"bitflash run --kernel fa2 --arch sm80 --heads-q 32 --heads-kv 8 --head-dim 128 --seqlen 256 --heads 4:6",
        "two heads of 32, as an A100 computes them; only hashes"},
       {"bitflash gen --heads-q 2 --head-dim 64 --seqlen 128 -o qkv.safetensors && bitflash run --kernel fa3 --in "
        "qkv.safetensors",
        "inputs from a file, which also says the shapes"},
       {"bitflash run --kernel fa2 --device cuda --heads-q 8 --head-dim 128 --seqlen 1024 --causal --out o.npy",
        "the CUDA kernel on the GPU in this machine; exit code 5 when there is none"},
       {"bitflash run --kernel fa3 --device cuda --heads-q 8 --head-dim 128 --seqlens-q 200,1,64 --seqlens-k "
        "200,500,64 "
        "--causal",
        "sequences of several lengths, packed one behind the other; without --device simulated, each by itself"},
       {"bitflash run --kernel cpu-simd --heads-q 8 --head-dim 64 --seqlen 512 --causal --dtype fp32 --out o.npy",
        "the attention kernel of this machine's CPU: its time, and its O in fp32"},
       {"bitflash run --recipe found.json --in qkv.safetensors --out o.npy", "a recipe that bitflash identify found"}});
  WorkloadFlags workload_flags;
  LengthFlags length_flags;
  InputFlags input_flags;
  OutputFlags output_flags;
  OutputPaths paths;
  std::optional<std::string> heads_text, device_text, recipe_path;
  const WorkloadFeatures features{.seed = true, .cpu_kernels = true};
  AddWorkloadFlags(line, workload_flags, features);
  AddLengthFlags(line, length_flags);
  AddInputFlags(line, input_flags);
  line.Group("Kernel");
  AddRecipeFlag(line, recipe_path);
  line.Group("GPU");
  line.AddOption("--device", device_text, "cpu|cuda",
                 "cuda: the kernel of gpu/ on the GPU in this machine (default: cpu)");
  line.Group("Output");
  line.AddOption("-o,--out", paths.o, "FILE.npy",
                 "O: raw 16-bit patterns, or fp32 with --dtype fp32 (default: only hashes)");
  line.AddOption("--lse", paths.lse, "FILE.npy", "LSE, fp32");
  line.AddOption("--heads", heads_text, "A:B", "Only query heads A to B - 1 of every sequence (default: all)");
  AddOutputFlags(line, output_flags);
  line.Parse(arguments);

  Output output("run", output_flags);
  CheckPaths(paths);
  const DeviceKind kind = ParseDevice(device_text);
  const data::Distribution distribution = data::ParseDistribution(input_flags.distribution.value_or("hash-normal"));
  WorkloadFeatures needed = features;
  const std::optional<FileInputs> files = ReadInputs(input_flags, workload_flags, needed);
  const Lengths lengths = LengthsOf(length_flags, files, workload_flags);
  const CpuKernel* cpu_kernel = NamedCpuKernel(workload_flags);
  if (cpu_kernel != nullptr) {
    if (kind == DeviceKind::kCuda) {
      throw UsageError(fmt::format(
          "--device cuda contradicts --kernel {}, which runs on the CPU: expected --device cpu", cpu_kernel->name));
    }
    if (recipe_path) {
      throw UsageError(
          fmt::format("--recipe contradicts --kernel {}: a recipe is of a simulated kernel", cpu_kernel->name));
    }
    RefuseSimulationFlags(*cpu_kernel, workload_flags);
    const Workload workload = ResolveWorkload(workload_flags, WithoutSimulation(needed));
    RequireFitting(lengths, workload.attention());
    return RunCpu(*cpu_kernel, output, workload, ParseHeads(heads_text, workload.attention()), lengths, files,
                  distribution, paths);
  }
  const std::optional<RecipeFile> recipe = ReadRecipe(recipe_path, workload_flags);
  if (recipe && kind == DeviceKind::kCuda) throw UsageError("--recipe contradicts --device cuda: it is simulated");
  Workload workload = ResolveWorkload(workload_flags, needed);
  if (workload.kernels.size() != 1) throw UsageError("--kernel: run takes one kernel at a time");
  if (recipe) RequireArchitecture(*recipe, workload.gpu);
  const sim::Kernel& kernel = recipe ? recipe->kernel : *workload.kernels.front();
  RequireFitting(lengths, workload.attention());
  const HeadSubset heads = ParseHeads(heads_text, workload.attention());
  std::optional<gpu::Device> device;
  std::optional<DevicePlan> plan;
  if (kind == DeviceKind::kCuda) {
    // What is wrong with the command line first, what this machine lacks last.
    const gpu::Kernel& cuda_kernel = FindTwin(CudaKernels(), kernel.name);
    RequireTaken(cuda_kernel, workload.attention());
    if (lengths.ragged()) RequireRaggedTaken(cuda_kernel, workload.attention(), lengths.queries);
    device = CurrentCudaDevice();
    workload = ResolveForDevice(workload_flags, needed, *device);
    plan = PlanDevice(cuda_kernel, kernel, workload.attention(), workload.gpu, ChoiceFor(workload, kernel));
    if (lengths.ragged()) SetLengths(*plan, lengths.queries, lengths.keys);
    if (const std::string pages = PagesText(*plan); !pages.empty()) workload.notes.push_back(pages);
  }
  for (const std::string& note : workload.notes) output.Note(note);
  const Attention& attention = workload.attention();
  const sim::Tiling tiling = plan ? plan->tiling : ChooseTiling(workload, kernel, attention);
  // Refuses what the kernel does not take or the GPU has no room for.
  const sim::Count count = sim::CountKernel(kernel, attention, tiling, workload.gpu);
  RequireModelled(kernel, attention);
  if (paths.lse) RequireLse(kernel, WritesLse(count));
  const bool wgmma = kernel.mma == sim::MmaInstruction::kWgmma;
  RunResult result{.workload = workload,
                   .kernel = kernel,
                   .core = sim::FindTensorCore(workload.gpu.arch, attention.format, data::Format::kFp32,
                                               wgmma ? "wgmma" : "mma.sync"),
                   .tiling = tiling,
                   .heads = heads,
                   .inputs = InputText(files, distribution, workload.seed),
                   .device = device,
                   .lengths = lengths,
                   .has_lse = WritesLse(count),
                   .threads = omp_get_max_threads()};

  const HeadSubset needs = plan ? SelectHeads(attention, 0, attention.heads_q) : heads;
  const KernelInputs inputs =
      files ? SelectInputs(*files, attention, needs) : GenerateInputs(attention, needs, distribution, workload.seed);
  if (plan) {
    FromDevice(result, *plan, inputs);
  } else if (lengths.ragged()) {
    FromRaggedSimulation(result, inputs);
    for (const auto& launch : count.launches) result.launches.push_back(launch.name);
    result.multiply_adds = MultiplyAdds(result, heads.attention);
  } else {
    FromSimulation(result, output, inputs);
  }
  Write(result, paths);

  if (output.wants_json()) output.JsonResult(RunJson(result));
  output.Text(RunText(result, output.color()));
  output.Finish();
  return ExitCode::kPass;
}

}  // namespace bitflash::verify
