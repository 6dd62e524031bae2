#include "verify/report.h"

#include <algorithm>
#include <cstdio>

namespace bitflash::verify {

std::string_view Name(Outcome outcome) {
  switch (outcome) {
    case Outcome::kPass:
      return "pass";
    case Outcome::kFail:
      return "fail";
    case Outcome::kBroken:
      return "broken";
    case Outcome::kUndecided:
      break;
  }
  return "undecided";
}

std::string RelationText(const MetamorphicResult& check) {
  if (check.status != MetamorphicStatus::kFailed) return check.note;
  char numbers[96];
  std::snprintf(numbers, sizeof numbers, ", largest error %.3g with bound %.3g", check.error, check.bound);
  return check.compared + ": " + std::to_string(check.failures) + " elements beyond their bounds, first " +
         data::ShapeString(check.index) + numbers + "; " + check.suggests;
}

int64_t Report::Count(Outcome outcome) const {
  return std::ranges::count_if(cases, [&](const CaseReport& c) { return c.outcome == outcome; });
}

}  // namespace bitflash::verify
