// The executable `bitflash`.
#include <signal.h>

#include "verify/cli/commands.h"

int main(int argc, char** argv) {
  // A closed pipe becomes an error of write(), which has an exit code, instead of a signal.
  signal(SIGPIPE, SIG_IGN);
  // argc is 0 when a caller passes no argv at all (execve allows it).
  const bitflash::verify::Arguments arguments(argv + (argc > 0 ? 1 : 0), argv + argc);
  return static_cast<int>(bitflash::verify::RunCommandLine(arguments));
}
