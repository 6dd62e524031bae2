#include "verify/identify/recipe_file.h"

#include <algorithm>
#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "data/error.h"
#include "data/strict_json.h"
#include "sim/tensor_core.h"

namespace bitflash::verify {
namespace {

using data::InputError;
using nlohmann::json;

constexpr const char* kSchema = "bitflash.recipe/1";
constexpr int64_t kMostName = 200;

// An object of the file: every key is asked for once, and none is left over.
class Fields {
 public:
  Fields(const json& object, std::string origin, std::string prefix)
      : object_(object), origin_(std::move(origin)), prefix_(std::move(prefix)) {
    if (!object.is_object()) throw Wrong("", object, "an object");
  }

  const json& Required(const char* key) {
    known_.insert(key);
    const auto found = object_.find(key);
    if (found == object_.end()) throw InputError(origin_ + ": " + prefix_ + key + " is missing");
    return *found;
  }

  std::string Text(const char* key) {
    const json& value = Required(key);
    if (!value.is_string()) throw Wrong(key, value, "a string");
    return value.get<std::string>();
  }

  int64_t Integer(const char* key, int64_t least, int64_t most) {
    const json& value = Required(key);
    const std::string expected = "an integer from " + std::to_string(least) + " to " + std::to_string(most);
    if (!value.is_number_integer()) throw Wrong(key, value, expected);
    // An unsigned number beyond int64 would wrap.
    if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(most)) {
      throw Wrong(key, value, expected);
    }
    const int64_t number = value.get<int64_t>();
    if (number < least || number > most) throw Wrong(key, value, expected);
    return number;
  }

  bool Flag(const char* key) {
    const json& value = Required(key);
    if (!value.is_boolean()) throw Wrong(key, value, "true or false");
    return value.get<bool>();
  }

  InputError Wrong(const std::string& key, const json& value, const std::string& expected) const {
    const std::string name = prefix_ + key;
    return InputError(origin_ + ": " + (name.empty() ? "the file" : name) + " is " + data::DescribeJson(value) +
                      ": expected " + expected);
  }

  void RequireNoOthers() const {
    for (const auto& entry : object_.items()) {
      if (known_.count(entry.key())) continue;
      std::string accepted;
      for (const std::string& key : known_) accepted += (accepted.empty() ? "" : ", ") + key;
      throw InputError(origin_ + ": unknown field " + prefix_ + data::ShortJson(entry.key()) + ": expected " +
                       accepted);
    }
  }

 private:
  const json& object_;
  const std::string origin_, prefix_;
  std::set<std::string> known_;
};

sim::Tiling ParseTiling(const json& object, const std::string& origin) {
  constexpr int64_t kMostKeys = int64_t{1} << 40;
  Fields fields(object, origin, "tiling.");
  sim::Tiling t;
  t.Br = fields.Integer("br", 1, 1024);
  t.Bc = fields.Integer("bc", 1, 1024);
  t.warps = fields.Integer("warps", 1, 32);
  t.stages = fields.Integer("stages", 1, 64);
  t.splits = fields.Integer("splits", 1, 1 << 16);
  t.part_keys = fields.Integer("part_keys", 0, kMostKeys);
  t.pack_gqa = fields.Flag("pack_gqa");
  t.fp32_scores = fields.Flag("fp32_scores");
  fields.RequireNoOthers();
  const std::pair<const char*, int64_t> sizes[] = {{"br", t.Br}, {"bc", t.Bc}};
  for (const auto& [key, value] : sizes) {
    if (value % 16 != 0) throw fields.Wrong(key, value, "a multiple of 16, the depth of a matrix instruction");
  }
  if (t.part_keys % t.Bc != 0) throw fields.Wrong("part_keys", t.part_keys, "a multiple of bc");
  if (t.part_keys > 0 && t.splits > 1) {
    throw fields.Wrong("splits", t.splits, "1, because part_keys says how many parts there are");
  }
  return t;
}

sim::Recipe ParseChoices(const json& object, const std::string& origin) {
  Fields fields(object, origin, "choices.");
  sim::Recipe recipe;
  for (const sim::RecipeField& field : sim::RecipeFields()) {
    const std::string name(field.name);
    const std::string value = fields.Text(name.c_str());
    try {
      sim::SetChoice(recipe, name, value);
    } catch (const data::UsageError&) {
      std::string accepted;
      for (const sim::RecipeValue& one : field.values) accepted.append(accepted.empty() ? "" : ", ").append(one.name);
      throw fields.Wrong(name, value, "one of " + accepted);
    }
  }
  fields.RequireNoOthers();
  return recipe;
}

const sim::Kernel& ParseKernel(Fields& fields) {
  const std::string name = fields.Text("kernel");
  std::string accepted;
  for (const sim::Kernel& kernel : sim::Kernels()) {
    if (kernel.name == name) return kernel;
    accepted.append(accepted.empty() ? "" : ", ").append(kernel.name);
  }
  throw fields.Wrong("kernel", name, "one of " + accepted);
}

std::string ParseArch(Fields& fields) {
  const std::string name = fields.Text("arch");
  std::vector<std::string_view> all;
  for (const sim::TensorCore& core : sim::AllTensorCores()) {
    if (core.arch == name) return name;
    if (std::ranges::find(all, core.arch) == all.end()) all.push_back(core.arch);
  }
  std::string accepted;
  for (const std::string_view arch : all) accepted.append(accepted.empty() ? "" : ", ").append(arch);
  throw fields.Wrong("arch", name, "one of " + accepted);
}

}  // namespace

