#include "data/model_config.h"

#include <algorithm>
#include <cmath>

#include "data/config_keys.h"
#include "data/embedded.h"
#include "data/error.h"
#include "data/layer_groups.h"
#include "data/model_families.h"
#include "data/strict_json.h"

namespace bitflash::data {

const std::vector<EmbeddedFile>& EmbeddedModels();

namespace {

using nlohmann::json;

// Switches that turn a known model_type into something else.
void RefuseSwitches(ConfigKeys& keys) {
  constexpr struct {
    const char* key;
    const char* meaning;
  } kSwitches[] = {
      {"is_encoder_decoder", "cross-attention"},
      {"add_cross_attention", "cross-attention"},
      {"use_bidirectional_attention", "attention to later tokens"},
      {"alibi", "position-dependent biases on the scores (ALiBi)"},
      {"scale_attn_by_inverse_layer_idx", "a scale of its own in every layer"},
      {"index_topk", "a choice of keys by content (sparse attention)"},
  };
  for (const auto& [key, meaning] : kSwitches) {
    if (!keys.Has(key)) continue;
    const json* value = keys.Find(key);
    if (value && *value != false && *value != 0) {
      throw keys.Undecided(std::string(key) + " is set, which means " + meaning + " (not modelled)");
    }
  }
}

// The format of the activations: Hugging Face's torch_dtype, lately dtype.
std::optional<Format> ReadFormat(ConfigKeys& keys) {
  for (const char* key : {"dtype", "torch_dtype"}) {
    const std::optional<std::string> name = keys.Text(key);
    if (!name || *name == "auto") continue;
    if (*name == "bfloat16") return Format::kBf16;
    if (*name == "float16") return Format::kFp16;
    if (*name == "float32") return Format::kFp32;
    throw keys.Wrong(key, "bfloat16, float16, float32 or auto");
  }
  return {};
}

}  // namespace

Model ParseModelConfig(std::string_view text, std::string_view origin) {
  const json file = ParseStrictJson(text, origin);
  if (!file.is_object()) {
    throw InputError(std::string(origin) + ": is " + DescribeJson(file) + ": expected an object, as in config.json");
  }
  Model model{.name = std::string(origin)};
  ConfigKeys outer(file, model.name, "", model);
  const std::optional<std::string> outer_type = outer.Text("model_type");
  if (!outer_type) throw outer.Missing("model_type", "one of " + FamilyNames());
  const Family* family = &FindFamily(*outer_type, origin);
  RefuseSwitches(outer);

  const bool nested = family->layout == Layout::kNested;
  const json* object = nested ? outer.Object("text_config") : &file;
  if (!object) throw outer.Missing("text_config", "the language model's object");
  ConfigKeys keys(*object, model.name, nested ? "text_config." : "", model);
  if (nested) {
    const char* by_default = *outer_type == "gemma3" ? "gemma3_text" : "mistral";
    family = &FindFamily(keys.Text("model_type").value_or(by_default), origin);
    if (family->layout == Layout::kNested) throw keys.Wrong("model_type", "a language model's");
    RefuseSwitches(keys);
    keys.NotModelled("the vision encoder, and image tokens that see each other in both directions");
  }

  model.groups = LayerGroups(keys, *family);
  const char* positions = family->layout == Layout::kGpt2 ? "n_positions" : "max_position_embeddings";
  model.max_seqlen = keys.Integer(positions, kMostPositions).value_or(0);

  std::optional<Format> format = ReadFormat(keys);
  if (!format && nested) format = ReadFormat(outer);
  if (!format) keys.Assume("format = bf16: the configuration states no dtype");
  model.format = format.value_or(Format::kBf16);

  // "_title" is ours, in the files that are built in; _name_or_path is Hugging Face's, and often an author's folder.
  const auto title = file.find("_title");
  model.title = title != file.end() && title->is_string() ? title->get<std::string>() : *outer_type + " model";
  return model;
}

std::vector<std::string> ModelNames() {
  std::vector<std::string> names;
  for (const EmbeddedFile& file : EmbeddedModels()) names.emplace_back(file.name.substr(0, file.name.rfind('.')));
  std::ranges::sort(names);
  return names;
}

Model LoadModel(std::string_view name_or_file) {
  const std::string name(name_or_file);
  if (NamesAFile(name)) return ParseModelConfig(ReadTextFile(name), name);
  for (const EmbeddedFile& file : EmbeddedModels()) {
    if (file.name == name + ".json") return ParseModelConfig(file.bytes, name);
  }
  std::string accepted;
  for (const std::string& known : ModelNames()) accepted += known + ", ";
  throw UsageError("model " + DescribeJson(name) + " is not known: expected " + accepted +
                   "or the path of a config.json");
}

Attention ToAttention(const Model& model, const LayerGroup& group, Phase phase, int64_t batch, int64_t seqlen) {
  Attention attention;
  attention.batch = batch;
  attention.heads_q = group.heads_q;
  attention.heads_kv = group.heads_kv;
  attention.seqlen_q = phase == Phase::kDecode ? 1 : seqlen;
  attention.seqlen_k = seqlen;
  attention.head_dim = group.head_dim;
  attention.head_dim_v = group.head_dim_v;
  // Hugging Face's window counts the query itself; FlashAttention's left side does not.
  attention.mask = group.window ? Mask::Window(*group.window - 1, 0) : Mask::Causal();
  attention.softmax_scale = group.softmax_scale;
  attention.softcap = group.softcap;
  attention.format = model.format;
  if (phase == Phase::kDecode && group.latent_dim > 0) {
    attention.heads_kv = 1;
    attention.head_dim = group.latent_dim;
    attention.head_dim_v = group.latent_dim_v;
    attention.v_is_in_k = true;
    // Absorbing the weights does not change the scores, so the scale stays that of the expanded head.
    if (!attention.softmax_scale) attention.softmax_scale = 1 / std::sqrt(static_cast<double>(group.head_dim));
  }
  Validate(attention);
  return attention;
}

}  // namespace bitflash::data
