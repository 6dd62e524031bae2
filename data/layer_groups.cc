#include "data/layer_groups.h"

#include <cassert>
#include <cmath>

namespace bitflash::data {
namespace {

using nlohmann::json;

std::string KeysOfWindow(int64_t keys) { return "sliding window " + std::to_string(keys); }

// numerator / heads, which must be exact.
int64_t DerivedHeadDim(ConfigKeys& keys, const char* numerator, int64_t columns, const char* denominator,
                       int64_t heads) {
  if (columns % heads != 0) {
    throw keys.Wrong(numerator, std::string("a multiple of ") + denominator + ", which is " + std::to_string(heads));
  }
  keys.Assume(std::string("head_dim = ") + numerator + " / " + denominator + " = " + std::to_string(columns / heads));
  return columns / heads;
}

int64_t HeadDim(ConfigKeys& keys, const Family& family, int64_t heads) {
  if (const auto head_dim = keys.Integer("head_dim", kMostHeads)) return *head_dim;
  if (family.head_dim > 0 && !keys.Has("head_dim")) {
    keys.Assume("head_dim = " + std::to_string(family.head_dim) + ", the default of " + std::string(family.model_type));
    return family.head_dim;
  }
  return DerivedHeadDim(keys, "hidden_size", keys.Required("hidden_size", kMostColumns), "num_attention_heads", heads);
}

int64_t HeadsKv(ConfigKeys& keys, const Family& family, int64_t heads) {
  int64_t heads_kv = heads;
  if (const auto stated = keys.Integer("num_key_value_heads", kMostHeads)) {
    heads_kv = *stated;
  } else if (family.heads_kv > 0 && !keys.Has("num_key_value_heads")) {
    heads_kv = family.heads_kv;
    keys.Assume("num_key_value_heads = " + std::to_string(heads_kv) + ", the default of " +
                std::string(family.model_type));
  } else {
    keys.Assume("num_key_value_heads = num_attention_heads = " + std::to_string(heads));
  }
  if (heads % heads_kv != 0) {
    throw InputError(keys.origin() + ": num_attention_heads is " + std::to_string(heads) +
                     ": expected a multiple of num_key_value_heads, which is " + std::to_string(heads_kv));
  }
  return heads_kv;
}

int64_t Defaulted(ConfigKeys& keys, const Family& family, const char* key, int64_t most, int64_t by_default) {
  if (by_default == 0 || keys.Has(key)) return keys.Required(key, most);
  keys.Assume(std::string(key) + " = " + std::to_string(by_default) + ", the default of " +
              std::string(family.model_type));
  return by_default;
}

// The value of sliding_window; empty: no layer has a window.
std::optional<int64_t> WindowKeys(ConfigKeys& keys, const Family& family) {
  const bool flagged = family.window == WindowRule::kFlagEveryLayer || family.window == WindowRule::kFlagFromLayer;
  if (flagged && !keys.Flag("use_sliding_window", false)) {
    keys.Assume("no sliding window: use_sliding_window is not true");
    return {};
  }
  if (keys.Has("sliding_window") || !family.window_keys) return keys.Integer("sliding_window", kMostPositions);
  keys.Assume("sliding_window = " + std::to_string(*family.window_keys) + ", the default of " +
              std::string(family.model_type));
  return family.window_keys;
}

// The window of each layer from the list that newer files carry.
std::vector<bool> ListedWindows(ConfigKeys& keys, int64_t layers) {
  const json& list = *keys.Find("layer_types");
  if (!list.is_array() || list.size() != static_cast<size_t>(layers)) {
    throw keys.Wrong("layer_types", "a list of num_hidden_layers = " + std::to_string(layers) + " strings");
  }
  std::vector<bool> sliding;
  for (const json& type : list) {
    if (type != "full_attention" && type != "sliding_attention") {
      if (!type.is_string()) throw keys.Wrong("layer_types", "a list of strings");
      throw keys.Undecided("layer_types contains " + DescribeJson(type) + " (not modelled; full_attention and " +
                           "sliding_attention are)");
    }
    sliding.push_back(type == "sliding_attention");
  }
  return sliding;
}

// Which layers see only a window, by the rule of the family.
std::vector<bool> RuledWindows(ConfigKeys& keys, const Family& family, int64_t layers) {
  std::vector<bool> sliding(static_cast<size_t>(layers), false);
  int64_t first = 0;    // layers before it see everything
  int64_t pattern = 0;  // every pattern-th layer sees everything; 0: none does
  switch (family.window) {
    case WindowRule::kNone:
      return sliding;
    case WindowRule::kEveryLayer:
    case WindowRule::kFlagEveryLayer:
      break;
    case WindowRule::kFlagFromLayer: {
      // Zero is a legal number here: every layer slides.
      const json* from = keys.Find("max_window_layers");
      if (from && !(from->is_number_integer() && *from >= 0 && *from <= kMostLayers)) {
        throw keys.Wrong("max_window_layers", "an integer from 0 to " + std::to_string(kMostLayers));
      }
      if (!from) keys.Assume("max_window_layers = 28, the default of " + std::string(family.model_type));
      first = from ? from->get<int64_t>() : 28;
      break;
    }
    case WindowRule::kEvenLayers:
      keys.Assume("layers 0, 2, 4, ... have the window, as in every " + std::string(family.model_type));
      pattern = 2;
      break;
    case WindowRule::kPattern: {
      auto stated = keys.Integer("sliding_window_pattern", kMostLayers);
      if (!stated) stated = keys.Integer("_sliding_window_pattern", kMostLayers);
      if (!stated) keys.Assume("sliding_window_pattern = 6, the default of " + std::string(family.model_type));
      pattern = stated.value_or(6);
      break;
    }
  }
  for (int64_t i = first; i < layers; ++i) sliding[static_cast<size_t>(i)] = pattern == 0 || (i + 1) % pattern != 0;
  return sliding;
}

// `common` for the layers that see everything and for those with a window, in the order in which they first occur.
std::vector<LayerGroup> GroupLayers(ConfigKeys& keys, const Family& family, const LayerGroup& common) {
  const bool listed = keys.Find("layer_types") != nullptr;
  const std::optional<int64_t> window =
      listed || family.window != WindowRule::kNone ? WindowKeys(keys, family) : std::nullopt;
  if (!listed && family.window == WindowRule::kNone && keys.Find("sliding_window")) {
    keys.Assume("no sliding window: " + std::string(family.model_type) + " does not use the key sliding_window");
  }
  std::vector<bool> sliding(static_cast<size_t>(common.layers), false);
  if (listed) {
    sliding = ListedWindows(keys, common.layers);
  } else if (window) {
    sliding = RuledWindows(keys, family, common.layers);
  }
  std::vector<LayerGroup> groups;
  for (const bool slides : sliding) {
    if (slides && !window) {
      throw InputError(keys.origin() + ": layer_types contains sliding_attention: expected a sliding_window in use");
    }
    const std::string name = slides ? KeysOfWindow(*window) : "global";
    if (groups.empty() || (groups.front().name != name && groups.back().name != name)) {
      groups.push_back(common);
      groups.back().name = name;
      groups.back().layers = 0;
      if (slides) groups.back().window = window;
    }
    ++(groups.front().name == name ? groups.front() : groups.back()).layers;
  }
  return groups;
}

std::vector<LayerGroup> StandardGroups(ConfigKeys& keys, const Family& family) {
  LayerGroup group;
  group.layers = Defaulted(keys, family, "num_hidden_layers", kMostLayers, family.layers);
  group.heads_q = Defaulted(keys, family, "num_attention_heads", kMostHeads, family.heads);
  group.heads_kv = HeadsKv(keys, family, group.heads_q);
  group.head_dim = group.head_dim_v = HeadDim(keys, family, group.heads_q);
  if (family.scale == ScaleRule::kQueryPreAttnScalar) {
    const std::optional<double> scalar = keys.Number("query_pre_attn_scalar");
    if (!scalar) keys.Assume("query_pre_attn_scalar = 256, the default of " + std::string(family.model_type));
    group.softmax_scale = 1 / std::sqrt(scalar.value_or(256));
    // Absent means the default, null means none.
    group.softcap = keys.Number("attn_logit_softcapping").value_or(0);
    if (family.softcap && !keys.Has("attn_logit_softcapping")) {
      group.softcap = *family.softcap;
      keys.Assume("attn_logit_softcapping = " + std::to_string(static_cast<int>(group.softcap)) + ", the default of " +
                  std::string(family.model_type));
    }
  } else if (family.scale == ScaleRule::kMultiplier) {
    const std::optional<double> multiplier = keys.Number("attention_multiplier");
    if (!multiplier) keys.Assume("attention_multiplier = 1, the default of " + std::string(family.model_type));
    group.softmax_scale = multiplier.value_or(1);
  }
  return GroupLayers(keys, family, group);
}

std::vector<LayerGroup> Gpt2Groups(ConfigKeys& keys) {
  LayerGroup group{.name = "global"};
  group.layers = keys.Required("n_layer", kMostLayers);
  group.heads_q = group.heads_kv = keys.Required("n_head", kMostHeads);
  group.head_dim = group.head_dim_v =
      DerivedHeadDim(keys, "n_embd", keys.Required("n_embd", kMostColumns), "n_head", group.heads_q);
  if (!keys.Flag("scale_attn_weights", true)) group.softmax_scale = 1;
  return {group};
}

// YaRN stretches the context and, in DeepSeek's modelling files, multiplies the scale by
// (0.1 mscale_all_dim ln(factor) + 1)^2 (YaRN, arXiv 2309.00071, section 3.4, gives the form).
double YarnScale(ConfigKeys& keys) {
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const json* rope = keys.Object(key);
    if (!rope || !rope->contains("mscale_all_dim")) continue;
    const auto number = [&](const char* name) {
      const json value = rope->value(name, json());
      const double read = value.is_number() ? value.get<double>() : -1;
      if (!(read >= 0 && read <= 1e6)) {
        throw InputError(keys.origin() + ": " + key + "." + name + " is " + DescribeJson(value) +
                         ": expected a number from 0 to 1e6");
      }
      return read;
    };
    const double factor = number("factor");
    const double mscale = number("mscale_all_dim");
    if (factor <= 1) return 1;
    const double stretch = 0.1 * mscale * std::log(factor) + 1;
    keys.Assume("softmax_scale = (0.1 mscale_all_dim ln(factor) + 1)^2 / sqrt(qk_nope_head_dim + qk_rope_head_dim)");
    return stretch * stretch;
  }
  return 1;
}

std::vector<LayerGroup> LatentGroups(ConfigKeys& keys) {
  LayerGroup group{.name = "latent"};
  group.layers = keys.Required("num_hidden_layers", kMostLayers);
  group.heads_q = group.heads_kv = keys.Required("num_attention_heads", kMostHeads);
  const int64_t rope = keys.Required("qk_rope_head_dim", kMostHeads);
  group.head_dim = keys.Required("qk_nope_head_dim", kMostHeads) + rope;
  group.head_dim_v = keys.Required("v_head_dim", kMostHeads);
  group.latent_dim_v = keys.Required("kv_lora_rank", kMostHeads);
  group.latent_dim = group.latent_dim_v + rope;
  group.softmax_scale = YarnScale(keys) / std::sqrt(static_cast<double>(group.head_dim));
  keys.Assume("prefill: multi-head attention on expanded K and V, head_dim = qk_nope_head_dim + qk_rope_head_dim = " +
              std::to_string(group.head_dim) + ", head_dim_v = v_head_dim = " + std::to_string(group.head_dim_v));
  keys.Assume("decode: absorbed weights on one KV head of kv_lora_rank + qk_rope_head_dim = " +
              std::to_string(group.latent_dim) + " columns, of which the first " + std::to_string(group.latent_dim_v) +
              " are V");
  keys.NotModelled(
      "the projections into and out of the latent space (expanding K and V in prefill, absorbing them into Q and O in "
      "decode) are matrix multiplications outside the attention kernel");
  keys.NotModelled("prefill: the rotary part of K, one head that all share, is counted as stored per head");
  keys.NotModelled("caches that store the latent part in another format than the rotary part");
  return {group};
}

}  // namespace

std::vector<LayerGroup> LayerGroups(ConfigKeys& keys, const Family& family) {
  switch (family.layout) {
    case Layout::kStandard:
      return StandardGroups(keys, family);
    case Layout::kGpt2:
      return Gpt2Groups(keys);
    case Layout::kLatent:
      return LatentGroups(keys);
    case Layout::kNested:
      break;
  }
  assert(false && "the caller passes the language model inside");
  return {};
}

}  // namespace bitflash::data
