// bitflash diff: two tensor files, bit by bit.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "data/error.h"
#include "data/tensor_file.h"
#include "verify/cli/commands.h"
#include "verify/cli/difference_text.h"
#include "verify/cli/output.h"
#include "verify/cli/suggest.h"
#include "verify/cli/text.h"

namespace bitflash::verify {
namespace {

using data::ElementType;
using data::InputError;
using data::Tensor;
using data::UsageError;

// A file whose elements have no number format (NumPy has neither bf16 nor fp8) is read as --dtype says.
Tensor View(const Tensor& tensor, const std::optional<data::Format>& format) {
  if (!format || tensor.type() == ElementType(*format)) return tensor;
  return tensor.View(*format);
}

Tensor Named(const data::TensorFile& file, const std::string& path, const std::string& name) {
  const auto found = file.tensors.find(name);
  if (found != file.tensors.end()) return found->second;
  std::vector<std::string> names;
  for (const auto& entry : file.tensors) names.push_back(entry.first);
  throw UsageError(fmt::format("{}: {}", path, UnknownName("tensor", Printable(name), names)));
}

// The pairs to compare: the named ones, the only one of each file, or all by name.
std::vector<std::pair<std::string, std::string>> Pairs(const data::TensorFile& a, const data::TensorFile& b,
                                                       const std::string& a_path, const std::string& b_path,
                                                       const std::optional<std::string>& a_name,
                                                       const std::optional<std::string>& b_name) {
  if (a_name) return {{*a_name, b_name.value_or(*a_name)}};
  if (a.tensors.size() == 1 && b.tensors.size() == 1) return {{a.tensors.begin()->first, b.tensors.begin()->first}};
  std::vector<std::pair<std::string, std::string>> pairs;
  const auto require = [](const data::TensorFile& file, const std::string& name, const std::string& here,
                          const std::string& there) {
    if (file.tensors.count(name)) return;
    throw InputError(
        fmt::format("tensor '{}' is in {} but not in {}; choose with --tensor", Printable(name), here, there));
  };
  for (const auto& entry : a.tensors) {
    require(b, entry.first, a_path, b_path);
    pairs.emplace_back(entry.first, entry.first);
  }
  for (const auto& entry : b.tensors) require(a, entry.first, b_path, a_path);
  if (pairs.empty()) throw data::UndecidedError(fmt::format("{} and {} hold no tensors", a_path, b_path));
  return pairs;
}

}  // namespace

ExitCode Diff(const Arguments& arguments) {
  CommandLine line(
      "diff",
      "Compares two tensor files (.npy, .npz, .safetensors) bit by bit. Exit code 0: every bit is equal; 1: not.\n"
      "Types and shapes must agree (exit code 3).",
      {{"bitflash diff o_cpu.npy o_gpu.npy", "the only tensor of each file"},
       {"bitflash diff a.safetensors b.safetensors", "all tensors, by name"},
       {"bitflash diff case.npz case.npz --tensor o --tensor-b o_ref", "two tensors of one file"},
       {"bitflash diff a.npy b.npy --dtype bf16 --json", "16-bit patterns that NumPy cannot name"}});
  std::optional<std::string> a_path, b_path, a_name, b_name, dtype;
  OutputFlags output_flags;
  line.AddPositional("A", a_path, "The first file");
  line.AddPositional("B", b_path, "The second file; relative errors are relative to it");
  line.AddOption("--tensor", a_name, "NAME", "Compare only this tensor");
  line.AddOption("--tensor-b", b_name, "NAME", "Its name in B, when it has another");
  line.AddOption("--dtype", dtype, "FORMAT", "What the bits are, for files that do not say");
  line.Group("Output");
  AddOutputFlags(line, output_flags);
  line.Parse(arguments);

  Output output("diff", output_flags);
  if (!a_path || !b_path) throw UsageError("two files are needed: bitflash diff A B");
  if (b_name && !a_name) throw UsageError("--tensor-b needs --tensor");
  std::optional<data::Format> format;
  if (dtype) format = data::ParseFormat(*dtype);
  const data::TensorFile a = data::ReadTensors(*a_path), b = data::ReadTensors(*b_path);

  std::vector<NamedDifference> differences;
  bool identical = true;
  for (const auto& [a_key, b_key] : Pairs(a, b, *a_path, *b_path, a_name, b_name)) {
    const std::string name = a_key == b_key ? a_key : a_key + " / " + b_key;
    const Tensor x = View(Named(a, *a_path, a_key), format), y = View(Named(b, *b_path, b_key), format);
    try {
      differences.push_back({name, Compare(x, y)});
    } catch (const UsageError& error) {
      throw InputError(fmt::format("tensor {} of {} and {}: {}", Printable(name), *a_path, *b_path, error.what()));
    }
    identical &= differences.back().difference.identical();
  }

  if (output.wants_json()) {
    Json json = {{"schema", "bitflash.diff/1"}, {"version", BITFLASH_VERSION}, {"a", *a_path}, {"b", *b_path},
                 {"identical", identical},      {"tensors", Json::array()}};
    for (const NamedDifference& named : differences) json["tensors"].push_back(DifferenceJson(named));
    output.JsonResult(json);
  }
  for (const NamedDifference& named : differences) output.Text(DifferenceText(named, {}, output.color()));
  output.Finish();
  return identical ? ExitCode::kPass : ExitCode::kMismatch;
}

}  // namespace bitflash::verify
