#include "verify/identify/recipe_file.h"

#include <doctest/doctest.h>

#include <random>
#include <string>

#include "data/error.h"
#include "verify/schema_check.h"

namespace bitflash::verify {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

RecipeFile OfKernel(const sim::Kernel& kernel) {
  RecipeFile file{kernel, {.Br = 64, .Bc = 128, .warps = 4, .stages = 2}, "sm90"};
  if (kernel.splits_keys) file.tiling.splits = 3;
  return file;
}

std::string Valid() { return RecipeJson(OfKernel(sim::FindKernel("pytorch-fa2"))).dump(); }

// Valid() with one value replaced; null removes it.
std::string With(const std::string& pointer, const json& value) {
  json file = json::parse(Valid());
  file[json::json_pointer(pointer)] = value;
  return file.dump();
}

TEST_CASE("what is written is read back, for every kernel and any choices") {
  std::mt19937_64 rng(1);
  for (const sim::Kernel& kernel : sim::Kernels()) {
    for (int round = 0; round < 10; ++round) {
      RecipeFile file = OfKernel(kernel);
      for (const sim::RecipeField& field : sim::RecipeFields()) {
        field.Set(file.kernel.recipe, static_cast<int>(rng() % field.values.size()));
      }
      file.kernel.recipe.name = "round " + std::to_string(round) + " \"quoted\"";
      const ordered_json written = RecipeJson(file);
      for (const std::string& error :
           CheckSchema(json::parse(written.dump()), BITFLASH_SOURCE_DIR "/verify/schemas/recipe.schema.json")) {
        FAIL_CHECK(error);
      }
      const RecipeFile read = ParseRecipe(written.dump(), "test");
      CHECK(read.kernel.recipe == file.kernel.recipe);
      CHECK(read.kernel.name == kernel.name);
      CHECK((read.kernel.Run == kernel.Run));
      CHECK(read.tiling == file.tiling);
      CHECK(read.arch == file.arch);
      CHECK(RecipeJson(read) == written);
    }
  }
}

TEST_CASE("a wrong file is refused with the field and what is accepted") {
  const auto message = [](const std::string& text) {
    try {
      ParseRecipe(text, "recipe.json");
    } catch (const data::InputError& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  CHECK(message(Valid()) == "accepted");
  CHECK(message(With("/choices/exponent", "fussed")) ==
        "recipe.json: choices.exponent is the string \"fussed\": expected one of fused, unfused");
  CHECK(message(With("/tiling/bc", 100)) ==
        "recipe.json: tiling.bc is 100: expected a multiple of 16, the depth of a matrix instruction");
  const std::string wrong[] = {"",
                               "{",
                               "[]",
                               "null",
                               "{\"schema\": \"bitflash.recipe/1\"}",
                               Valid().substr(0, 40),
                               Valid() + "x",
                               With("/schema", "bitflash.recipe/2"),
                               With("/schema", 1),
                               With("/name", ""),
                               With("/name", std::string(300, 'x')),
                               With("/kernel", "fa9"),
                               With("/kernel", 3),
                               With("/arch", "sm60"),
                               With("/arch", nullptr),
                               With("/extra", 1),
                               With("/tiling", 3),
                               With("/tiling/bc", 0),
                               With("/tiling/bc", -16),
                               With("/tiling/bc", 2048),
                               With("/tiling/bc", 64.0),
                               With("/tiling/bc", "64"),
                               With("/tiling/br", uint64_t{18446744073709551600u}),
                               With("/tiling/splits", 0),
                               With("/tiling/pack_gqa", 1),
                               With("/tiling/extra", 1),
                               With("/tiling/part_keys", 130),
                               With("/tiling/part_keys", 256),
                               With("/tiling/fp32_scores", true),
                               With("/choices", json::array()),
                               With("/choices/extra", "x"),
                               With("/choices/row_sum", 1),
                               With("/choices/row_sum", nullptr)};
  for (const std::string& text : wrong) {
    CAPTURE(text);
    const std::string what = message(text);
    CHECK(what != "accepted");
    CHECK(what.rfind("recipe.json: ", 0) == 0);
  }
  // Twice the same key: readers differ in which one counts.
  std::string twice = Valid();
  twice.insert(1, "\"arch\":\"sm80\",");
  CHECK(message(twice) != "accepted");
  for (const char* key : {"schema", "name", "kernel", "arch", "tiling", "choices"}) {
    json file = json::parse(Valid());
    file.erase(key);
    CHECK(message(file.dump()) == "recipe.json: " + std::string(key) + " is missing");
  }
}

TEST_CASE("no cut or changed byte of a file does anything but be refused or read") {
  std::mt19937_64 rng(2);
  const std::string valid = Valid();
  for (int round = 0; round < 3000; ++round) {
    std::string text = valid;
    if (round % 3 == 0) text.resize(rng() % text.size());
    if (round % 3 != 0) text[rng() % text.size()] = static_cast<char>(rng() % 256);
    try {
      const RecipeFile file = ParseRecipe(text, "test");
      CHECK(file.tiling.Bc % 16 == 0);
    } catch (const data::InputError&) {
    }
  }
}

TEST_CASE("a file that is not there") { CHECK_THROWS_AS(LoadRecipe("/nonexistent/recipe.json"), data::InputError); }

}  // namespace
}  // namespace bitflash::verify
