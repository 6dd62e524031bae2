// A report of `verify` (report.h) for people, one screen a case, and as JSON.
#ifndef BITFLASH_VERIFY_CLI_VERDICT_TEXT_H_
#define BITFLASH_VERIFY_CLI_VERDICT_TEXT_H_

#include <string>

#include "verify/cli/output.h"
#include "verify/report.h"

namespace bitflash::verify {

// A failing case in full; of passing ones a line when there are many. Ends with "RESULT pass=1 fail=0 undecided=0"; a
// plug-in that broke counts as a failure there.
std::string ReportText(const Report& report, bool color);

// verify/schemas/verdict.schema.json.
Json ReportJson(const Report& report);

// "(1, 0, 3, 17)", an element of O, or "(1, 0, 3)", a row's LSE.
std::string IndexText(const Element& element, bool lse);

// Shortest decimal text that reads back as the same number.
std::string Shortest(double value);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_VERDICT_TEXT_H_
