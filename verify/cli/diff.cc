// bitflash diff: two tensor files, bit by bit.
#include <fmt/format.h>

#include <cmath>

#include "data/error.h"
#include "data/tensor_file.h"
#include "verify/cli/commands.h"
#include "verify/cli/output.h"
#include "verify/cli/suggest.h"
#include "verify/cli/text.h"
#include "verify/cli/units.h"
#include "verify/compare.h"

namespace bitflash::verify {
namespace {

using data::ElementType;
using data::InputError;
using data::Tensor;
using data::UsageError;

struct NamedDifference {
  std::string name;  // "o", or "o / o_ref" when the names differ
  Difference difference;
};

std::string Decimal(double value) {
  return std::isfinite(value) ? fmt::format("{}", value) : fmt::format("{:g}", value);
}

// JSON has no NaN and no infinity: they are strings.
Json NumberJson(double value) { return std::isfinite(value) ? Json(value) : Json(Decimal(value)); }

std::string PairText(const Difference& d, const ElementPair& pair) {
  return fmt::format("{}: A {} = {}, B {} = {}", data::ShapeString(pair.index), HexBits(d.type, pair.a_bits),
                     Decimal(ValueOf(d.type, pair.a_bits)), HexBits(d.type, pair.b_bits),
                     Decimal(ValueOf(d.type, pair.b_bits)));
}

Json PairJson(const Difference& d, const ElementPair& pair) {
  const auto side = [&](uint64_t bits) {
    return Json{{"bits", HexBits(d.type, bits)}, {"value", NumberJson(ValueOf(d.type, bits))}};
  };
  return {{"index", pair.index}, {"a", side(pair.a_bits)}, {"b", side(pair.b_bits)}};
}

std::string Text(const NamedDifference& named, bool color) {
  const Difference& d = named.difference;
  std::string text =
      fmt::format("{}  {} {}, {} elements: {}\n", Paint(named.name, Colour::kBold, color), Name(d.type),
                  data::ShapeString(d.shape), Grouped(d.elements),
                  d.identical() ? Paint("identical", Colour::kGreen, color) : Paint("different", Colour::kRed, color));
  if (d.a_nan + d.b_nan + d.a_infinite + d.b_infinite > 0) {
    text += fmt::format("  non-finite   A {} NaN, {} inf; B {} NaN, {} inf\n", Grouped(d.a_nan), Grouped(d.a_infinite),
                        Grouped(d.b_nan), Grouped(d.b_infinite));
  }
  if (d.kind_differs > 0) {
    text += fmt::format("               at {} positions only one is, or another; first {}\n", Grouped(d.kind_differs),
                        PairText(d, d.first_kind));
  }
  if (d.identical()) return text;
  text += fmt::format(
      "  bits         {} of {} elements differ ({}); first {}\n", Grouped(d.bits_differ), Grouped(d.elements),
      Percent(static_cast<double>(d.bits_differ) / static_cast<double>(d.elements)), PairText(d, d.first));
  if (d.nan_bits_differ > 0) text += fmt::format("  NaN bits     {} differ\n", Grouped(d.nan_bits_differ));
  if (d.zero_sign_differs > 0)
    text += fmt::format("  zeros        {} of the other sign\n", Grouped(d.zero_sign_differs));
  if (d.max_ulps > 0) {
    text += fmt::format("  most ulps    {} at {}\n", d.max_ulps, PairText(d, d.worst_ulps));
    text += fmt::format("  absolute     {} at {}\n", Decimal(d.max_abs), PairText(d, d.worst_abs));
    text += fmt::format("  relative     {} (to B) at {}\n", Decimal(d.max_rel), PairText(d, d.worst_rel));
  }
  return text;
}

Json ToJson(const NamedDifference& named) {
  const Difference& d = named.difference;
  const auto worst = [&](Json value, const ElementPair& pair) {
    return d.max_ulps > 0 ? Json{{"value", std::move(value)}, {"at", PairJson(d, pair)}} : Json(nullptr);
  };
  return {{"name", named.name},
          {"dtype", Name(d.type)},
          {"shape", d.shape},
          {"elements", d.elements},
          {"identical", d.identical()},
          {"non_finite",
           {{"a", {{"nan", d.a_nan}, {"inf", d.a_infinite}}},
            {"b", {{"nan", d.b_nan}, {"inf", d.b_infinite}}},
            {"positions_differ", d.kind_differs},
            {"first", d.kind_differs > 0 ? PairJson(d, d.first_kind) : Json(nullptr)}}},
          {"bits_differ", d.bits_differ},
          {"first", d.bits_differ > 0 ? PairJson(d, d.first) : Json(nullptr)},
          {"nan_bits_differ", d.nan_bits_differ},
          {"zero_sign_differs", d.zero_sign_differs},
          {"max_ulps", worst(d.max_ulps, d.worst_ulps)},
          {"max_abs", worst(NumberJson(d.max_abs), d.worst_abs)},
          {"max_rel", worst(NumberJson(d.max_rel), d.worst_rel)}};
}

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
    for (const NamedDifference& named : differences) json["tensors"].push_back(ToJson(named));
    output.JsonResult(json);
  }
  for (const NamedDifference& named : differences) output.Text(Text(named, output.color()));
  output.Finish();
  return identical ? ExitCode::kPass : ExitCode::kMismatch;
}

}  // namespace bitflash::verify
