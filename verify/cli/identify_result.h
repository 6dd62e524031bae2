// What `identify` found, and its two forms: JSON, and text for people.
#ifndef BITFLASH_VERIFY_CLI_IDENTIFY_RESULT_H_
#define BITFLASH_VERIFY_CLI_IDENTIFY_RESULT_H_

#include <optional>
#include <string>
#include <vector>

#include "verify/cli/output.h"
#include "verify/cli/workload.h"
#include "verify/identify/identify.h"

namespace bitflash::verify {

struct IdentifyResult {
  const Workload& workload;
  Identification found;
  std::string inputs;   // "hash-normal, seed 7" or the files
  std::string outputs;  // the files
  bool has_lse = false;
  std::optional<std::string> recipe_path;  // where the recipe was written
  std::string command;                     // replays it
  double seconds = 0;
  int threads = 1;
};

// The arguments of `identify` as a command line of `run` that replays the recipe of the file.
std::string ReplayCommand(const std::vector<std::string>& arguments, const std::string& recipe_path);

// verify/schemas/identify.schema.json.
Json IdentifyJson(const IdentifyResult& result);

std::string IdentifyText(const IdentifyResult& result, bool color);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_IDENTIFY_RESULT_H_