nlohmann::ordered_json RecipeJson(const RecipeFile& r) {
  nlohmann::ordered_json choices = nlohmann::ordered_json::object();
  for (const sim::RecipeChoice& choice : sim::Describe(r.kernel.recipe)) {
    choices[std::string(choice.field)] = choice.value;
  }
  return {{"schema", kSchema},
          {"name", r.kernel.recipe.name},
          {"kernel", r.kernel.name},
          {"arch", r.arch},
          {"tiling",
           {{"br", r.tiling.Br},
            {"bc", r.tiling.Bc},
            {"warps", r.tiling.warps},
            {"stages", r.tiling.stages},
            {"splits", r.tiling.splits},
            {"part_keys", r.tiling.part_keys},
            {"pack_gqa", r.tiling.pack_gqa},
            {"fp32_scores", r.tiling.fp32_scores}}},
          {"choices", choices}};
}

RecipeFile ParseRecipe(std::string_view text, std::string_view origin_view) {
  const std::string origin(origin_view);
  const json file = data::ParseStrictJson(text, origin);
  Fields fields(file, origin, "");
  if (const json& schema = fields.Required("schema"); schema != kSchema) {
    throw fields.Wrong("schema", schema, std::string("\"") + kSchema + "\"");
  }
  RecipeFile result;
  const std::string name = fields.Text("name");
  if (name.empty() || static_cast<int64_t>(name.size()) > kMostName) {
    throw fields.Wrong("name", name, "1 to " + std::to_string(kMostName) + " bytes");
  }
  result.kernel = ParseKernel(fields);
  result.arch = ParseArch(fields);
  result.tiling = ParseTiling(fields.Required("tiling"), origin);
  result.kernel.recipe = ParseChoices(fields.Required("choices"), origin);
  result.kernel.recipe.name = name;
  fields.RequireNoOthers();
  const sim::Tiling& t = result.tiling;
  const std::string what(result.kernel.name);
  const auto refuse = [&](bool wrong, const char* field) {
    if (wrong) throw InputError(origin + ": tiling." + field + " means nothing to the kernel " + what);
  };
  refuse(t.splits > 1 && !result.kernel.splits_keys, "splits");
  refuse(t.part_keys > 0 && !result.kernel.fixed_parts, "part_keys");
  refuse(t.pack_gqa && !result.kernel.packs_heads, "pack_gqa");
  refuse(t.fp32_scores && !result.kernel.stores_scores, "fp32_scores");
  return result;
}

RecipeFile LoadRecipe(const std::string& path) { return ParseRecipe(data::ReadTextFile(path), path); }

}  // namespace bitflash::verify
