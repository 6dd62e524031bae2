// Test-only: `bitflash verify` as its users run it, with everything that must hold whatever it finds.
#ifndef BITFLASH_VERIFY_CLI_VERDICT_TESTING_H_
#define BITFLASH_VERIFY_CLI_VERDICT_TESTING_H_

#include <nlohmann/json.hpp>
#include <string>

#include "verify/cli/shell.h"

namespace bitflash::verify {

struct Judged {
  int exit_code = -1;
  std::string text;     // standard output
  std::string err;      // standard error
  nlohmann::json json;  // of --json=FILE
  std::string junit;

  const nlohmann::json& only() const { return json["cases"][0]; }
  std::string rung() const { return only()["judgement"].is_null() ? "" : only()["judgement"]["rung"]; }
};

// Runs `bitflash verify` with these options and writes v.json and v.xml into the folder, which it removes again. Checks
// the JSON against its schema; that exit code, last line, JSON and JUnit say the same; that text is one screen and has
// no control characters.
Judged RunVerify(const std::string& options, const TemporaryFolder& folder);

// Without what depends on the machine: every member named seconds or ..._seconds.
nlohmann::json WithoutTimes(nlohmann::json json);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_VERDICT_TESTING_H_
