#include "verify/cli/recipe_flag.h"

#include <fmt/format.h>

#include "data/error.h"

namespace bitflash::verify {

void AddRecipeFlag(CommandLine& line, std::optional<std::string>& path) {
  line.AddOption("--recipe", path, "FILE",
                 "Kernel, tile and choices from a recipe file (bitflash identify writes one)");
}

std::optional<RecipeFile> ReadRecipe(const std::optional<std::string>& path, WorkloadFlags& flags) {
  if (!path) return std::nullopt;
  const std::pair<const char*, bool> given[] = {
      {"--kernel", flags.kernel.has_value()},       {"--tile", flags.tile.has_value()},
      {"--warps", flags.warps.has_value()},         {"--stages", flags.stages.has_value()},
      {"--splits", flags.splits.has_value()},       {"--chunk", flags.chunk.has_value()},
      {"--page-size", flags.page_size.has_value()}, {"--pack-gqa", flags.pack_gqa},
      {"--fp32-scores", flags.fp32_scores}};
  for (const auto& [flag, is_given] : given) {
    if (is_given) throw data::UsageError(fmt::format("{} contradicts --recipe: the file says it", flag));
  }
  const RecipeFile recipe = LoadRecipe(*path);
  const sim::Tiling& t = recipe.tiling;
  flags.kernel = std::string(recipe.kernel.name);
  flags.tile = fmt::format("{}x{}", t.Br, t.Bc);
  flags.warps = std::to_string(t.warps);
  flags.stages = std::to_string(t.stages);
  if (t.part_keys > 0) {
    flags.chunk = std::to_string(t.part_keys);
  } else if (recipe.kernel.splits_keys) {
    flags.splits = std::to_string(t.splits);
  }
  flags.pack_gqa = t.pack_gqa;
  flags.fp32_scores = t.fp32_scores;
  if (!flags.gpu && !flags.arch) flags.arch = recipe.arch;
  return recipe;
}

void RequireArchitecture(const RecipeFile& recipe, const data::Gpu& gpu) {
  if (gpu.arch == recipe.arch) return;
  throw data::UsageError(fmt::format("--recipe was found for {}, and {} is {}: its tensor core decides bits",
                                     recipe.arch, gpu.name, gpu.arch));
}

}  // namespace bitflash::verify
