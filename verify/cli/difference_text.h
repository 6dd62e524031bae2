// What compare.h finds, said to people and as JSON: the same words in every command that compares.
#ifndef BITFLASH_VERIFY_CLI_DIFFERENCE_TEXT_H_
#define BITFLASH_VERIFY_CLI_DIFFERENCE_TEXT_H_

#include <string>

#include "verify/cli/output.h"
#include "verify/judge/compare.h"

namespace bitflash::verify {

struct NamedDifference {
  std::string name;  // "o", or "o / o_ref" when the names differ
  Difference difference;
};

// What the two sides are called: "A" and "B", "device" and "simulated".
struct SideNames {
  std::string a = "A", b = "B";
};

// One line when the tensors are identical, up to seven when they are not.
std::string DifferenceText(const NamedDifference& named, const SideNames& sides, bool color);

// "tensor" in verify/schemas/diff.schema.json.
Json DifferenceJson(const NamedDifference& named);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_DIFFERENCE_TEXT_H_
