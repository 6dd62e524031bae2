#include "sim/recipe.h"

#include <algorithm>
#include <type_traits>
#include <utility>

#include "data/error.h"

namespace bitflash::sim {
namespace {

// A field and its values in the order of the enumeration that `Member` points to.
template <auto Member>
RecipeField Field(std::string_view name, std::vector<RecipeValue> values) {
  return {name, std::move(values), [](const Recipe& recipe) { return static_cast<int>(recipe.*Member); },
          [](Recipe& recipe, int value) {
            auto& choice = recipe.*Member;
            choice = static_cast<std::remove_reference_t<decltype(choice)>>(value);
          }};
}

std::vector<RecipeField> MakeFields() {
  return {
      Field<&Recipe::scale_log2>("scale_log2", {{"from-double", "cs = float(double(float(scale)) * log2 e)"},
                                                {"from-float", "cs = mul(float(scale), float(log2 e))"}}),
      Field<&Recipe::key_order>("key_order",
                                {{"ascending", "the first key tile first"}, {"descending", "the last key tile first"}}),
      Field<&Recipe::exponent>("exponent", {{"fused", "p = exp(fma(S, cs, -mul(m, cs)))"},
                                            {"unfused", "p = exp(sub(mul(S, cs), mul(m, cs)))"}}),
      Field<&Recipe::rescale>("rescale", {{"difference", "r = exp(mul(sub(m_old, m_new), cs))"},
                                          {"products", "r = exp(sub(mul(m_old, cs), mul(m_new, cs)))"}}),
      Field<&Recipe::exponential>(
          "exponential",
          {{"ex2", "exp = ex2.approx.ftz"}, {"exp2f", "exp = exp2f without fast-math: subnormal results survive"}}),
      Field<&Recipe::row_sum>(
          "row_sum", {{"rescale-then-add", "l = mul(l, r), then l = add(l, p) in column order"},
                      {"first-fused", "l = fma(l, r, first p), then l = add(l, p) in column order"},
                      {"tile-then-fused", "the tile's p alone in column order, then l = fma(l, r, tile sum)"}}),
      Field<&Recipe::quad_sum>("quad_sum",
                               {{"across", "(l0 + l2) + (l1 + l3)"}, {"neighbors", "(l0 + l1) + (l2 + l3)"}}),
      Field<&Recipe::reciprocal>("reciprocal", {{"ieee", "1 / l, correctly rounded"}, {"rcp", "rcp.approx.ftz(l)"}}),
      Field<&Recipe::empty_row>("empty_row",
                                {{"zero", "a row without keys: inverse sum 0, LSE -inf"},
                                 {"one-and-plus-inf", "a row without keys, or with a NaN sum: inverse sum 1, LSE +inf"},
                                 {"one-and-minus-inf", "a row without keys: inverse sum 1, LSE -inf"}}),
      Field<&Recipe::log_sum_exp>("log_sum_exp",
                                  {{"logf", "LSE = fma(m, scale, logf(l))"},
                                   {"fast-log", "LSE = fma(m, scale, mul(lg2.approx.ftz(l), ln 2)), CUDA's __logf"},
                                   {"scaled-twice", "LSE = fma(mul(m, cs), ln 2, mul(lg2.approx.ftz(l), ln 2))"}}),
  };
}

// "a, b, c".
template <typename Named>
std::string Names(const std::vector<Named>& all) {
  std::string text;
  for (const Named& one : all) text.append(text.empty() ? "" : ", ").append(one.name);
  return text;
}

}  // namespace

const std::vector<RecipeField>& RecipeFields() {
  static const std::vector<RecipeField> fields = MakeFields();
  return fields;
}

void SetChoice(Recipe& recipe, std::string_view field, std::string_view value) {
  const std::vector<RecipeField>& fields = RecipeFields();
  const auto found = std::ranges::find(fields, field, &RecipeField::name);
  if (found == fields.end()) {
    throw data::UsageError("unknown choice '" + std::string(field) + "': expected one of " + Names(fields));
  }
  const auto chosen = std::ranges::find(found->values, value, &RecipeValue::name);
  if (chosen == found->values.end()) {
    throw data::UsageError("unknown value '" + std::string(value) + "' of " + std::string(field) +
                           ": expected one of " + Names(found->values));
  }
  found->Set(recipe, static_cast<int>(chosen - found->values.begin()));
}

bool SameChoices(const Recipe& a, const Recipe& b) {
  return std::ranges::all_of(RecipeFields(), [&](const RecipeField& field) { return field.Get(a) == field.Get(b); });
}

std::vector<RecipeChoice> Describe(const Recipe& recipe) {
  std::vector<RecipeChoice> choices;
  for (const RecipeField& field : RecipeFields()) {
    const RecipeValue& value = field.values[field.Get(recipe)];
    choices.push_back({field.name, value.name, value.meaning});
  }
  return choices;
}

}  // namespace bitflash::sim
