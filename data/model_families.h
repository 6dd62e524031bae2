// How each model_type of Hugging Face's config.json means its keys: defaults, windows and scale.
#ifndef BITFLASH_DATA_MODEL_FAMILIES_H_
#define BITFLASH_DATA_MODEL_FAMILIES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace bitflash::data {

// Which keys describe the attention.
enum class Layout : uint8_t {
  kStandard,  // num_attention_heads, num_key_value_heads, head_dim or hidden_size
  kGpt2,      // n_layer, n_head, n_embd, n_positions
  kLatent,    // kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim, v_head_dim
  kNested,    // text_config holds the language model
};

// Which layers the key sliding_window applies to, when layer_types does not list them.
enum class WindowRule : uint8_t {
  kNone,            // the model has no such key
  kEveryLayer,      // every layer, unless null
  kFlagEveryLayer,  // every layer, if use_sliding_window is true
  kFlagFromLayer,   // layers from max_window_layers on, if use_sliding_window is true
  kEvenLayers,      // layers 0, 2, 4, ...
  kPattern,         // all but every sliding_window_pattern-th layer
};

enum class ScaleRule : uint8_t {
  kHeadDim,             // 1 / sqrt(head_dim)
  kQueryPreAttnScalar,  // 1 / sqrt(query_pre_attn_scalar)
  kMultiplier,          // attention_multiplier
};

// Defaults are those of the configuration class in transformers: they apply when a key is absent. Keys of nested
// configurations are absent whenever they equal the default, because saving one drops them.
struct Family {
  std::string_view model_type;
  Layout layout = Layout::kStandard;
  WindowRule window = WindowRule::kNone;
  ScaleRule scale = ScaleRule::kHeadDim;
  int64_t heads_kv = 0;                // 0: num_attention_heads
  int64_t head_dim = 0;                // 0: hidden_size / num_attention_heads
  std::optional<int64_t> window_keys;  // sliding_window
  std::optional<double> softcap;       // attn_logit_softcapping; empty: the model has no such key, or none by default
  int64_t layers = 0;                  // 0: the file must say
  int64_t heads = 0;                   // 0: the file must say
};

// The family of that model_type. Throws UndecidedError, which begins with `origin`, names the model_type, says why it
// is not modelled and lists those that are.
const Family& FindFamily(std::string_view model_type, std::string_view origin);

// "llama, mistral, ...".
std::string FamilyNames();

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_MODEL_FAMILIES_H_
