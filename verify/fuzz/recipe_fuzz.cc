// libFuzzer target of verify/identify/recipe_file.h: a recipe from an untrusted hand is refused with an InputError of
// one line that names the origin, or is written and reads back equal. It needs no seeds: every input is tried as a
// file, and as a list of changes of a valid one (the first byte says which kernel's; then offset, offset / 256, new
// byte).
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "data/error.h"
#include "data/fuzz/refusal.h"
#include "verify/identify/recipe_file.h"

namespace bitflash::verify {
namespace {

using data::Require;

constexpr std::string_view kOrigin = "fuzz-input";

void FuzzRecipe(std::string_view text) {
  const auto parsed = data::Parsed<data::InputError>(kOrigin, [&] { return ParseRecipe(text, kOrigin); });
  if (!parsed) return;
  const RecipeFile& recipe = *parsed;
  const sim::Tiling& t = recipe.tiling;
  Require(t.Br > 0 && t.Br % 16 == 0 && t.Bc > 0 && t.Bc % 16 == 0, "a tile is accepted that no kernel can have");
  Require(t.splits == 1 || t.part_keys == 0, "two ways to split the keys are accepted");
  const std::string written = RecipeJson(recipe).dump();
  const RecipeFile again = ParseRecipe(written, kOrigin);
  Require(again.kernel.recipe == recipe.kernel.recipe && again.kernel.name == recipe.kernel.name &&
              again.tiling == recipe.tiling && again.arch == recipe.arch,
          "a recipe does not read back equal");
}

std::vector<std::string> Seeds() {
  std::vector<std::string> seeds;
  for (const sim::Kernel& kernel : sim::Kernels()) {
    RecipeFile file{kernel, {.Br = 64, .Bc = 128, .warps = 4, .stages = 2}, "sm90"};
    if (kernel.fixed_parts) file.tiling.part_keys = 256;
    seeds.push_back(RecipeJson(file).dump());
  }
  return seeds;
}

}  // namespace
}  // namespace bitflash::verify

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace bitflash::verify;
  FuzzRecipe({reinterpret_cast<const char*>(data), size});
  if (size == 0) return 0;
  static const std::vector<std::string> seeds = Seeds();
  std::string file = seeds[data[0] % seeds.size()];
  for (size_t i = 1; i + 2 < size; i += 3) {
    file[(data[i] + size_t{256} * data[i + 1]) % file.size()] = static_cast<char>(data[i + 2]);
  }
  FuzzRecipe(file);
  return 0;
}
