// The list of subcommands, and how one of them is run.
#ifndef BITFLASH_VERIFY_CLI_COMMANDS_H_
#define BITFLASH_VERIFY_CLI_COMMANDS_H_

#include <string>
#include <vector>

#include "verify/cli/exit_code.h"

namespace bitflash::verify {

using Arguments = std::vector<std::string>;  // the words after the subcommand

// One file each: traffic.cc defines Traffic. Errors are thrown (data/error.h, OutputError).
ExitCode Explain(const Arguments& arguments);
ExitCode Traffic(const Arguments& arguments);
ExitCode TuneCommand(const Arguments& arguments);  // tune.cc
ExitCode List(const Arguments& arguments);
ExitCode Doctor(const Arguments& arguments);
ExitCode Gen(const Arguments& arguments);
ExitCode Diff(const Arguments& arguments);
ExitCode Run(const Arguments& arguments);
ExitCode Verify(const Arguments& arguments);
ExitCode Identify(const Arguments& arguments);
ExitCode ToleranceCommand(const Arguments& arguments);  // tolerance.cc
ExitCode Mma(const Arguments& arguments);
ExitCode Sfu(const Arguments& arguments);
ExitCode Ncu(const Arguments& arguments);
ExitCode Banks(const Arguments& arguments);

struct Command {
  std::string name;
  std::string summary;  // one line of `bitflash --help`
  ExitCode (*run)(const Arguments& arguments);
};

const std::vector<Command>& Commands();

// The whole program: words after the program's name in, exit code out. Every error is one line on standard error,
// "bitflash traffic: ...".
ExitCode RunCommandLine(const Arguments& arguments);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_COMMANDS_H_
