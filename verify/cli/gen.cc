// bitflash gen: inputs that every language can regenerate.
#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

#include "data/convert.h"
#include "data/distribution.h"
#include "data/error.h"
#include "data/tensor_file.h"
#include "verify/cli/commands.h"
#include "verify/cli/suggest.h"
#include "verify/cli/table.h"
#include "verify/cli/traffic_result.h"
#include "verify/cli/units.h"
#include "verify/cli/workload.h"
#include "verify/subjects/simulate.h"

namespace bitflash::verify {
namespace {

using data::InputTensor;
using data::Role;
using data::Tensor;
using data::UsageError;

bool EndsWith(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

bool IsDirectory(const std::string& path) {
  struct stat status {};
  return stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

Tensor Generated(const InputTensor& input, data::Format format, const Output& output, std::string_view name) {
  Tensor tensor = Tensor::Zeros(format, {input.batch, input.heads, input.seqlen, input.head_dim});
  std::byte* bytes = tensor.ContiguousBytes().data();
  Progress progress(output, fmt::format("generating {}", name), input.count());
  constexpr int64_t kRound = 1 << 24;  // elements between two looks at the progress bar
  for (int64_t first = 0; first < input.count(); first += kRound) {
    const int64_t count = std::min(kRound, input.count() - first);
    GenerateParallel(input, format, first, count, bytes + first * data::StorageBytes(format));
    progress.Advance(first + count);
  }
  return tensor;
}

data::TensorFile GenerateAll(const Workload& workload, data::Distribution distribution, const Output& output) {
  const data::Attention& a = workload.attention();
  data::TensorFile file;
  const auto add = [&](const char* name, Role role, int64_t heads, int64_t seqlen, int64_t head_dim) {
    InputTensor input{distribution, role, workload.seed, a.batch, heads, seqlen, head_dim, {}};
    Validate(input);
    file.tensors.emplace(name, Generated(input, a.format, output, name));
  };
  add("q", Role::kQ, a.heads_q, a.seqlen_q, a.head_dim);
  add("k", Role::kK, a.heads_kv, a.seqlen_k, a.head_dim);
  // Latent attention's V is the first columns of K: there is no tensor of its own.
  if (!a.v_is_in_k) add("v", Role::kV, a.heads_kv, a.seqlen_k, a.head_dim_v);
  return file;
}

// Strings only; what is needed to make the file again and to know what it is for.
std::map<std::string, std::string> Metadata(const Workload& workload, data::Distribution distribution) {
  const data::Attention& a = workload.attention();
  std::map<std::string, std::string> metadata = {
      {"producer", "bitflash " BITFLASH_VERSION}, {"version", "1"},   {"distribution", std::string(Name(distribution))},
      {"seed", fmt::format("{}", workload.seed)}, {"layout", "bhsd"}, {"mask", data::ToString(a.mask)},
      {"scale", fmt::format("{:a}", a.scale())}};
  if (a.softcap != 0) metadata["softcap"] = fmt::format("{:a}", a.softcap);
  if (a.v_is_in_k) metadata["v_in_k"] = fmt::format("{}", a.head_dim_v);
  return metadata;
}

// Returns the files written. A failure to write is not an invalid input.
std::vector<std::string> Write(const std::string& path, const data::TensorFile& file, bool directory) try {
  if (!directory) {
    data::WriteTensors(path, file);
    return {path};
  }
  if (!IsDirectory(path) && mkdir(path.c_str(), 0777) != 0) {
    throw OutputError(fmt::format("cannot create the directory {}: {}", path, std::strerror(errno)));
  }
  std::vector<std::string> written;
  for (const auto& [name, tensor] : file.tensors) {
    written.push_back(fmt::format("{}{}{}.npy", path, EndsWith(path, "/") ? "" : "/", name));
    data::WriteTensors(written.back(), {{{name, tensor}}, {}});
  }
  return written;
} catch (const data::InputError& error) {
  throw OutputError(error.what());
}

}  // namespace

ExitCode Gen(const Arguments& arguments) {
  CommandLine line(
      "gen",
      "Writes Q, K and V of an attention problem. Element i of a tensor is a function of the seed and i, so any\n"
      "language can compute it again; the result does not depend on the number of threads.",
      {{"bitflash gen --heads-q 8 --head-dim 128 --seqlen 1024 -o case.safetensors", "hash-normal inputs"},
       {"bitflash gen --model llama-3-8b --phase decode --seqlen 4096 --distribution sinks -o case.npz",
        "attention sinks, in the shapes of a model"},
       {"bitflash gen --heads-q 2 --head-dim 64 --seqlen 128 --seed 7 -o inputs/", "q.npy, k.npy, v.npy"}});
  WorkloadFlags workload_flags;
  OutputFlags output_flags;
  std::optional<std::string> distribution_name, path;
  const WorkloadFeatures features{.gpu = false, .kernel = false, .seed = true};
  AddWorkloadFlags(line, workload_flags, features);
  line.AddOption("-o,--out", path, "FILE|DIR",
                 "Where to: .npz, .safetensors, or a directory (ends in /) for .npy files");
  line.AddOption("--distribution", distribution_name, "NAME", "Of the values (bitflash list distributions)");
  AddOutputFlags(line, output_flags);
  line.Parse(arguments);

  Output output("gen", output_flags);
  std::vector<std::string> names;
  for (const data::DistributionInfo& info : data::AllDistributions()) names.emplace_back(info.name);
  if (distribution_name && std::find(names.begin(), names.end(), *distribution_name) == names.end()) {
    throw UsageError(UnknownName("distribution", *distribution_name, names));
  }
  if (!path || path->empty()) throw UsageError("--out is missing: a .npz or .safetensors file, or a directory");
  const bool directory = EndsWith(*path, "/") || IsDirectory(*path);
  const bool safetensors = EndsWith(*path, ".safetensors");
  if (!directory && !safetensors && !EndsWith(*path, ".npz")) {
    throw UsageError(
        fmt::format("--out: '{}' is not a .npz or .safetensors file nor a directory (a new one ends in /)", *path));
  }
  Workload workload = ResolveWorkload(workload_flags, features);
  if (workload.attention().seqlen_k == 0) throw UsageError("--seqlen-k 0: there are no keys to generate");
  if (!distribution_name) workload.assumed.push_back("distribution = hash-normal");
  const data::Distribution distribution = data::ParseDistribution(distribution_name.value_or("hash-normal"));
  for (const std::string& note : workload.notes) output.Note(note);

  data::TensorFile file = GenerateAll(workload, distribution, output);
  if (safetensors) file.metadata = Metadata(workload, distribution);
  const std::vector<std::string> written = Write(*path, file, directory);

  Json json = {{"schema", "bitflash.gen/1"},
               {"version", BITFLASH_VERSION},
               {"files", written},
               {"distribution", Name(distribution)},
               {"seed", workload.seed},
               {"problem", ProblemJson(workload.attention())},
               {"assumed", workload.assumed},
               {"tensors", Json::array()}};
  Table table({{"tensor"}, {"dtype"}, {"shape"}, {"bytes", Align::kRight}});
  for (const auto& [name, tensor] : file.tensors) {
    json["tensors"].push_back(
        {{"name", name}, {"dtype", Name(tensor.type())}, {"shape", tensor.shape()}, {"bytes", tensor.bytes()}});
    table.Row({name, Name(tensor.type()), data::ShapeString(tensor.shape()), Bytes(tensor.bytes())});
  }
  if (output.wants_json()) output.JsonResult(json);
  std::string text = fmt::format("wrote {}\n{}, seed {}\n", Join(written), Name(distribution), workload.seed);
  for (const std::string& assumed : workload.assumed) text += fmt::format("assumed: {}\n", Printable(assumed));
  output.Text(text + table.ToString(output.color()));
  output.Finish();
  return ExitCode::kPass;
}

}  // namespace bitflash::verify
