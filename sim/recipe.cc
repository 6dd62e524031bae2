#include "sim/recipe.h"

namespace bitflash::sim {
namespace {

struct ValueText {
  std::string_view value, meaning;
};

ValueText Text(Recipe::ScaleLog2 choice) {
  if (choice == Recipe::ScaleLog2::kFromDouble) return {"from-double", "cs = float(double(float(scale)) * log2 e)"};
  return {"from-float", "cs = mul(float(scale), float(log2 e))"};
}

ValueText Text(Order order) {
  if (order == Order::kDescending) return {"descending", "the last key tile first"};
  return {"ascending", "the first key tile first"};
}

ValueText Text(Recipe::Exponent choice) {
  if (choice == Recipe::Exponent::kFused) return {"fused", "p = exp(fma(S, cs, -mul(m, cs)))"};
  return {"unfused", "p = exp(sub(mul(S, cs), mul(m, cs)))"};
}

ValueText Text(Recipe::Rescale choice) {
  if (choice == Recipe::Rescale::kDifference) return {"difference", "r = exp(mul(sub(m_old, m_new), cs))"};
  return {"products", "r = exp(sub(mul(m_old, cs), mul(m_new, cs)))"};
}

ValueText Text(Recipe::Exponential choice) {
  if (choice == Recipe::Exponential::kEx2) return {"ex2", "exp = ex2.approx.ftz"};
  return {"exp2f", "exp = exp2f without fast-math: subnormal results survive"};
}

ValueText Text(Recipe::RowSum choice) {
  switch (choice) {
    case Recipe::RowSum::kRescaleThenAdd:
      return {"rescale-then-add", "l = mul(l, r), then l = add(l, p) in column order"};
    case Recipe::RowSum::kFirstFused:
      return {"first-fused", "l = fma(l, r, first p), then l = add(l, p) in column order"};
    case Recipe::RowSum::kTileThenFused:
      break;
  }
  return {"tile-then-fused", "the tile's p alone in column order, then l = fma(l, r, tile sum)"};
}

ValueText Text(Recipe::QuadSum choice) {
  if (choice == Recipe::QuadSum::kAcross) return {"across", "(l0 + l2) + (l1 + l3)"};
  return {"neighbors", "(l0 + l1) + (l2 + l3)"};
}

ValueText Text(Recipe::Reciprocal choice) {
  if (choice == Recipe::Reciprocal::kIeee) return {"ieee", "1 / l, correctly rounded"};
  return {"rcp", "rcp.approx.ftz(l)"};
}

ValueText Text(Recipe::EmptyRow choice) {
  switch (choice) {
    case Recipe::EmptyRow::kZero:
      return {"zero", "a row without keys: inverse sum 0, LSE -inf"};
    case Recipe::EmptyRow::kOneAndPlusInf:
      return {"one-and-plus-inf", "a row without keys, or with a NaN sum: inverse sum 1, LSE +inf"};
    case Recipe::EmptyRow::kOneAndMinusInf:
      break;
  }
  return {"one-and-minus-inf", "a row without keys: inverse sum 1, LSE -inf"};
}

ValueText Text(Recipe::LogSumExp choice) {
  switch (choice) {
    case Recipe::LogSumExp::kLogf:
      return {"logf", "LSE = fma(m, scale, logf(l))"};
    case Recipe::LogSumExp::kFastLog:
      return {"fast-log", "LSE = fma(m, scale, mul(lg2.approx.ftz(l), ln 2)), CUDA's __logf"};
    case Recipe::LogSumExp::kScaledTwice:
      break;
  }
  return {"scaled-twice", "LSE = fma(mul(m, cs), ln 2, mul(lg2.approx.ftz(l), ln 2))"};
}

}  // namespace

std::vector<RecipeChoice> Describe(const Recipe& recipe) {
  std::vector<RecipeChoice> choices;
  const auto add = [&](std::string_view field, ValueText text) {
    choices.push_back({field, text.value, text.meaning});
  };
  add("scale_log2", Text(recipe.scale_log2));
  add("key_order", Text(recipe.key_order));
  add("exponent", Text(recipe.exponent));
  add("rescale", Text(recipe.rescale));
  add("exponential", Text(recipe.exponential));
  add("row_sum", Text(recipe.row_sum));
  add("quad_sum", Text(recipe.quad_sum));
  add("reciprocal", Text(recipe.reciprocal));
  add("empty_row", Text(recipe.empty_row));
  add("log_sum_exp", Text(recipe.log_sum_exp));
  return choices;
}

}  // namespace bitflash::sim
