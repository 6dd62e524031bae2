#include "verify/cli/run_inputs.h"

#include <fmt/format.h>

#include <cstdlib>

#include "data/error.h"
#include "data/tensor_file.h"
#include "verify/cli/suggest.h"
#include "verify/cli/text.h"

namespace bitflash::verify {
namespace {

using data::InputError;
using data::Tensor;
using data::UsageError;

// Lengths of sequences, [batch] i64; empty where the file has none.
std::vector<int64_t> LengthsIn(const data::TensorFile& file, const char* name, const std::string& path) {
  const auto found = file.tensors.find(name);
  if (found == file.tensors.end()) return {};
  const Tensor lengths = found->second.Contiguous();
  if (lengths.type() != data::ElementType::Signed(8) || lengths.dimensions() != 1) {
    throw InputError(fmt::format("{}: {} is {} {}: expected i64 [batch]", Printable(path), name, Name(lengths.type()),
                                 data::ShapeString(lengths.shape())));
  }
  const auto elements = lengths.Elements<int64_t>();
  for (const int64_t length : elements) {
    if (length < 0) throw InputError(fmt::format("{}: {} has a length of {}", Printable(path), name, length));
  }
  return {elements.begin(), elements.end()};
}

// A tensor of four dimensions as the file has it.
void Require4d(const Tensor& tensor, std::string_view name, std::string_view path) {
  if (tensor.dimensions() == 4) return;
  throw InputError(fmt::format("{}: {} has the shape {}: expected [batch, heads, seqlen, head_dim]", Printable(path),
                               name, data::ShapeString(tensor.shape())));
}

void Fill(std::optional<std::string>& flag, const std::string& value) {
  if (!flag) flag = value;
}

// What the file says of itself (bitflash gen writes these).
void UseMetadata(const std::map<std::string, std::string>& metadata, FileInputs& inputs, WorkloadFlags& workload) {
  const auto value = [&](const char* key) {
    const auto found = metadata.find(key);
    return found == metadata.end() ? nullptr : &found->second;
  };
  if (const std::string* layout = value("layout")) {
    const data::Layout from = data::ParseLayout(*layout);
    inputs.q = inputs.q.ToLayout(from, data::Layout::kBhsd);
    inputs.k = inputs.k.ToLayout(from, data::Layout::kBhsd);
    if (inputs.v) inputs.v = inputs.v->ToLayout(from, data::Layout::kBhsd);
  }
  if (const std::string* mask = value("mask"); mask && !workload.causal) Fill(workload.mask, *mask);
  // Hexadecimal in the file: 17 digits are the same double.
  const auto number = [&](const char* key, std::optional<std::string>& flag) {
    if (const std::string* text = value(key)) Fill(flag, fmt::format("{:.17g}", std::strtod(text->c_str(), nullptr)));
  };
  number("scale", workload.softmax_scale);
  number("softcap", workload.softcap);
}

Tensor AsFormat(const Tensor& tensor, data::Format format, std::string_view name) {
  if (tensor.type() == data::ElementType(format)) return tensor;
  const bool patterns = tensor.type().IsInteger() && tensor.type().bytes() == data::StorageBytes(format);
  if (patterns) return tensor.View(format);
  throw InputError(fmt::format("{} holds {}: expected {} (--dtype)", name, Name(tensor.type()), data::Name(format)));
}

Tensor Selected(const Tensor& tensor, std::string_view name, data::Format format, const std::vector<int64_t>& shape,
                int64_t head_begin, int64_t head_end) {
  if (tensor.shape() != shape) {
    throw InputError(fmt::format("{} has the shape {}: expected {}, [batch, heads, seqlen, head_dim] of the problem",
                                 name, data::ShapeString(tensor.shape()), data::ShapeString(shape)));
  }
  return AsFormat(tensor, format, name).Slice(1, head_begin, head_end).Contiguous();
}

}  // namespace

void AddInputFlags(CommandLine& line, InputFlags& flags) {
  line.Group("Inputs");
  line.AddOption("--distribution", flags.distribution, "NAME",
                 "Of the values (bitflash list distributions; default: hash-normal)");
  line.AddOption("--in", flags.in, "FILE", "Q, K, V from a .npz or .safetensors file instead (tensors q, k, v)");
  line.AddOption("--q", flags.q, "FILE.npy", "Q from a file; the shapes need no flags then");
  line.AddOption("--k", flags.k, "FILE.npy", "K from a file");
  line.AddOption("--v", flags.v, "FILE.npy", "V from a file");
}

std::optional<FileInputs> ReadInputs(const InputFlags& flags, WorkloadFlags& workload, WorkloadFeatures& features) {
  if (!flags.FromFiles()) return std::nullopt;
  for (const auto* path : {&flags.in, &flags.q, &flags.k, &flags.v}) {
    if (*path && (*path)->empty()) throw UsageError("--in, --q, --k, --v: '' is no file name");
  }
  const bool parts = flags.q || flags.k || flags.v;
  if (flags.in && parts) throw UsageError("--in contradicts --q, --k and --v: give one file, or one for each tensor");
  if (parts && (!flags.q || !flags.k)) throw UsageError("--q, --k and --v go together");
  if (flags.distribution) throw UsageError("--distribution contradicts input files: they hold the values");
  if (workload.seed) throw UsageError("--seed contradicts input files: they hold the values");

  FileInputs inputs;
  std::map<std::string, std::string> metadata;
  if (flags.in) {
    inputs.paths = {*flags.in};
    const data::TensorFile file = data::ReadTensors(*flags.in);
    metadata = file.metadata;
    const auto named = [&](const char* name) -> const Tensor& {
      const auto found = file.tensors.find(name);
      if (found != file.tensors.end()) return found->second;
      std::vector<std::string> names;
      for (const auto& entry : file.tensors) names.push_back(Printable(entry.first));
      throw InputError(fmt::format("{} has no tensor '{}'; it has {}", Printable(*flags.in), name, Join(names)));
    };
    inputs.q = named("q");
    inputs.k = named("k");
    if (file.tensors.count("v")) inputs.v = named("v");
    inputs.lengths = {LengthsIn(file, "seqlens_q", *flags.in), LengthsIn(file, "seqlens_k", *flags.in)};
  } else {
    for (const auto* path : {&flags.q, &flags.k, &flags.v}) {
      if (*path) inputs.paths.push_back(**path);
    }
    inputs.q = data::ReadTensor(*flags.q);
    inputs.k = data::ReadTensor(*flags.k);
    if (flags.v) inputs.v = data::ReadTensor(*flags.v);
  }
  Require4d(inputs.q, "q", inputs.paths.front());
  Require4d(inputs.k, "k", flags.in ? *flags.in : *flags.k);
  if (inputs.v) Require4d(*inputs.v, "v", flags.in ? *flags.in : *flags.v);
  UseMetadata(metadata, inputs, workload);

  const auto extent = [](const Tensor& tensor, int dimension) { return std::to_string(tensor.shape()[dimension]); };
  if (!workload.model) {
    Fill(workload.heads_q, extent(inputs.q, 1));
    Fill(workload.heads_kv, extent(inputs.k, 1));
    Fill(workload.head_dim, extent(inputs.q, 3));
    if (inputs.v) Fill(workload.head_dim_v, extent(*inputs.v, 3));
  }
  Fill(workload.batch, extent(inputs.q, 0));
  if (!workload.seqlen && !workload.phase) {
    Fill(workload.seqlen_q, extent(inputs.q, 2));
    Fill(workload.seqlen_k, extent(inputs.k, 2));
  }
  if (const auto format = inputs.q.type().format()) Fill(workload.dtype, std::string(data::Name(*format)));
  features.seed = false;
  return inputs;
}

void RequireOneLength(const std::optional<FileInputs>& files, std::string_view command) {
  if (!files || !files->lengths.ragged()) return;
  throw UsageError(fmt::format("{} has sequences of several lengths: {} takes sequences of one length",
                               Printable(Join(files->paths)), command));
}

Lengths LengthsOf(const LengthFlags& flags, const std::optional<FileInputs>& files, WorkloadFlags& workload) {
  if (!files || !files->lengths.ragged()) return ParseLengths(flags, workload);
  if (flags.any()) {
    throw UsageError(fmt::format("{} contradicts {}, which says the lengths of its sequences",
                                 flags.q ? "--seqlens-q" : "--seqlens-k", Printable(Join(files->paths))));
  }
  return files->lengths;
}

KernelInputs SelectInputs(const FileInputs& files, const data::Attention& a, const HeadSubset& heads) {
  KernelInputs inputs;
  inputs.q = Selected(files.q, "q", a.format, {a.batch, a.heads_q, a.seqlen_q, a.head_dim}, heads.q_begin,
                      heads.q_begin + heads.attention.heads_q);
  inputs.k =
      Selected(files.k, "k", a.format, {a.batch, a.heads_kv, a.seqlen_k, a.head_dim}, heads.kv_begin, heads.kv_end);
  if (a.v_is_in_k) return inputs;
  if (!files.v) throw InputError(fmt::format("{}: no tensor v", Printable(Join(files.paths))));
  inputs.v =
      Selected(*files.v, "v", a.format, {a.batch, a.heads_kv, a.seqlen_k, a.head_dim_v}, heads.kv_begin, heads.kv_end);
  return inputs;
}

}  // namespace bitflash::verify
