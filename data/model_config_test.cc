#include "data/model_config.h"

#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <numeric>

#include "data/embedded.h"
#include "data/error.h"
#include "data/strict_json.h"

namespace bitflash::data {

const std::vector<EmbeddedFile>& EmbeddedModels();

namespace {

using nlohmann::json;

json Llama() {
  return {{"model_type", "llama"},     {"hidden_size", 4096},      {"num_hidden_layers", 32},
          {"num_attention_heads", 32}, {"num_key_value_heads", 8}, {"torch_dtype", "bfloat16"}};
}

json Changed(json file, const json& changes) {
  file.update(changes);
  return file;
}

Model Parse(const json& file) { return ParseModelConfig(file.dump(), "config.json"); }

bool Mentions(const std::vector<std::string>& lines, const std::string& text) {
  for (const std::string& line : lines) {
    if (line.find(text) != std::string::npos) return true;
  }
  return false;
}

template <typename Error>
void Refused(const json& file, const char* what) {
  CAPTURE(file.dump());
  CHECK_THROWS_WITH_AS(Parse(file), doctest::Contains(what), Error);
  CHECK_THROWS_WITH_AS(Parse(file), doctest::Contains("config.json: "), Error);
}

// Written down a second time, from the papers and the model cards.
TEST_CASE("the attention of each built-in model") {
  struct Row {
    const char* name;
    const char* group;
    int64_t layers, heads_q, heads_kv, head_dim;
    int64_t window;        // 0: none
    double inverse_scale;  // 1 / scale
    double softcap;
    int64_t max_seqlen;
  };
  const Row rows[] = {
      {"llama-3-8b", "global", 32, 32, 8, 128, 0, std::sqrt(128), 0, 8192},
      {"llama-3-70b", "global", 80, 64, 8, 128, 0, std::sqrt(128), 0, 8192},
      {"mistral-7b", "sliding window 4096", 32, 32, 8, 128, 4096, std::sqrt(128), 0, 32768},
      {"mixtral-8x7b", "global", 32, 32, 8, 128, 0, std::sqrt(128), 0, 32768},
      {"qwen3-8b", "global", 36, 32, 8, 128, 0, std::sqrt(128), 0, 40960},
      {"qwen3-32b", "global", 64, 64, 8, 128, 0, std::sqrt(128), 0, 40960},
      {"gemma-2-9b", "sliding window 4096", 21, 16, 8, 256, 4096, 16, 50, 8192},
      {"gemma-2-9b", "global", 21, 16, 8, 256, 0, 16, 50, 8192},
      {"gemma-3-27b", "sliding window 1024", 52, 32, 16, 128, 1024, std::sqrt(168), 0, 131072},
      {"gemma-3-27b", "global", 10, 32, 16, 128, 0, std::sqrt(168), 0, 131072},
      {"gpt-2", "global", 12, 12, 12, 64, 0, 8, 0, 1024},
      {"phi-3-mini", "sliding window 2047", 32, 32, 32, 96, 2047, std::sqrt(96), 0, 4096},
  };
  for (const Row& row : rows) {
    CAPTURE(row.name);
    CAPTURE(row.group);
    const Model model = LoadModel(row.name);
    CHECK(model.name == row.name);
    CHECK(model.max_seqlen == row.max_seqlen);
    CHECK(model.format == Format::kBf16);
    int matches = 0;
    for (const LayerGroup& group : model.groups) {
      if (group.name != row.group) continue;
      ++matches;
      CHECK(group.layers == row.layers);
      for (const Phase phase : {Phase::kPrefill, Phase::kDecode}) {
        const Attention a = ToAttention(model, group, phase, 3, 5000);
        CHECK(a.batch == 3);
        CHECK(a.heads_q == row.heads_q);
        CHECK(a.heads_kv == row.heads_kv);
        CHECK(a.head_dim == row.head_dim);
        CHECK(a.head_dim_v == row.head_dim);
        CHECK(a.seqlen_q == (phase == Phase::kDecode ? 1 : 5000));
        CHECK(a.seqlen_k == 5000);
        CHECK(a.mask == (row.window ? Mask::Window(row.window - 1, 0) : Mask::Causal()));
        CHECK(1 / a.scale() == doctest::Approx(row.inverse_scale).epsilon(1e-12));
        CHECK(a.softcap == row.softcap);
        CHECK(!a.v_is_in_k);
      }
    }
    CHECK(matches == 1);
  }
}

TEST_CASE("every built-in model has a source, a title, and groups that add up to its layers") {
  CHECK(ModelNames() == std::vector<std::string>{"deepseek-v3", "gemma-2-9b", "gemma-3-27b", "gpt-2", "llama-3-70b",
                                                 "llama-3-8b", "mistral-7b", "mixtral-8x7b", "phi-3-mini", "qwen3-32b",
                                                 "qwen3-8b"});
  for (const EmbeddedFile& file : EmbeddedModels()) {
    CAPTURE(file.name);
    const json config = json::parse(file.bytes);
    CHECK(config.at("_source").get<std::string>().starts_with("config.json of "));
    const Model model = LoadModel(file.name.substr(0, file.name.size() - 5));
    CHECK(model.title == config.at("_title").get<std::string>());
    const json& text = config.contains("text_config") ? config["text_config"] : config;
    const int64_t layers = text.contains("n_layer") ? text["n_layer"] : text["num_hidden_layers"];
    int64_t sum = 0;
    for (const LayerGroup& group : model.groups) sum += group.layers;
    CHECK(sum == layers);
    // The same text as a user's file gives the same model.
    const Model user = LoadModel(std::string(BITFLASH_SOURCE_DIR "/data/models/") + std::string(file.name));
    CHECK(user.read == model.read);
    CHECK(user.name.ends_with(file.name));
  }
}

TEST_CASE("DeepSeek-V3: multi-head prefill, one latent KV head in decode, the same scale in both") {
  const Model model = LoadModel("deepseek-v3");
  REQUIRE(model.groups.size() == 1);
  CHECK(model.groups[0].layers == 61);
  const Attention prefill = ToAttention(model, model.groups[0], Phase::kPrefill, 2, 4096);
  CHECK(prefill.heads_q == 128);
  CHECK(prefill.heads_kv == 128);
  CHECK(prefill.head_dim == 192);
  CHECK(prefill.head_dim_v == 128);
  CHECK(!prefill.v_is_in_k);
  const Attention decode = ToAttention(model, model.groups[0], Phase::kDecode, 2, 4096);
  CHECK(decode.heads_q == 128);
  CHECK(decode.heads_kv == 1);
  CHECK(decode.head_dim == 576);
  CHECK(decode.head_dim_v == 512);
  CHECK(decode.v_is_in_k);
  CHECK(decode.k_bytes() + decode.v_bytes() == 2 * 4096 * 576 * 2);
  // 0.1352337788608801 is the softmax scale that DeepSeek's inference code computes: 192^-0.5 (0.1 ln 40 + 1)^2.
  CHECK(prefill.scale() == doctest::Approx(0.1352337788608801).epsilon(1e-12));
  CHECK(decode.scale() == prefill.scale());
  CHECK(Mentions(model.not_modelled, "absorbing"));
}

TEST_CASE("latent attention without YaRN keeps the scale of the expanded head, in decode too") {
  json file = json::parse(ReadTextFile(BITFLASH_SOURCE_DIR "/data/models/deepseek-v3.json"));
  for (const json& rope :
       {json(nullptr), json{{"type", "yarn"}, {"factor", 40}}, json{{"factor", 1.0}, {"mscale_all_dim", 1.0}}}) {
    file["rope_scaling"] = rope;
    const Model model = Parse(file);
    const Attention decode = ToAttention(model, model.groups[0], Phase::kDecode, 1, 100);
    CHECK(decode.scale() == doctest::Approx(1 / std::sqrt(192.0)).epsilon(1e-14));
  }
  LayerGroup group = Parse(file).groups[0];
  group.softmax_scale.reset();
  CHECK(ToAttention(Parse(file), group, Phase::kDecode, 1, 100).scale() == 1 / std::sqrt(192.0));
}

TEST_CASE("head_dim: explicit wins, null and absent are derived, Qwen3 and Gemma have a default") {
  CHECK(Parse(Changed(Llama(), {{"head_dim", 160}})).groups[0].head_dim == 160);
  CHECK(Parse(Changed(Llama(), {{"head_dim", nullptr}})).groups[0].head_dim == 128);
  CHECK(Parse(Llama()).groups[0].head_dim == 128);
  CHECK(Mentions(Parse(Llama()).assumed, "head_dim = hidden_size / num_attention_heads = 128"));
  // Mistral Nemo: hidden_size 5120, 32 heads of 128 columns, not 160.
  const json nemo = {{"model_type", "mistral"},   {"hidden_size", 5120},      {"num_hidden_layers", 40},
                     {"num_attention_heads", 32}, {"num_key_value_heads", 8}, {"head_dim", 128},
                     {"sliding_window", nullptr}};
  CHECK(Parse(nemo).groups[0].head_dim == 128);
  CHECK(!Parse(nemo).groups[0].window);
  CHECK(Parse(Changed(Llama(), {{"model_type", "qwen3"}, {"hidden_size", 1024}})).groups[0].head_dim == 128);
  CHECK(Parse(Changed(Llama(), {{"model_type", "gemma"}})).groups[0].head_dim == 256);
  // An explicit head_dim needs no hidden_size.
  json without = Changed(Llama(), {{"head_dim", 64}});
  without.erase("hidden_size");
  CHECK(Parse(without).groups[0].head_dim == 64);
}

TEST_CASE("num_key_value_heads: absent or null means every head has its own, except where the class has a default") {
  json file = Llama();
  file.erase("num_key_value_heads");
  CHECK(Parse(file).groups[0].heads_kv == 32);
  CHECK(Mentions(Parse(file).assumed, "num_key_value_heads = num_attention_heads = 32"));
  file["model_type"] = "mistral";
  CHECK(Parse(file).groups[0].heads_kv == 8);
  CHECK(Mentions(Parse(file).assumed, "num_key_value_heads = 8, the default of mistral"));
  file["num_key_value_heads"] = nullptr;
  CHECK(Parse(file).groups[0].heads_kv == 32);
}

TEST_CASE("Mistral: null means no window, absent means the default") {
  CHECK(!Parse(Changed(Llama(), {{"model_type", "mistral"}, {"sliding_window", nullptr}})).groups[0].window);
  const Model absent = Parse(Changed(Llama(), {{"model_type", "mistral"}}));
  CHECK(absent.groups[0].window == 4096);
  CHECK(Mentions(absent.assumed, "sliding_window = 4096, the default of mistral"));
  // Llama's class has no such key and ignores it.
  const Model llama = Parse(Changed(Llama(), {{"sliding_window", 512}}));
  CHECK(!llama.groups[0].window);
  CHECK(Mentions(llama.assumed, "llama does not use the key sliding_window"));
}

TEST_CASE("Qwen2: the window counts only with use_sliding_window, from max_window_layers on") {
  const json qwen = Changed(Llama(), {{"model_type", "qwen2"}, {"sliding_window", 1000}, {"max_window_layers", 28}});
  CHECK(Parse(qwen).groups.size() == 1);
  CHECK(!Parse(qwen).groups[0].window);
  CHECK(!Parse(Changed(qwen, {{"use_sliding_window", false}})).groups[0].window);
  const Model on = Parse(Changed(qwen, {{"use_sliding_window", true}}));
  REQUIRE(on.groups.size() == 2);
  CHECK(on.groups[0].name == "global");
  CHECK(on.groups[0].layers == 28);
  CHECK(on.groups[1].window == 1000);
  CHECK(on.groups[1].layers == 4);
  CHECK(Parse(Changed(qwen, {{"use_sliding_window", true}, {"max_window_layers", 32}})).groups.size() == 1);
  const Model all = Parse(Changed(qwen, {{"use_sliding_window", true}, {"max_window_layers", 0}}));
  REQUIRE(all.groups.size() == 1);
  CHECK(all.groups[0].window == 1000);
  CHECK(!Parse(Changed(qwen, {{"use_sliding_window", true}, {"sliding_window", nullptr}})).groups[0].window);
  // qwen3_moe has no max_window_layers: the window is every layer's.
  CHECK(Parse(Changed(qwen, {{"model_type", "qwen3_moe"}, {"use_sliding_window", true}})).groups[0].layers == 32);
}

TEST_CASE("layer_types decides exactly, whatever the rule of the model_type") {
  json types = json::array();
  for (int i = 0; i < 32; ++i) types.push_back(i % 3 == 1 ? "sliding_attention" : "full_attention");
  for (const char* model_type : {"llama", "gemma2", "gemma3_text", "mistral"}) {
    CAPTURE(model_type);
    const json file = Changed(Llama(), {{"model_type", model_type}, {"layer_types", types}, {"sliding_window", 77}});
    const Model model = Parse(file);
    REQUIRE(model.groups.size() == 2);
    CHECK(model.groups[0].name == "global");
    CHECK(model.groups[0].layers == 21);
    CHECK(model.groups[1].window == 77);
    CHECK(model.groups[1].layers == 11);
  }
  const json file = Changed(Llama(), {{"layer_types", types}, {"sliding_window", 77}});
  Refused<InputError>(Changed(file, {{"num_hidden_layers", 31}}),
                      "layer_types is a list: expected a list of num_hidden");
  Refused<InputError>(Changed(file, {{"layer_types", "full_attention"}}), "layer_types");
  Refused<InputError>(Changed(file, {{"sliding_window", nullptr}}), "expected a sliding_window in use");
  types[5] = 3;
  Refused<InputError>(Changed(file, {{"layer_types", types}}), "expected a list of strings");
  types[5] = "linear_attention";
  Refused<UndecidedError>(Changed(file, {{"layer_types", types}}), "\"linear_attention\"");
}

TEST_CASE("Gemma 3: keys that equal the class's defaults are absent from the nested file") {
  // google/gemma-3-4b-it states only these.
  const json file = {
      {"model_type", "gemma3"},
      {"text_config",
       {{"hidden_size", 2560}, {"model_type", "gemma3_text"}, {"num_hidden_layers", 34}, {"sliding_window", 1024}}}};
  const Model model = Parse(file);
  REQUIRE(model.groups.size() == 2);
  CHECK(model.groups[0].layers == 29);
  CHECK(model.groups[1].layers == 5);
  CHECK(model.groups[0].heads_q == 8);
  CHECK(model.groups[0].heads_kv == 4);
  CHECK(model.groups[0].head_dim == 256);
  CHECK(ToAttention(model, model.groups[1], Phase::kPrefill, 1, 10).scale() == 1.0 / 16);
  CHECK(Mentions(model.read, "text_config.num_hidden_layers = 34"));
  CHECK(Mentions(model.assumed, "sliding_window_pattern = 6"));
  CHECK(Mentions(model.not_modelled, "image tokens"));
  Refused<InputError>({{"model_type", "gemma3"}}, "text_config is missing");
  Refused<InputError>({{"model_type", "gemma3"}, {"text_config", 3}}, "text_config is 3: expected an object");
  Refused<InputError>({{"model_type", "gemma3"}, {"text_config", {{"model_type", "gemma3"}}}},
                      "text_config.model_type");
  // A pattern of 1 makes every layer global.
  CHECK(Parse(Changed(file["text_config"], {{"sliding_window_pattern", 1}})).groups.size() == 1);
}

TEST_CASE("Gemma 2: null softcapping means none, absent means 50") {
  const json file = Changed(Llama(), {{"model_type", "gemma2"}, {"query_pre_attn_scalar", 144.0}});
  CHECK(Parse(file).groups[0].softcap == 50);
  CHECK(Parse(Changed(file, {{"attn_logit_softcapping", nullptr}})).groups[0].softcap == 0);
  CHECK(Parse(Changed(file, {{"attn_logit_softcapping", 30.5}})).groups[0].softcap == 30.5);
  CHECK(*Parse(file).groups[0].softmax_scale == 1.0 / 12);
  const Model odd = Parse(Changed(file, {{"num_hidden_layers", 5}}));
  CHECK(odd.groups[0].window == 4096);
  CHECK(odd.groups[0].layers == 3);
  CHECK(odd.groups[1].layers == 2);
}

TEST_CASE("other scales: Granite's multiplier, GPT-2 without one") {
  CHECK(Parse(Changed(Llama(), {{"model_type", "granite"}, {"attention_multiplier", 0.0078125}}))
            .groups[0]
            .softmax_scale == 0.0078125);
  CHECK(Parse(Changed(Llama(), {{"model_type", "granite"}})).groups[0].softmax_scale == 1);
  const json gpt2 = {{"model_type", "gpt2"}, {"n_layer", 2}, {"n_head", 4}, {"n_embd", 64}};
  CHECK(!Parse(gpt2).groups[0].softmax_scale);
  CHECK(Parse(gpt2).max_seqlen == 0);
  CHECK(Parse(Changed(gpt2, {{"scale_attn_weights", false}})).groups[0].softmax_scale == 1);
  Refused<UndecidedError>(Changed(gpt2, {{"scale_attn_by_inverse_layer_idx", true}}),
                          "scale_attn_by_inverse_layer_idx");
  Refused<InputError>(Changed(gpt2, {{"n_embd", 63}}), "n_embd is 63: expected a multiple of n_head, which is 4");
}

TEST_CASE("formats: torch_dtype, dtype, none") {
  CHECK(Parse(Changed(Llama(), {{"torch_dtype", "float16"}})).format == Format::kFp16);
  CHECK(Parse(Changed(Llama(), {{"dtype", "float32"}})).format == Format::kFp32);
  json file = Llama();
  file.erase("torch_dtype");
  CHECK(Parse(file).format == Format::kBf16);
  CHECK(Mentions(Parse(file).assumed, "format = bf16"));
  CHECK(Parse({{"model_type", "mistral3"}, {"torch_dtype", "float16"}, {"text_config", file}}).format == Format::kFp16);
  Refused<InputError>(Changed(Llama(), {{"torch_dtype", "int4"}}), "expected bfloat16, float16, float32 or auto");
}

TEST_CASE("what is not modelled is named, with the accepted model types, and never guessed") {
  for (const char* model_type : {"mamba", "mamba2", "rwkv", "jamba", "qwen3_next", "t5", "whisper", "mllama", "bert",
                                 "llama4", "gpt_oss", "deepseek_v32", "bloom", "falcon"}) {
    Refused<UndecidedError>(Changed(Llama(), {{"model_type", model_type}}), model_type);
    Refused<UndecidedError>(Changed(Llama(), {{"model_type", model_type}}), "(not modelled): expected llama, mistral,");
  }
  Refused<UndecidedError>(Changed(Llama(), {{"model_type", "no_such_model"}}), "\"no_such_model\", which is not known");
  Refused<UndecidedError>(Changed(Llama(), {{"model_type", ""}}), "not known");
  Refused<UndecidedError>({{"model_type", "gemma3"}, {"text_config", {{"model_type", "mamba"}}}}, "mamba");
  Refused<UndecidedError>(Changed(Llama(), {{"is_encoder_decoder", true}}), "cross-attention");
  Refused<UndecidedError>(Changed(Llama(), {{"alibi", true}}), "ALiBi");
  Refused<UndecidedError>(Changed(Llama(), {{"use_bidirectional_attention", "all"}}), "attention to later tokens");
  CHECK_NOTHROW(Parse(Changed(Llama(), {{"is_encoder_decoder", false}, {"alibi", nullptr}, {"index_topk", 0}})));
}

TEST_CASE("broken, hostile and impossible files are refused by the key's name") {
  CHECK_THROWS_WITH_AS(ParseModelConfig("", "c"), doctest::Contains("c: not valid JSON"), InputError);
  CHECK_THROWS_WITH_AS(ParseModelConfig("[1]", "c"), doctest::Contains("expected an object"), InputError);
  CHECK_THROWS_WITH_AS(ParseModelConfig(R"({"model_type": "llama", "model_type": "gpt2"})", "c"),
                       doctest::Contains("appears twice"), InputError);
  CHECK_THROWS_AS(ParseModelConfig(R"({"a":)" + std::string(100'000, '[') + "}", "c"), InputError);
  Refused<InputError>(json::object(), "model_type is missing");
  Refused<InputError>({{"model_type", 7}}, "model_type is 7: expected a string");
  for (const char* key : {"num_hidden_layers", "num_attention_heads", "hidden_size"}) {
    json file = Llama();
    file.erase(key);
    Refused<InputError>(file, key);
    Refused<InputError>(file, "is missing: expected an integer from 1");
  }
  for (const char* key : {"num_hidden_layers", "num_attention_heads", "num_key_value_heads", "hidden_size", "head_dim",
                          "max_position_embeddings"}) {
    for (const json& value : {json(0), json(-8), json(32.0), json("32"), json(true), json::array({32}), json::object(),
                              json(int64_t{1} << 62), json(~uint64_t{0}), json(1e300)}) {
      Refused<InputError>(Changed(Llama(), {{key, value}}), key);
      Refused<InputError>(Changed(Llama(), {{key, value}}), "expected an integer from 1 to ");
    }
  }
  Refused<InputError>(Changed(Llama(), {{"num_key_value_heads", 5}}),
                      "num_attention_heads is 32: expected a multiple of num_key_value_heads, which is 5");
  Refused<InputError>(Changed(Llama(), {{"hidden_size", 4097}}),
                      "hidden_size is 4097: expected a multiple of num_attention_heads, which is 32");
  Refused<InputError>(Changed(Llama(), {{"model_type", "mistral"}, {"sliding_window", -1}}), "sliding_window is -1");
  Refused<InputError>(Changed(Llama(), {{"model_type", "qwen2"}, {"use_sliding_window", "yes"}}), "true or false");
  for (const json& value : {json(0), json(-256), json("256"), json(1e300), json(1e-300)}) {
    Refused<InputError>(Changed(Llama(), {{"model_type", "gemma2"}, {"query_pre_attn_scalar", value}}),
                        "query_pre_attn_scalar");
    Refused<InputError>(Changed(Llama(), {{"model_type", "granite"}, {"attention_multiplier", value}}),
                        "attention_multiplier");
  }
  json deepseek = json::parse(ReadTextFile(BITFLASH_SOURCE_DIR "/data/models/deepseek-v3.json"));
  deepseek["rope_scaling"]["factor"] = "40";
  Refused<InputError>(deepseek, "rope_scaling.factor is the string \"40\"");
  deepseek["rope_scaling"].erase("factor");
  Refused<InputError>(deepseek, "rope_scaling.factor is null");
}

TEST_CASE("an unknown name is refused with the known ones") {
  CHECK_THROWS_WITH_AS(LoadModel("llama"), doctest::Contains("expected deepseek-v3, gemma-2-9b"), UsageError);
  CHECK_THROWS_AS(LoadModel(""), UsageError);
  CHECK_THROWS_AS(LoadModel("no/such/config.json"), InputError);
}

TEST_CASE("a problem that cannot be is refused where it is asked for") {
  const Model model = LoadModel("llama-3-8b");
  CHECK_THROWS_AS(ToAttention(model, model.groups[0], Phase::kPrefill, 0, 100), UsageError);
  CHECK_THROWS_AS(ToAttention(model, model.groups[0], Phase::kPrefill, 1, -1), UsageError);
  CHECK_THROWS_AS(ToAttention(model, model.groups[0], Phase::kPrefill, 1, int64_t{1} << 40), UsageError);
  CHECK_NOTHROW(ToAttention(model, model.groups[0], Phase::kDecode, 1, 1));
}

}  // namespace
}  // namespace bitflash::data
