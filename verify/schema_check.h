// Test-only: holds a JSON value against a schema of verify/schemas.
#ifndef BITFLASH_VERIFY_SCHEMA_CHECK_H_
#define BITFLASH_VERIFY_SCHEMA_CHECK_H_

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace bitflash::verify {

// What is wrong with `value`, one line each ("/total/hbm: 'read' is missing"); empty when it is valid. `schema_file` is
// a path; a $ref may name another file beside it. The keywords that our schemas use, of JSON Schema 2020-12: type,
// properties, required, additionalProperties, items, minItems, enum, const, minimum, $ref, $defs; annotations are
// ignored. A schema with any other keyword is itself an error, so that none is silently not checked.
std::vector<std::string> CheckSchema(const nlohmann::json& value, const std::string& schema_file);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_SCHEMA_CHECK_H_
