// Test-only: a command of the executable, and its JSON held against its schema.
#ifndef BITFLASH_VERIFY_CLI_COMMAND_TESTING_H_
#define BITFLASH_VERIFY_CLI_COMMAND_TESTING_H_

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "verify/cli/shell.h"
#include "verify/schema_check.h"

namespace bitflash::verify {

using Json = nlohmann::json;

inline Finished Run(const std::string& command) { return Shell(command, TemporaryFolder()); }

// `schema`: the name of a file of verify/schemas without its ending.
inline Json CheckedJson(const Finished& finished, const std::string& command, const std::string& schema,
                        int exit_code = 0) {
  CAPTURE(command);
  CAPTURE(finished.err);
  REQUIRE(finished.exit_code == exit_code);
  const Json json = Json::parse(finished.out);
  for (const std::string& error : CheckSchema(json, BITFLASH_SOURCE_DIR "/verify/schemas/" + schema + ".schema.json")) {
    FAIL_CHECK(error);
  }
  return json;
}

inline Json ValidJson(const std::string& command, const std::string& schema, int exit_code = 0) {
  return CheckedJson(Run(command), command, schema, exit_code);
}

inline Json ValidJson(const std::string& command, const std::string& schema, const TemporaryFolder& folder) {
  return CheckedJson(Shell(command, folder), command, schema);
}

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_COMMAND_TESTING_H_
