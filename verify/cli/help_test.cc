// What --help and --version say, and that the examples in it run.
#include <doctest/doctest.h>

#include <sstream>
#include <string>
#include <string_view>

#include "verify/cli/command_testing.h"

namespace bitflash::verify {
namespace {

TEST_CASE("help and version") {
  CHECK(Run("bitflash --version").out == "bitflash " BITFLASH_VERSION "\n");
  const Finished help = Run("bitflash --help");
  CHECK(help.exit_code == 0);
  CHECK(help.out.find("Exit codes: 0 pass, 1 mismatch") != std::string::npos);
  for (const char* command : {"traffic", "tune", "run", "verify", "identify", "tolerance", "gen", "diff", "mma", "sfu",
                              "ncu", "banks", "list", "doctor"}) {
    CAPTURE(command);
    CHECK(help.out.find(std::string("  ") + command) != std::string::npos);
    const Finished one = Run(std::string("bitflash ") + command + " --help");
    CHECK(one.exit_code == 0);
    CHECK(one.err.empty());
    CHECK(one.out.find("Examples:\n  ") != std::string::npos);
    CHECK(one.out == Run(std::string("bitflash help ") + command).out);
  }
}

TEST_CASE("the examples of every help run") {
  for (const char* command : {"traffic", "tune", "run", "verify", "identify", "tolerance", "gen", "diff", "mma", "sfu",
                              "ncu", "banks", "list", "doctor"}) {
    const TemporaryFolder folder;
    REQUIRE(Shell("bitflash gen --heads-q 1 --head-dim 16 --seqlen 8 -o in/ && cp in/q.npy o_cpu.npy && cp in/q.npy "
                  "o_gpu.npy && "
                  "cp in/q.npy a.npy && cp in/q.npy b.npy && bitflash gen --heads-q 1 --head-dim 16 --seqlen 8 -o "
                  "a.safetensors "
                  "&& cp a.safetensors b.safetensors",
                  folder)
                .exit_code == 0);
    std::string text = Shell(std::string("bitflash ") + command + " --help", folder).out;
    std::istringstream help(text.substr(text.find("Examples:")));
    int examples = 0;
    for (std::string line; std::getline(help, line);) {
      // A command stands two blanks in, what it means six.
      if (line.rfind("  ", 0) != 0 || line[2] == ' ' || line.find("bitflash ") == std::string::npos) continue;
      ++examples;
      const Finished finished = Shell(line, folder);
      CAPTURE(line);
      CAPTURE(finished.err);
      // A few examples name files that are not here; a failed assertion is an answer, too.
      const bool names_file =
          line.find(" case.") != std::string::npos || line.find("found.json") != std::string::npos ||
          line.find("identify --q") != std::string::npos || line.find("verify --q") != std::string::npos ||
          line.find("libmykernel.so") != std::string::npos || line.find(" counters.csv") != std::string::npos;
      const bool no_file = names_file && finished.exit_code == 3;
      const bool asserts = line.find("--assert") != std::string::npos && finished.exit_code == 1;
      const bool no_gpu = line.find("--device cuda") != std::string::npos && finished.exit_code == 5;
      const bool finds = line.find("--fault") != std::string::npos && finished.exit_code == 1;
      const bool lets_through = std::string_view(command) == "tolerance" && finished.exit_code == 1;
      CHECK((finished.exit_code == 0 || no_file || asserts || no_gpu || finds || lets_through));
    }
    CHECK(examples >= 1);
  }
}

}  // namespace
}  // namespace bitflash::verify
