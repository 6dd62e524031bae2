// Recipes as files: the text of a kernel, its tile, its tensor core and its choices, as `identify` finds them and `run`
// replays them.
#ifndef BITFLASH_VERIFY_IDENTIFY_RECIPE_FILE_H_
#define BITFLASH_VERIFY_IDENTIFY_RECIPE_FILE_H_

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "sim/kernels/kernels.h"

namespace bitflash::verify {

struct RecipeFile {
  sim::Kernel kernel;  // a built-in kernel's text, with the recipe of the file
  sim::Tiling tiling;  // Bc, splits and part_keys decide bits; the rest is how it would run
  std::string arch;    // "sm90": whose tensor core multiplies
};

// verify/schemas/recipe.schema.json: bitflash.recipe/1. Choices have the names that `bitflash list recipes` prints.
nlohmann::ordered_json RecipeJson(const RecipeFile& recipe);

// Throws InputError that names the origin, the field, its value and what is accepted: for text that is not JSON, an
// unknown, missing or repeated field, an unknown kernel, architecture, choice or value, a tile out of range.
RecipeFile ParseRecipe(std::string_view text, std::string_view origin);
RecipeFile LoadRecipe(const std::string& path);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_IDENTIFY_RECIPE_FILE_H_
