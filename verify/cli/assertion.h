// --assert "hbm.read<=1.2GB": a claim about a result that a CI job can hold a kernel to.
#ifndef BITFLASH_VERIFY_CLI_ASSERTION_H_
#define BITFLASH_VERIFY_CLI_ASSERTION_H_

#include <string>
#include <string_view>

#include "verify/cli/output.h"

namespace bitflash::verify {

struct Assertion {
  enum class Operator { kLess, kLessEqual, kEqual, kNotEqual, kGreaterEqual, kGreater };

  std::string text;   // as written
  std::string field;  // "hbm.read"
  Operator op = Operator::kEqual;
  long double limit = 0;  // in bytes or operations; 64 bits of fraction hold every int64
};

// FIELD OP VALUE[UNIT]; blanks are allowed between them. OP is <= < >= > == or !=. UNIT is B, K M G T P with or without
// B (powers of 1000), or KiB MiB GiB TiB PiB. Throws UsageError. The field is checked by Evaluate.
Assertion ParseAssertion(std::string_view text);

struct Outcome {
  bool holds = false;
  std::string field;  // the number that was compared: "hbm.read.requested"
  int64_t value = 0;
};

// `total` is the object of that name in the JSON result. A field names a number in it by dotted path; a field that has
// the three numbers of HBM traffic (hbm.read) means `predicted` where it is known, else `requested`. Throws UsageError
// with the accepted fields.
Outcome Evaluate(const Assertion& assertion, const Json& total);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_ASSERTION_H_
