// --recipe FILE: a kernel, its tile and its architecture from a file instead of from flags.
#ifndef BITFLASH_VERIFY_CLI_RECIPE_FLAG_H_
#define BITFLASH_VERIFY_CLI_RECIPE_FLAG_H_

#include <optional>
#include <string>

#include "verify/cli/workload.h"
#include "verify/identify/recipe_file.h"

namespace bitflash::verify {

void AddRecipeFlag(CommandLine& line, std::optional<std::string>& path);

// Reads the file, when there is one, and fills in the workload flags that it answers. Throws UsageError for flags that
// contradict it, InputError.
std::optional<RecipeFile> ReadRecipe(const std::optional<std::string>& path, WorkloadFlags& flags);

// Throws UsageError when the GPU that the flags chose has another tensor core than the recipe's architecture.
void RequireArchitecture(const RecipeFile& recipe, const data::Gpu& gpu);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_RECIPE_FLAG_H_
