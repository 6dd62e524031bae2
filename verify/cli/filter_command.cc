#include "verify/cli/filter_command.h"

#include <fmt/format.h>
#include <unistd.h>

#include "data/error.h"

namespace bitflash::verify {

ExitCode RunFilter(Output& output, const std::optional<std::string>& path, const LineFilter& filter, Json json) {
  if (path && path->empty()) throw data::UsageError("FILE: '' is no file name (- is standard input)");
  const std::string from = path.value_or("-");
  if (from == "-" && isatty(STDIN_FILENO)) output.Note("reading lines from the terminal; end with Control-D");
  const FilteredInput input = FilterLines(from, filter, [&output](std::string_view text) {
    if (output.wants_text()) WriteStdout(text);
  });
  json["version"] = BITFLASH_VERSION;
  json["input"] = from;
  json["lines"] = input.lines;
  json["hash"] = fmt::format("{:016x}", input.hash);
  if (output.wants_json()) output.JsonResult(json);
  output.Finish();
  return ExitCode::kPass;
}

}  // namespace bitflash::verify
