#include "verify/cli/assertion.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <vector>

#include "data/error.h"
#include "verify/cli/suggest.h"
#include "verify/cli/text.h"

namespace bitflash::verify {
namespace {

using data::UsageError;
using Operator = Assertion::Operator;

std::string_view Trim(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

// Powers of 1000 and of 1024 by unit; 0 for a unit that there is not.
long double UnitFactor(std::string_view unit) {
  if (unit.empty() || unit == "B") return 1;
  const size_t power = std::string_view("KMGTP").find(unit[0]);
  if (power == std::string_view::npos) return 0;
  const std::string_view rest = unit.substr(1);
  if (rest.empty() || rest == "B") return std::pow(1000.0L, static_cast<int>(power) + 1);
  if (rest == "iB") return std::pow(1024.0L, static_cast<int>(power) + 1);
  return 0;
}

bool Compare(long double value, Operator op, long double limit) {
  switch (op) {
    case Operator::kLess:
      return value < limit;
    case Operator::kLessEqual:
      return value <= limit;
    case Operator::kEqual:
      return value == limit;
    case Operator::kNotEqual:
      return value != limit;
    case Operator::kGreaterEqual:
      return value >= limit;
    case Operator::kGreater:
      return value > limit;
  }
  return false;
}

bool IsThreeNumbers(const Json& node) { return node.is_object() && node.contains("requested"); }

// The fields that name a number, those of single tensors excepted: they are many.
void ListFields(const Json& node, const std::string& path, std::vector<std::string>& fields) {
  if (path == "tensors") return;
  if (node.is_number() || IsThreeNumbers(node)) fields.push_back(path);
  if (!node.is_object()) return;
  for (const auto& [key, child] : node.items()) {
    if (!child.is_null()) ListFields(child, path.empty() ? key : fmt::format("{}.{}", path, key), fields);
  }
}

}  // namespace

Assertion ParseAssertion(std::string_view text) {
  struct Spelling {
    std::string_view text;
    Operator op;
  };
  constexpr Spelling kSpellings[] = {{"<=", Operator::kLessEqual}, {">=", Operator::kGreaterEqual},
                                     {"==", Operator::kEqual},     {"!=", Operator::kNotEqual},
                                     {"<", Operator::kLess},       {">", Operator::kGreater}};
  const auto fail = [&](std::string_view why) {
    throw UsageError(
        fmt::format("--assert: '{}' {}; expected FIELD OP VALUE such as \"hbm.read<=1.2GB\" (operators: "
                    "<= < >= > == !=; units: B KB MB GB TB PB KiB MiB GiB TiB PiB, or none)",
                    Printable(text), why));
  };
  Assertion assertion;
  assertion.text = text;
  const size_t at = text.find_first_of("<>=!");
  if (at == std::string_view::npos) fail("has no operator");
  const Spelling* found = nullptr;
  for (const Spelling& spelling : kSpellings) {
    if (text.substr(at, spelling.text.size()) == spelling.text) {
      found = &spelling;
      break;
    }
  }
  if (found == nullptr) fail("has no operator");
  assertion.op = found->op;
  assertion.field = Trim(text.substr(0, at));
  if (assertion.field.empty()) fail("has no field");

  const std::string_view value = Trim(text.substr(at + found->text.size()));
  double digits = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), digits);
  const std::string_view unit = Trim(value.substr(error == std::errc() ? end - value.data() : 0));
  const long double factor = UnitFactor(unit);
  if (error != std::errc() || !std::isfinite(digits) || std::signbit(digits)) fail("compares with no number");
  if (factor == 0) fail(fmt::format("has the unknown unit '{}'", Printable(unit)));
  // A whole number without a unit is taken exactly; from_chars above has rounded it to 53 bits.
  uint64_t whole = 0;
  const auto [whole_end, whole_error] = std::from_chars(value.data(), value.data() + value.size(), whole);
  const bool exact = whole_error == std::errc() && whole_end == end;
  // 1.2 has no finite binary fraction, 1.2GB is a whole number of bytes: what rounding left beside it is rounded away.
  const long double rounded = std::round(static_cast<long double>(digits) * factor * 1024) / 1024;
  assertion.limit = exact ? static_cast<long double>(whole) * factor : rounded;
  return assertion;
}

Outcome Evaluate(const Assertion& assertion, const Json& total) {
  const Json* node = &total;
  std::string field = assertion.field;
  for (std::string_view rest = assertion.field; node != nullptr;) {
    const size_t dot = rest.find('.');
    const std::string key(rest.substr(0, dot));
    node = node->is_object() && node->contains(key) ? &(*node)[key] : nullptr;
    if (dot == std::string_view::npos) break;
    rest.remove_prefix(dot + 1);
  }
  if (node != nullptr && IsThreeNumbers(*node)) {
    const char* which = (*node)["predicted"].is_null() ? "requested" : "predicted";
    field += std::string(".") + which;
    node = &(*node)[which];
  }
  if (node == nullptr || !node->is_number()) {
    std::vector<std::string> accepted;
    ListFields(total, "", accepted);
    if (node != nullptr && node->is_null()) {
      throw UsageError(
          fmt::format("--assert: '{}' is not known for this kernel (accepted: {})", assertion.field, Join(accepted)));
    }
    throw UsageError("--assert: " + UnknownName("field", Printable(assertion.field), accepted) +
                     ", or tensors.NAME. before hbm, l2_to_sm, shared or register");
  }
  const int64_t value = node->get<int64_t>();
  return {Compare(static_cast<long double>(value), assertion.op, assertion.limit), field, value};
}

}  // namespace bitflash::verify
