#include "verify/cli/commands.h"

#include <fmt/format.h>

#include <exception>
#include <new>

#include "data/error.h"
#include "verify/cli/command_line.h"
#include "verify/cli/output.h"
#include "verify/cli/suggest.h"
#include "verify/cli/text.h"
#include "verify/subjects/plugin.h"

namespace bitflash::verify {
namespace {

std::string Help() {
  std::string text =
      "Simulates attention kernels on a model of a GPU: every byte they move, every bit they compute.\n\n"
      "Usage: bitflash COMMAND [OPTIONS]\n\nCommands:\n";
  for (const Command& command : Commands()) text += fmt::format("  {:<10}{}\n", command.name, command.summary);
  text +=
      "\n  bitflash COMMAND --help   the options of a command, with examples\n"
      "  bitflash --version        the version\n\n"
      "Exit codes: 0 pass, 1 mismatch or failed assertion, 2 usage, 3 unreadable or invalid input, 4 plug-in failed,\n"
      "5 nothing decided, 6 internal error or the result could not be written\n";
  return text;
}

ExitCode Dispatch(const Arguments& arguments, std::string& speaker) {
  if (arguments.empty()) throw data::UsageError("no command (bitflash --help lists them)");
  const std::string& word = arguments.front();
  if (word == "--help" || word == "-h" || word == "help") {
    if (arguments.size() > 1) return Dispatch({arguments[1], "--help"}, speaker);
    WriteStdout(Help());
    return ExitCode::kPass;
  }
  if (word == "--version" || word == "version") {
    WriteStdout("bitflash " BITFLASH_VERSION "\n");
    return ExitCode::kPass;
  }
  std::vector<std::string> names;
  for (const Command& command : Commands()) {
    if (command.name == word) {
      speaker += " " + word;
      return command.run(Arguments(arguments.begin() + 1, arguments.end()));
    }
    names.push_back(command.name);
  }
  if (word[0] == '-') throw data::UsageError(fmt::format("unknown option '{}' (--help, --version)", Printable(word)));
  throw data::UsageError(UnknownName("command", Printable(word), names));
}

}  // namespace

const std::vector<Command>& Commands() {
  static const std::vector<Command> commands = {
      {"explain", "What FlashAttention changes for a workload on a GPU, in words and numbers", Explain},
      {"traffic", "Bytes of a kernel by memory level and tensor; sweeps, CSV, JSON, assertions", Traffic},
      {"tune", "Tiles, stages, warps and splits that fit, ranked by estimated time, and why the others do not",
       TuneCommand},
      {"run", "Run a kernel bit by bit: O and LSE as the GPU would write them, and their hashes", Run},
      {"verify", "Judge a kernel by its outputs or as a plug-in, and name the mistake when it is wrong", Verify},
      {"identify", "Find the recipe, tile and tensor core that made given outputs, bit by bit", Identify},
      {"tolerance", "Which known mistakes a test with a given tolerance would let through", ToleranceCommand},
      {"gen", "Write inputs Q, K and V that every language can regenerate", Gen},
      {"diff", "Compare two tensor files bit by bit", Diff},
      {"mma", "A tensor core's dot product on bit patterns, line by line", Mma},
      {"sfu", "The special function unit on bit patterns, line by line", Sfu},
      {"ncu", "Predictions against Nsight Compute: the command that measures them, its CSV beside them", Ncu},
      {"banks", "Bank conflicts of a tile in shared memory, for layouts and instructions", Banks},
      {"list", "What is built in: gpus, models, kernels, recipes, formats, masks, distributions, faults", List},
      {"doctor", "What this build and this machine have", Doctor},
  };
  return commands;
}

ExitCode RunCommandLine(const Arguments& arguments) {
  std::string speaker = "bitflash";
  const auto fail = [&](ExitCode code, std::string_view what) {
    WriteError(Shorten(fmt::format("{}: {}", speaker, Printable(what))));
    return code;
  };
  try {
    return Dispatch(arguments, speaker);
  } catch (const HelpRequested& help) {
    try {
      WriteStdout(help.text);
    } catch (const OutputError& error) {
      return error.reader_has_left ? ExitCode::kInternal : fail(ExitCode::kInternal, error.what());
    }
    return ExitCode::kPass;
  } catch (const OutputError& error) {
    return error.reader_has_left ? ExitCode::kInternal : fail(ExitCode::kInternal, error.what());
  } catch (const data::UsageError& error) {
    return fail(ExitCode::kUsage, error.what());
  } catch (const data::InputError& error) {
    return fail(ExitCode::kInput, error.what());
  } catch (const data::UndecidedError& error) {
    return fail(ExitCode::kUndecided, error.what());
  } catch (const PluginError& error) {
    return fail(ExitCode::kPlugin, error.what());
  } catch (const std::bad_alloc&) {
    return fail(ExitCode::kInternal, "not enough memory");
  } catch (const std::exception& error) {
    return fail(ExitCode::kInternal, fmt::format("internal error: {}", error.what()));
  }
}

}  // namespace bitflash::verify
