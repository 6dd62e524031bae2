// Failing cases as files, and the command lines that judge them again.
#ifndef BITFLASH_VERIFY_CLI_SAVE_CASE_H_
#define BITFLASH_VERIFY_CLI_SAVE_CASE_H_

#include <string>
#include <vector>

#include "verify/cases/case.h"
#include "verify/cli/commands.h"
#include "verify/report.h"

namespace bitflash::verify {

// The command line that was given, as a shell takes it, without --json and the other files that it writes.
std::string CommandText(const Arguments& arguments);

// The same for one saved case: without the flags that made, found or described the tensors, which the file does.
// `dropped` are more of them, each with a value.
std::string ReplayText(const Arguments& arguments, const std::string& path, const std::vector<std::string>& dropped);

// The same for one of many generated cases, by its name.
std::string GeneratedText(const Arguments& arguments, const std::string& name);

// "in-minimal" for "some/in.safetensors": a name beside the file it came from.
std::string MinimalName(const std::string& path);

// Writes DIR/NAME.safetensors, with the folder; letters that mean something to file systems or shells become '_'. The
// path, what the file holds and the command to repeat it are noted in the report. A verdict is worth more than its
// file: where that cannot be written, the report's advice says so.
void SaveCase(CaseReport& report, const std::string& folder, const std::string& name, Case saved,
              const Arguments& arguments, const std::vector<std::string>& dropped = {});

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_SAVE_CASE_H_
