// What the elements that a recipe does not explain point to.
#ifndef BITFLASH_VERIFY_IDENTIFY_IDENTIFY_HINTS_H_
#define BITFLASH_VERIFY_IDENTIFY_IDENTIFY_HINTS_H_

#include <string>
#include <vector>

#include "verify/identify/identify_race.h"

namespace bitflash::verify {

// For rows in which several elements differ by little: the key whose row of V, divided by the output's ulp, the
// residual in ulps follows, when one does (correlation above 0.9). Its probability was rounded the other way, so what
// differs is the argument of its exponential.
std::vector<KeyHint> FindKeyHints(const Candidate& candidate, const Blocks& blocks, const Verification& verification);

// In words, most likely first.
std::vector<std::string> Suggest(const Verification& verification, const std::vector<KeyHint>& hints);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_IDENTIFY_IDENTIFY_HINTS_H_
