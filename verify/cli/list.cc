// bitflash list: what is built in.
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "data/convert.h"
#include "data/distribution.h"
#include "data/error.h"
#include "data/gpu.h"
#include "data/model_config.h"
#include "sim/kernels/kernels.h"
#include "verify/cli/commands.h"
#include "verify/cli/output.h"
#include "verify/cli/suggest.h"
#include "verify/cli/table.h"
#include "verify/cli/units.h"
#include "verify/diagnose/faults.h"
#include "verify/subjects/cpu_kernel.h"

namespace bitflash::verify {
namespace {

struct Listing {
  Json json = Json::array();
  Table table;
};

std::vector<std::string> FormatNames(const std::vector<data::Format>& formats) {
  std::vector<std::string> names;
  for (const data::Format format : formats) names.emplace_back(Name(format));
  return names;
}

// Rows of a table of two columns: the name, and text that is broken to lines beside it.
void AddParagraph(Table& table, std::string name, std::string_view text) {
  constexpr int kTextWidth = 96;
  std::istringstream lines(Wrap(text, kTextWidth));
  for (std::string line; std::getline(lines, line); name.clear()) table.Row({name, line});
}

Listing Gpus() {
  Listing list{.table = Table({{"gpu"},
                               {"title"},
                               {"arch"},
                               {"SMs", Align::kRight},
                               {"HBM", Align::kRight},
                               {"bandwidth", Align::kRight},
                               {"L2", Align::kRight},
                               {"shared/SM", Align::kRight},
                               {"16-bit matrix", Align::kRight}})};
  for (const std::string& name : data::GpuNames()) {
    const data::Gpu gpu = data::LoadGpu(name);
    Json sources = Json::object();
    for (const auto& [field, source] : gpu.sources) {
      sources[field] = {{"source", source.source}, {"checked_by", source.checked_by}};
    }
    list.json.push_back({{"name", gpu.name},
                         {"title", gpu.title},
                         {"arch", gpu.arch},
                         {"sms", gpu.sms},
                         {"hbm_bytes", gpu.hbm_bytes},
                         {"hbm_bytes_per_second", gpu.hbm_bytes_per_second},
                         {"l2_bytes", gpu.l2_bytes},
                         {"shared_bytes_per_sm", gpu.shared_bytes_per_sm},
                         {"tensor_16bit_flops", gpu.tensor_16bit_flops},
                         {"sources", sources}});
    list.table.Row({gpu.name, gpu.title, gpu.arch, Grouped(gpu.sms), Bytes(gpu.hbm_bytes),
                    BytesPerSecond(gpu.hbm_bytes_per_second), Bytes(gpu.l2_bytes), Bytes(gpu.shared_bytes_per_sm),
                    FlopPerSecond(gpu.tensor_16bit_flops)});
  }
  return list;
}

Listing Models() {
  Listing list{.table = Table({{"model"},
                               {"title"},
                               {"dtype"},
                               {"positions", Align::kRight},
                               {"layers", Align::kRight},
                               {"heads", Align::kRight},
                               {"head_dim", Align::kRight},
                               {"attention"}})};
  for (const std::string& name : data::ModelNames()) {
    const data::Model model = data::LoadModel(name);
    Json groups = Json::array();
    bool first = true;
    for (const data::LayerGroup& group : model.groups) {
      groups.push_back({{"name", group.name},
                        {"layers", group.layers},
                        {"heads_q", group.heads_q},
                        {"heads_kv", group.heads_kv},
                        {"head_dim", group.head_dim},
                        {"head_dim_v", group.head_dim_v},
                        {"window", group.window ? Json(*group.window) : Json(nullptr)},
                        {"softcap", group.softcap},
                        {"latent_dim", group.latent_dim}});
      const std::string dims = group.head_dim == group.head_dim_v
                                   ? fmt::format("{}", group.head_dim)
                                   : fmt::format("{}/{}", group.head_dim, group.head_dim_v);
      list.table.Row({first ? model.name : "", first ? model.title : "", first ? std::string(Name(model.format)) : "",
                      first && model.max_seqlen > 0 ? Grouped(model.max_seqlen) : "", Grouped(group.layers),
                      fmt::format("{}/{}", group.heads_q, group.heads_kv), dims, group.name});
      first = false;
    }
    list.json.push_back({{"name", model.name},
                         {"title", model.title},
                         {"dtype", Name(model.format)},
                         {"max_seqlen", model.max_seqlen},
                         {"groups", groups},
                         {"assumed", model.assumed},
                         {"not_modelled", model.not_modelled}});
  }
  return list;
}

Listing Kernels() {
  Listing list{.table = Table({{"kernel"}, {""}})};
  for (const sim::Kernel& kernel : sim::Kernels()) {
    const std::string arch = fmt::format("sm{}", kernel.min_arch);
    list.json.push_back({{"name", kernel.name},
                         {"title", kernel.title},
                         {"min_arch", arch},
                         {"formats", FormatNames(kernel.formats)},
                         {"recipe", kernel.recipe.name},
                         {"summary", kernel.summary},
                         {"source", kernel.source}});
    list.table.Row({std::string(kernel.name), std::string(kernel.title)});
    list.table.Row(
        {"", fmt::format("{} or newer; {}; recipe {}", arch, Join(FormatNames(kernel.formats)), kernel.recipe.name)});
    AddParagraph(list.table, "", kernel.summary);
    list.table.Row({"", std::string(kernel.source)});
  }
  return list;
}

// Kernels of the CPU: their own list in JSON, since they have no recipe and no architecture.
Listing CpuKernelList() {
  Listing list{.table = Table({{"kernel"}, {"on the CPU, not simulated"}})};
  for (const CpuKernel& kernel : CpuKernels()) {
    const std::string unavailable = kernel.unavailable();
    list.json.push_back({{"name", kernel.name},
                         {"title", kernel.title},
                         {"formats", FormatNames(kernel.formats)},
                         {"summary", kernel.summary},
                         {"source", kernel.source},
                         {"unavailable", unavailable.empty() ? Json(nullptr) : Json(unavailable)}});
    list.table.Row({std::string(kernel.name), std::string(kernel.title)});
    list.table.Row({"", fmt::format("the CPU of this machine; {}", Join(FormatNames(kernel.formats)))});
    if (!unavailable.empty()) list.table.Row({"", "not here: " + unavailable});
    AddParagraph(list.table, "", kernel.summary);
    list.table.Row({"", std::string(kernel.source)});
  }
  return list;
}

// Every recipe once, with the kernels that follow it.
Listing Recipes() {
  Listing list{.table = Table({{"recipe"}, {"choice"}, {"value"}, {""}})};
  std::vector<const sim::Recipe*> seen;
  for (const sim::Kernel& first : sim::Kernels()) {
    const sim::Recipe& recipe = first.recipe;
    const auto same = [&](const sim::Recipe* other) { return *other == recipe; };
    if (std::any_of(seen.begin(), seen.end(), same)) continue;
    seen.push_back(&recipe);
    std::vector<std::string> kernels;
    for (const sim::Kernel& kernel : sim::Kernels()) {
      if (kernel.recipe == recipe) kernels.emplace_back(kernel.name);
    }
    Json choices = Json::array();
    list.table.Row({std::string(recipe.name), "kernels", Join(kernels)});
    for (const sim::RecipeChoice& choice : sim::Describe(recipe)) {
      choices.push_back({{"field", choice.field}, {"value", choice.value}, {"meaning", choice.meaning}});
      list.table.Row({"", std::string(choice.field), std::string(choice.value), std::string(choice.meaning)});
    }
    list.json.push_back({{"name", recipe.name}, {"kernels", kernels}, {"choices", choices}});
  }
  return list;
}

Listing Formats() {
  Listing list{.table = Table({{"format"},
                               {"bytes", Align::kRight},
                               {"exponent", Align::kRight},
                               {"fraction", Align::kRight},
                               {"bias", Align::kRight},
                               {"infinity"},
                               {"largest", Align::kRight}})};
  for (const data::Format format : data::AllFormats()) {
    const data::FormatInfo& info = data::Info(format);
    const double largest = format == data::Format::kFp64 ? std::numeric_limits<double>::max()
                                                         : double{data::Decode(format, data::MaxFinite(format))};
    list.json.push_back({{"name", info.name},
                         {"storage_bytes", data::StorageBytes(format)},
                         {"exponent_bits", info.exponent_bits},
                         {"fraction_bits", info.fraction_bits},
                         {"bias", info.bias},
                         {"has_infinity", info.has_infinity},
                         {"max_finite", largest}});
    list.table.Row({std::string(info.name), fmt::format("{}", data::StorageBytes(format)),
                    fmt::format("{}", info.exponent_bits), fmt::format("{}", info.fraction_bits),
                    fmt::format("{}", info.bias), info.has_infinity ? "yes" : "no", fmt::format("{:.6g}", largest)});
  }
  return list;
}

Listing Masks() {
  // data/mask.h defines them; query i of seqlen_q, key j of seqlen_k, o = seqlen_k - seqlen_q.
  constexpr std::pair<const char*, const char*> kMasks[] = {
      {"full", "every query sees every key"},
      {"causal", "j <= i + o with o = seqlen_k - seqlen_q: the last query sees every key (bottom-right)"},
      {"causal-top-left", "j <= i: the first query sees one key"},
      {"window(LEFT,RIGHT)", "i + o - LEFT <= j <= i + o + RIGHT; -1 on a side does not limit it"}};
  Listing list{.table = Table({{"mask"}, {"query i sees key j when"}})};
  for (const auto& [form, meaning] : kMasks) {
    list.json.push_back({{"form", form}, {"meaning", meaning}});
    list.table.Row({form, meaning});
  }
  return list;
}

Listing Distributions() {
  Listing list{.table = Table({{"distribution"}, {"what it looks like"}})};
  for (const data::DistributionInfo& info : data::AllDistributions()) {
    list.json.push_back({{"name", info.name}, {"description", info.description}});
    AddParagraph(list.table, std::string(info.name), info.description);
  }
  return list;
}

Listing FaultList() {
  Listing list{.table = Table({{"fault"}, {"code"}, {"family"}, {"mistake"}})};
  for (const Fault& fault : Faults()) {
    list.json.push_back({{"id", fault.id},
                         {"code", fault.code},
                         {"family", Name(fault.family)},
                         {"mistake", fault.mistake},
                         {"reading", fault.reading},
                         {"seen_in", fault.seen_in.empty() ? Json(nullptr) : Json(fault.seen_in)}});
    constexpr int kMistakeWidth = 72;
    std::istringstream lines(Wrap(fault.mistake, kMistakeWidth));
    std::vector<std::string> cells = {std::string(fault.id), std::string(fault.code), std::string(Name(fault.family))};
    for (std::string line; std::getline(lines, line); cells = {"", "", ""}) {
      cells.push_back(line);
      list.table.Row(cells);
    }
  }
  return list;
}

struct Topic {
  std::string name;
  Listing (*make)();
  // A second table, and its name in JSON.
  const char* more_name = nullptr;
  Listing (*more)() = nullptr;
};

const std::vector<Topic>& Topics() {
  static const std::vector<Topic> topics = {{"gpus", Gpus},
                                            {"models", Models},
                                            {"kernels", Kernels, "cpu_kernels", CpuKernelList},
                                            {"recipes", Recipes},
                                            {"formats", Formats},
                                            {"masks", Masks},
                                            {"distributions", Distributions},
                                            {"faults", FaultList}};
  return topics;
}

}  // namespace

ExitCode List(const Arguments& arguments) {
  std::vector<std::string> names;
  for (const Topic& topic : Topics()) names.push_back(topic.name);
  CommandLine line("list", "Lists what is built in; without a topic, everything.",
                   {{"bitflash list gpus", "what --gpu takes"},
                    {"bitflash list models --json", "what --model takes, with every layer group"},
                    {"bitflash list faults", "mistakes of attention kernels that can be simulated"}});
  std::optional<std::string> topic_name;
  OutputFlags flags;
  line.AddPositional("TOPIC", topic_name, Join(names));
  line.Group("Output");
  AddOutputFlags(line, flags);
  line.Parse(arguments);

  Output output("list", flags);
  if (topic_name && std::find(names.begin(), names.end(), *topic_name) == names.end()) {
    throw data::UsageError(UnknownName("topic", Printable(*topic_name), names));
  }
  Json json = {{"schema", "bitflash.list/1"}, {"version", BITFLASH_VERSION}};
  std::string text;
  for (const Topic& topic : Topics()) {
    if (topic_name && topic.name != *topic_name) continue;
    const Listing listing = topic.make();
    json[topic.name] = listing.json;
    if (!text.empty()) text += "\n";
    text += listing.table.ToString(output.color());
    if (topic.more == nullptr) continue;
    const Listing more = topic.more();
    json[topic.more_name] = more.json;
    text += "\n" + more.table.ToString(output.color());
  }
  if (output.wants_json()) output.JsonResult(json);
  output.Text(text);
  output.Finish();
  return ExitCode::kPass;
}

}  // namespace bitflash::verify
