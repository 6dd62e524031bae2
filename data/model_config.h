// The attention problem inside a language model: read from a Hugging Face config.json or from the built-in facts.
#ifndef BITFLASH_DATA_MODEL_CONFIG_H_
#define BITFLASH_DATA_MODEL_CONFIG_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/attention.h"

namespace bitflash::data {

enum class Phase : uint8_t { kPrefill, kDecode };

// Layers of a model whose attention has the same shape.
struct LayerGroup {
  std::string name;  // "global", "sliding window 4096", "latent"
  int64_t layers = 0;
  int64_t heads_q = 0;
  int64_t heads_kv = 0;
  int64_t head_dim = 0;
  int64_t head_dim_v = 0;
  std::optional<int64_t> window;        // keys a query sees, itself included (Hugging Face's sliding_window)
  std::optional<double> softmax_scale;  // empty: 1 / sqrt(head_dim)
  double softcap = 0;
  // Latent attention: decode runs on the compressed cache with absorbed weights, one KV head of `latent_dim` columns of
  // which the first `latent_dim_v` are V. Zero elsewhere.
  int64_t latent_dim = 0;
  int64_t latent_dim_v = 0;
};

struct Model {
  std::string name;   // "llama-3-8b", or the file's path
  std::string title;  // "Llama 3 8B"
  Format format = Format::kBf16;
  int64_t max_seqlen = 0;            // positions; 0 when the configuration does not say
  std::vector<LayerGroup> groups;    // at least one; the largest share of layers is not necessarily first
  std::vector<std::string> read;     // "num_attention_heads = 32": what the configuration said
  std::vector<std::string> assumed;  // "head_dim = hidden_size / num_attention_heads = 128": what was derived, and why
  std::vector<std::string> not_modelled;  // "the vision encoder, ...": what the numbers leave out, said to the user
};

// Names of the models that are built in, sorted.
std::vector<std::string> ModelNames();

// A built-in model by name, or one read from a file when `name_or_file` ends in ".json" or contains a '/'.
// Throws UsageError (unknown name), InputError (file), UndecidedError (an attention type that is not modelled).
Model LoadModel(std::string_view name_or_file);

// One model from a config.json text; `origin` is what errors call it. Throws InputError, UndecidedError.
Model ParseModelConfig(std::string_view json, std::string_view origin);

// The problem of one layer of `group`. Prefill: seqlen queries against seqlen keys. Decode: one query per sequence
// against seqlen keys (the new token's key included). Causal, or the group's window; format of the model.
Attention ToAttention(const Model& model, const LayerGroup& group, Phase phase, int64_t batch, int64_t seqlen);

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_MODEL_CONFIG_H_
