// The explanation for programs: verify/schemas/explain.schema.json describes it.
#ifndef BITFLASH_VERIFY_CLI_EXPLAIN_JSON_H_
#define BITFLASH_VERIFY_CLI_EXPLAIN_JSON_H_

#include "verify/cli/catalogue.h"
#include "verify/cli/document.h"
#include "verify/cli/output.h"
#include "verify/predict/explain.h"

namespace bitflash::verify {

// All numbers of the analysis, exact, and the texts of `document` in its language.
Json ExplanationJson(const Explanation& explanation, const Document& document, const Catalogue& catalogue);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_EXPLAIN_JSON_H_
