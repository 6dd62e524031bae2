// The choices of a kernel that decide bits: what is fused, which exponential, in which order sums run, how a row is
// normalised. Scheduling, pipelining and the number of query rows in a tile never change bits; the number of keys in a
// tile and the order of the tiles do.
#ifndef BITFLASH_SIM_RECIPE_H_
#define BITFLASH_SIM_RECIPE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "sim/runs.h"

namespace bitflash::sim {

// Notation: cs = softmax_scale * log2(e), m the running maximum of the raw scores, p the exponentials, l the four lane
// sums of a row. `fma` rounds once, `mul`, `sub` and `add` round each.
struct Recipe {
  enum class ScaleLog2 : uint8_t {
    kFromDouble,  // float(double(float(scale)) * log2 e)
    kFromFloat,   // mul(float(scale), float(log2 e))
  };
  enum class Exponent : uint8_t {
    kFused,    // p = exp(fma(S, cs, -mul(m, cs)))
    kUnfused,  // p = exp(sub(mul(S, cs), mul(m, cs)))
  };
  enum class Rescale : uint8_t {
    kDifference,  // r = exp(mul(sub(m_old, m_new), cs))
    kProducts,    // r = exp(sub(mul(m_old, cs), mul(m_new, cs)))
  };
  enum class Exponential : uint8_t {
    kEx2,    // ex2.approx.ftz
    kExp2f,  // exp2f without fast-math: subnormal results survive
  };
  enum class RowSum : uint8_t {
    kRescaleThenAdd,  // l = mul(l, r), then l = add(l, p) in column order
    kFirstFused,      // l = fma(l, r, first p), then add; in the first tile l starts from the first p
    kTileThenFused,   // the tile's p alone in column order, then l = fma(l, r, tile sum)
  };
  enum class QuadSum : uint8_t {
    kAcross,     // (l0 + l2) + (l1 + l3)
    kNeighbors,  // (l0 + l1) + (l2 + l3)
  };
  enum class Reciprocal : uint8_t {
    kIeee,  // 1 / l, correctly rounded
    kRcp,   // rcp.approx.ftz
  };
  enum class EmptyRow : uint8_t {
    kZero,            // a row without keys: inverse sum 0, LSE -inf
    kOneAndPlusInf,   // inverse sum 1, LSE +inf; NaN sums likewise
    kOneAndMinusInf,  // inverse sum 1, LSE -inf: the parts of a split kernel
  };
  enum class LogSumExp : uint8_t {
    kLogf,         // fma(m, scale, logf(l))
    kFastLog,      // fma(m, scale, mul(lg2.approx.ftz(l), ln 2)): __logf
    kScaledTwice,  // fma(mul(m, cs), ln 2, mul(lg2.approx.ftz(l), ln 2))
  };

  std::string name = "bitflash";
  ScaleLog2 scale_log2 = ScaleLog2::kFromDouble;
  Order key_order = Order::kDescending;
  Exponent exponent = Exponent::kFused;
  Rescale rescale = Rescale::kDifference;
  Exponential exponential = Exponential::kEx2;
  RowSum row_sum = RowSum::kRescaleThenAdd;
  QuadSum quad_sum = QuadSum::kAcross;
  Reciprocal reciprocal = Reciprocal::kIeee;
  EmptyRow empty_row = EmptyRow::kZero;
  LogSumExp log_sum_exp = LogSumExp::kLogf;

  bool operator==(const Recipe&) const = default;
};

// The names of the choices, in one table for both directions. Values stand in the order of their enumeration: the index
// of a value is its enumerator's number.
struct RecipeValue {
  std::string_view name, meaning;  // "unfused", "p = exp(sub(mul(S, cs), mul(m, cs)))"
};
struct RecipeField {
  std::string_view name;  // "exponent"
  std::vector<RecipeValue> values;
  int (*Get)(const Recipe& recipe);
  void (*Set)(Recipe& recipe, int value);
};

// Every choice, in the order of the struct.
const std::vector<RecipeField>& RecipeFields();

// Makes the choice of that name. Throws UsageError that lists the accepted fields, or the accepted values of the field.
void SetChoice(Recipe& recipe, std::string_view field, std::string_view value);

// The same choices, whatever the two are called.
bool SameChoices(const Recipe& a, const Recipe& b);

// One choice in words: {"exponent", "unfused", "p = exp(sub(mul(S, cs), mul(m, cs)))"}.
struct RecipeChoice {
  std::string_view field, value, meaning;
};

// Every choice, in the order of the struct.
std::vector<RecipeChoice> Describe(const Recipe& recipe);

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_RECIPE_H_
