// bitflash run: a kernel, bit by bit.
#include <fmt/format.h>
#include <omp.h>

#include <chrono>
#include <filesystem>

#include "data/error.h"
#include "data/tensor_file.h"
#include "sim/count.h"
#include "verify/cli/commands.h"
#include "verify/cli/numbers.h"
#include "verify/cli/run_inputs.h"
#include "verify/cli/run_result.h"
#include "verify/cli/suggest.h"
#include "verify/cli/text.h"

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

// "2:5", "3" or nothing, which is all heads.
HeadSubset ParseHeads(const std::optional<std::string>& text, const Attention& a) {
  if (!text) return SelectHeads(a, 0, a.heads_q);
  const size_t colon = text->find(':');
  if (colon == std::string::npos) {
    throw UsageError(fmt::format("--heads: '{}' is not a range of query heads such as 0:4", Printable(*text)));
  }
  const int64_t end = ParseCount("--heads", text->substr(colon + 1), 1, a.heads_q);
  return SelectHeads(a, ParseCount("--heads", text->substr(0, colon), 0, end - 1), end);
}

// What the simulation cannot do to the last bit. Refused before anything is generated.
void RequireModelled(const sim::Kernel& kernel, const Attention& a) {
  if (a.seqlen_q < kernel.min_seqlen_q) {
    throw data::UndecidedError(
        fmt::format("{} answers {} query row{} with another kernel whose recipe is not known: nothing was simulated",
                    kernel.name, a.seqlen_q, a.seqlen_q == 1 ? "" : "s"));
  }
  if (a.softcap > 0) {
    throw data::UndecidedError("softcap needs tanh.approx, whose bits are not modelled: nothing was simulated");
  }
  if (data::StorageBytes(a.format) != 2) {
    throw data::UndecidedError(
        fmt::format("{} is counted (bitflash traffic) but not modelled to the bit: nothing was simulated (--dtype fp16 "
                    "or bf16)",
                    data::Name(a.format)));
  }
}

void RequireLse(const sim::Kernel& kernel, bool has_lse) {
  if (has_lse) return;
  throw UsageError(fmt::format("--lse: kernel {} keeps the maximum and the sum of each row, m and l, and writes no LSE",
                               kernel.name));
}

bool WritesLse(const sim::Count& count) { return At(count.total.l2_to_sm, sim::TensorId::kLse).write > 0; }

void Write(RunResult& result, const OutputPaths& paths) try {
  const auto write = [&](const std::optional<std::string>& path, const char* name, const data::Tensor& tensor) {
    if (!path) return;
    data::WriteTensors(*path, {{{name, tensor}}, {}});
    result.files.push_back({*path, name, Name(tensor.type()), tensor.shape()});
  };
  write(paths.o, "o", result.simulated.o);
  write(paths.lse, "lse", result.simulated.lse);
} catch (const data::InputError& error) {
  throw OutputError(error.what());
}

}  // namespace

ExitCode Run(const Arguments& arguments) {
  CommandLine line(
      "run",
      "Runs an attention kernel bit by bit as its GPU would, and prints a hash of every head's output. The bits do "
      "not\n"
      "depend on the number of threads nor on which heads are simulated. O is written as 16-bit patterns [batch, "
      "heads,\n"
      "seqlen_q, head_dim_v], LSE as fp32 [batch, heads, seqlen_q].",
      {{"bitflash run --kernel pytorch-fa2 --heads-q 2 --head-dim 64 --seqlen 512 --causal --out o.npy --lse lse.npy",
        "PyTorch's FlashAttention-2 on an H200"},
       {"bitflash run --kernel fa2 --arch sm80 --heads-q 32 --heads-kv 8 --head-dim 128 --seqlen 256 --heads 4:6",
        "two heads of 32, as an A100 computes them; only hashes"},
       {"bitflash gen --heads-q 2 --head-dim 64 --seqlen 128 -o qkv.safetensors && bitflash run --kernel fa3 --in "
        "qkv.safetensors",
        "inputs from a file, which also says the shapes"}});
  WorkloadFlags workload_flags;
  InputFlags input_flags;
  OutputFlags output_flags;
  OutputPaths paths;
  std::optional<std::string> heads_text;
  const WorkloadFeatures features{.seed = true};
  AddWorkloadFlags(line, workload_flags, features);
  AddInputFlags(line, input_flags);
  line.Group("Output");
  line.AddOption("-o,--out", paths.o, "FILE.npy", "O, raw 16-bit patterns (default: only hashes)");
  line.AddOption("--lse", paths.lse, "FILE.npy", "LSE, fp32");
  line.AddOption("--heads", heads_text, "A:B", "Simulate query heads A to B - 1 of every sequence (default: all)");
  AddOutputFlags(line, output_flags);
  line.Parse(arguments);

  Output output("run", output_flags);
  CheckPaths(paths);
  const data::Distribution distribution = data::ParseDistribution(input_flags.distribution.value_or("hash-normal"));
  std::optional<FileInputs> files;
  WorkloadFeatures needed = features;
  if (input_flags.FromFiles()) {
    files = ReadInputs(input_flags, workload_flags);
    needed.seed = false;
  }
  const Workload workload = ResolveWorkload(workload_flags, needed);
  for (const std::string& note : workload.notes) output.Note(note);
  if (workload.kernels.size() != 1) throw UsageError("--kernel: run takes one kernel at a time");
  const Attention& attention = workload.attention();
  const sim::Kernel& kernel = *workload.kernels.front();
  const sim::Tiling tiling = ChooseTiling(workload, kernel, attention);
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
                   .heads = ParseHeads(heads_text, attention),
                   .inputs = files ? Join(files->paths) : fmt::format("{}, seed {}", Name(distribution), workload.seed),
                   .has_lse = WritesLse(count),
                   .threads = omp_get_max_threads()};

  const KernelInputs inputs = files ? SelectInputs(*files, attention, result.heads)
                                    : GenerateInputs(attention, result.heads, distribution, workload.seed);
  {
    constexpr int64_t kSteps = 1000;
    Progress progress(output, fmt::format("simulating {}", kernel.name), kSteps);
    int64_t shown = 0;
    const auto begin = std::chrono::steady_clock::now();
    result.simulated = Simulate(kernel, result.heads, tiling, workload.gpu.arch, inputs, [&](double share) {
      // Every launch counts from 0: the line only moves forward.
      shown = std::max(shown, static_cast<int64_t>(share * kSteps));
      progress.Advance(shown);
    });
    result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }
  Write(result, paths);

  if (output.wants_json()) output.JsonResult(RunJson(result));
  output.Text(RunText(result, output.color()));
  output.Finish();
  return ExitCode::kPass;
}

}  // namespace bitflash::verify
