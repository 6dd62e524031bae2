// bitflash identify: which recipe made these bits?
#include "verify/identify/identify.h"

#include <fmt/format.h>
#include <omp.h>

#include <nlohmann/json.hpp>

#include "data/error.h"
#include "data/tensor_file.h"
#include "verify/cli/commands.h"
#include "verify/cli/identify_result.h"
#include "verify/cli/run_inputs.h"
#include "verify/cli/suggest.h"
#include "verify/cli/text.h"
#include "verify/stopwatch.h"

namespace bitflash::verify {
namespace {

using data::InputError;
using data::Tensor;
using data::UsageError;

struct ObservedFlags {
  std::optional<std::string> o, lse;
};

// O and LSE as files have them.
struct Observed {
  Tensor o;
  std::optional<Tensor> lse;
  std::vector<std::string> paths;
};

Observed ReadObserved(const ObservedFlags& flags, const InputFlags& inputs) {
  if (!flags.o && !inputs.in) throw UsageError("which outputs? Give --o FILE.npy, or --in FILE with a tensor o");
  Observed observed;
  std::optional<data::TensorFile> file;
  if (inputs.in && (!flags.o || !flags.lse)) file = data::ReadTensors(*inputs.in);
  if (flags.o) {
    observed.o = data::ReadTensor(*flags.o);
    observed.paths.push_back(*flags.o);
  } else {
    const auto found = file->tensors.find("o");
    if (found == file->tensors.end()) {
      throw InputError(fmt::format("{} has no tensor 'o' (or give --o FILE.npy)", Printable(*inputs.in)));
    }
    observed.o = found->second;
    observed.paths.push_back(*inputs.in);
    const auto layout = file->metadata.find("layout");
    if (layout != file->metadata.end() && observed.o.dimensions() == 4) {
      observed.o = observed.o.ToLayout(data::ParseLayout(layout->second), data::Layout::kBhsd);
    }
  }
  if (flags.lse) {
    observed.lse = data::ReadTensor(*flags.lse);
    observed.paths.push_back(*flags.lse);
  } else if (file && file->tensors.count("lse")) {
    observed.lse = file->tensors.at("lse");
  }
  return observed;
}

// The bits as the format; files may hold them as integers.
Tensor Patterns(const Tensor& tensor, data::Format format) {
  const bool patterns = tensor.type().IsInteger() && tensor.type().bytes() == data::StorageBytes(format);
  return (patterns ? tensor.View(format) : tensor).Contiguous();
}

Outputs ToOutputs(const Observed& observed, const data::Attention& a) {
  const auto require = [](const Tensor& tensor, const char* name, const std::vector<int64_t>& shape) {
    if (tensor.shape() == shape) return;
    throw InputError(fmt::format("{} has the shape {}: expected {}", name, data::ShapeString(tensor.shape()),
                                 data::ShapeString(shape)));
  };
  require(observed.o, "o", {a.batch, a.heads_q, a.seqlen_q, a.head_dim_v});
  Outputs outputs{Patterns(observed.o, a.format), std::nullopt};
  if (!observed.lse) return outputs;
  Tensor lse = *observed.lse;
  const std::vector<int64_t> shape = {a.batch, a.heads_q, a.seqlen_q};
  if (lse.dimensions() == 4 && lse.shape()[3] == 1) lse = lse.Select(3, 0);  // as cuDNN's statistics
  require(lse, "lse", shape);
  outputs.lse = Patterns(lse, data::Format::kFp32);
  if (outputs.lse->type() != data::ElementType(data::Format::kFp32)) {
    throw InputError(fmt::format("lse holds {}: expected fp32", Name(outputs.lse->type())));
  }
  return outputs;
}

}  // namespace

ExitCode Identify(const Arguments& arguments) {
  CommandLine line(
      "identify",
      "Finds what made given outputs bit by bit: tile, order of the keys, tensor core, and every choice of a recipe, "
      "by\n"
      "simulating rows under all of them. A choice that shows in no element is reported as open. Exit code 0: every\n"
      "compared bit is explained; 1: the best match explains only a part; 5: not modelled, nothing is decided.",
      {{"bitflash identify --in case.safetensors --out-recipe found.json",
        "tensors q, k, v, o and, for a sharper answer, lse"},
       {"bitflash identify --q q.npy --k k.npy --v v.npy --o o.npy --lse lse.npy --dtype bf16 --causal",
        "a file for each tensor; 16-bit patterns need --dtype"},
       {"bitflash run --kernel pytorch-fa2 --heads-q 2 --head-dim 64 --seqlen 300 --seed 3 --out o.npy --lse lse.npy "
        "&& "
        "bitflash identify --heads-q 2 --head-dim 64 --seqlen 300 --seed 3 --o o.npy --lse lse.npy",
        "inputs from a seed"}});
  WorkloadFlags workload_flags;
  InputFlags input_flags;
  ObservedFlags observed_flags;
  OutputFlags output_flags;
  std::optional<std::string> arch, recipe_path;
  WorkloadFeatures features{.gpu = false, .kernel = false, .seed = true};
  AddWorkloadFlags(line, workload_flags, features);
  AddInputFlags(line, input_flags);
  line.AddOption("--o", observed_flags.o, "FILE.npy", "O as observed (default: tensor o of --in)");
  line.AddOption("--lse", observed_flags.lse, "FILE.npy", "LSE as observed (default: tensor lse of --in, if any)");
  line.Group("GPU");
  line.AddOption("--arch", arch, "ARCH", "The only tensor core to consider: sm70, sm75, sm80, ... (default: all)");
  line.Group("Output");
  line.AddOption("--out-recipe", recipe_path, "FILE.json", "The recipe, for bitflash run --recipe");
  AddOutputFlags(line, output_flags);
  line.Parse(arguments);

  Output output("identify", output_flags);
  const data::Distribution distribution = data::ParseDistribution(input_flags.distribution.value_or("hash-normal"));
  const Observed observed = ReadObserved(observed_flags, input_flags);
  const std::optional<FileInputs> files = ReadInputs(input_flags, workload_flags, features);
  RequireOneLength(files, "identify");
  const Workload workload = ResolveWorkload(workload_flags, features);
  for (const std::string& note : workload.notes) output.Note(note);
  const data::Attention& a = workload.attention();
  const HeadSubset all = SelectHeads(a, 0, a.heads_q);
  KernelInputs inputs = files ? SelectInputs(*files, a, all) : GenerateInputs(a, all, distribution, workload.seed);
  Problem problem;
  problem.attention = a;
  problem.q = inputs.q, problem.k = inputs.k, problem.v = inputs.v;
  const Outputs outputs = ToOutputs(observed, a);
  const std::string from = files ? Join(files->paths) : fmt::format("{}, seed {}", Name(distribution), workload.seed);
  const std::string command = ReplayCommand(arguments, recipe_path.value_or("FILE.json"));

  IdentifyResult result{.workload = workload,
                        .found = {},
                        .inputs = from,
                        .outputs = Join(observed.paths),
                        .has_lse = outputs.lse.has_value(),
                        .recipe_path = recipe_path,
                        .command = command,
                        .threads = omp_get_max_threads()};
  const Stopwatch watch;
  {
    constexpr int64_t kSteps = 1000;
    Progress progress(output, "identifying", kSteps);
    int64_t shown = 0;  // a second round of verification starts further back: the line only moves forward
    IdentifyOptions options;
    options.arch = arch;
    options.progress = [&](std::string_view, double share) {
      shown = std::max(shown, static_cast<int64_t>(share * kSteps));
      progress.Advance(shown);
    };
    result.found = Identify(problem, outputs, options);
  }
  result.seconds = watch.seconds();
  if (recipe_path) WriteFile(*recipe_path, RecipeJson(result.found.recipe).dump(2) + "\n");

  if (output.wants_json()) output.JsonResult(IdentifyJson(result));
  output.Text(IdentifyText(result, output.color()));
  output.Finish();
  return result.found.verdict == Identification::Verdict::kExact ? ExitCode::kPass : ExitCode::kMismatch;
}

}  // namespace bitflash::verify
