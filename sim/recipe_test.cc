#include "sim/recipe.h"

#include <doctest/doctest.h>

#include <set>
#include <string>

#include "data/error.h"
#include "sim/kernels/kernels.h"

namespace bitflash::sim {
namespace {

TEST_CASE("every value of every choice has one name, and the name leads back to it") {
  for (const RecipeField& field : RecipeFields()) {
    CAPTURE(std::string(field.name));
    CHECK(field.values.size() >= 2);
    std::set<std::string_view> names, meanings;
    for (int value = 0; value < static_cast<int>(field.values.size()); ++value) {
      Recipe recipe;
      SetChoice(recipe, field.name, field.values[value].name);
      CHECK(field.Get(recipe) == value);
      names.insert(field.values[value].name);
      meanings.insert(field.values[value].meaning);
      // Nothing else changes.
      Recipe restored = recipe;
      field.Set(restored, field.Get(Recipe()));
      CHECK(restored == Recipe());
    }
    CHECK(names.size() == field.values.size());
    CHECK(meanings.size() == field.values.size());
  }
}

TEST_CASE("the names belong to the enumerators: those of two kernels, written out") {
  const auto value = [](const Recipe& recipe, std::string_view field) {
    for (const RecipeChoice& choice : Describe(recipe)) {
      if (choice.field == field) return std::string(choice.value);
    }
    return std::string("missing");
  };
  const Recipe& pytorch = FindKernel("pytorch-fa2").recipe;
  const Recipe& cudnn = FindKernel("cudnn-9.19-sm90").recipe;
  const struct {
    const char *field, *pytorch, *cudnn;
  } kExpected[] = {{"scale_log2", "from-double", "from-float"},
                   {"key_order", "descending", "ascending"},
                   {"exponent", "unfused", "unfused"},
                   {"rescale", "difference", "products"},
                   {"exponential", "exp2f", "ex2"},
                   {"row_sum", "first-fused", "tile-then-fused"},
                   {"quad_sum", "across", "neighbors"},
                   {"reciprocal", "ieee", "rcp"},
                   {"empty_row", "one-and-plus-inf", "zero"},
                   {"log_sum_exp", "fast-log", "scaled-twice"}};
  CHECK(RecipeFields().size() == std::size(kExpected));
  for (const auto& expected : kExpected) {
    CAPTURE(expected.field);
    CHECK(value(pytorch, expected.field) == expected.pytorch);
    CHECK(value(cudnn, expected.field) == expected.cudnn);
  }
  CHECK(value(FindKernel("fa2").recipe, "exponent") == "fused");
}

TEST_CASE("a wrong name is refused with the accepted ones") {
  Recipe recipe;
  CHECK_THROWS_WITH_AS(SetChoice(recipe, "exponent", "Fused"),
                       "unknown value 'Fused' of exponent: expected one of fused, unfused", data::UsageError);
  CHECK_THROWS_AS(SetChoice(recipe, "exponents", "fused"), data::UsageError);
  CHECK(recipe == Recipe());
}

TEST_CASE("the same choices under another name") {
  Recipe a, b;
  b.name = "other";
  CHECK(SameChoices(a, b));
  CHECK_FALSE(a == b);
  b.reciprocal = Recipe::Reciprocal::kRcp;
  CHECK_FALSE(SameChoices(a, b));
}

}  // namespace
}  // namespace bitflash::sim
