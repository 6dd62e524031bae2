// What the commands that filter lines do alike.
#ifndef BITFLASH_VERIFY_CLI_FILTER_COMMAND_H_
#define BITFLASH_VERIFY_CLI_FILTER_COMMAND_H_

#include <nlohmann/json.hpp>  // its callers write one down
#include <optional>
#include <string>

#include "verify/cli/line_filter.h"
#include "verify/cli/output.h"

namespace bitflash::verify {

// Streams the input through the filter to standard output, or, with --json there, only a summary: `json` with the
// version, the source, the number of lines and the hash of the results.
ExitCode RunFilter(Output& output, const std::optional<std::string>& path, const LineFilter& filter, Json json);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_FILTER_COMMAND_H_
