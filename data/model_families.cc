#include "data/model_families.h"

#include <algorithm>
#include <vector>

#include "data/error.h"
#include "data/strict_json.h"

namespace bitflash::data {
namespace {

// Source of every row: src/transformers/models/<model_type>/configuration_*.py and modeling_*.py of Hugging Face's
// transformers, 4.5x; latent attention: the modelling files that DeepSeek publishes with the weights.
const std::vector<Family>& Families() {
  static const std::vector<Family> families = {
      {.model_type = "llama"},
      {.model_type = "mistral", .window = WindowRule::kEveryLayer, .heads_kv = 8, .window_keys = 4096},
      {.model_type = "mistral3", .layout = Layout::kNested},
      {.model_type = "mixtral", .window = WindowRule::kEveryLayer, .heads_kv = 8},
      {.model_type = "qwen2", .window = WindowRule::kFlagFromLayer, .heads_kv = 32, .window_keys = 4096},
      {.model_type = "qwen3",
       .window = WindowRule::kFlagFromLayer,
       .heads_kv = 32,
       .head_dim = 128,
       .window_keys = 4096},
      {.model_type = "qwen3_moe", .window = WindowRule::kFlagEveryLayer, .heads_kv = 4, .window_keys = 4096},
      {.model_type = "gemma", .heads_kv = 16, .head_dim = 256},
      {.model_type = "gemma2",
       .window = WindowRule::kEvenLayers,
       .scale = ScaleRule::kQueryPreAttnScalar,
       .heads_kv = 4,
       .head_dim = 256,
       .window_keys = 4096,
       .softcap = 50},
      {.model_type = "gemma3", .layout = Layout::kNested},
      {.model_type = "gemma3_text",
       .window = WindowRule::kPattern,
       .scale = ScaleRule::kQueryPreAttnScalar,
       .heads_kv = 4,
       .head_dim = 256,
       .window_keys = 4096,
       .layers = 26,
       .heads = 8},
      {.model_type = "gpt2", .layout = Layout::kGpt2},
      {.model_type = "gpt_neox"},
      {.model_type = "phi"},
      {.model_type = "phi3", .window = WindowRule::kEveryLayer},
      {.model_type = "olmo"},
      {.model_type = "olmo2"},
      {.model_type = "granite", .scale = ScaleRule::kMultiplier},
      {.model_type = "starcoder2", .window = WindowRule::kEveryLayer, .heads_kv = 2},
      {.model_type = "deepseek_v2", .layout = Layout::kLatent},
      {.model_type = "deepseek_v3", .layout = Layout::kLatent},
      {.model_type = "kimi_k2", .layout = Layout::kLatent},
  };
  return families;
}

struct Refusal {
  std::string_view model_types;  // separated by spaces
  std::string_view reason;
};

constexpr Refusal kRefusals[] = {
    {"mamba mamba2 falcon_mamba rwkv rwkv5 retnet", "has no attention: its layers are recurrent"},
    {"jamba bamba zamba zamba2 falcon_h1 nemotron_h recurrent_gemma granitemoehybrid lfm2 qwen3_next kimi_linear "
     "minimax minimax_text_01",
     "mixes attention with recurrent or linear-attention layers"},
    {"t5 mt5 umt5 bart mbart pegasus marian m2m_100 whisper encoder-decoder vision-encoder-decoder mllama",
     "has cross-attention, where queries and keys come from different sequences"},
    {"bert roberta distilbert electra deberta deberta-v2 modernbert xlm-roberta",
     "is an encoder: every token sees every token and there is no decoding"},
    {"llama4 llama4_text", "has chunked attention"},
    {"gpt_oss", "adds a learned sink to the denominator of the softmax"},
    {"deepseek_v32 minicpm4", "chooses keys by their content (sparse attention)"},
    {"bloom mpt falcon", "may add position-dependent biases to the scores (ALiBi)"},
};

bool Lists(std::string_view words, std::string_view word) {
  for (size_t begin = 0; begin < words.size();) {
    const size_t end = std::min(words.find(' ', begin), words.size());
    if (words.substr(begin, end - begin) == word) return true;
    begin = end + 1;
  }
  return false;
}

}  // namespace

const Family& FindFamily(std::string_view model_type, std::string_view origin) {
  for (const Family& family : Families()) {
    if (family.model_type == model_type) return family;
  }
  std::string reason = "is not known (not modelled)";
  for (const Refusal& refusal : kRefusals) {
    if (Lists(refusal.model_types, model_type)) reason = std::string(refusal.reason) + " (not modelled)";
  }
  throw UndecidedError(std::string(origin) + ": model_type is " + DescribeJson(model_type) + ", which " + reason +
                       ": expected " + FamilyNames());
}

std::string FamilyNames() {
  std::string names;
  for (const Family& family : Families()) {
    names += (names.empty() ? "" : ", ") + std::string(family.model_type);
  }
  return names;
}

}  // namespace bitflash::data
