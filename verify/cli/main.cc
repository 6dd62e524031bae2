// The executable `bitflash`.
#include <signal.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "verify/cli/commands.h"

int main(int argc, char** argv) {
#ifdef __GLIBC__
  // A sweep asks for the same megabytes for every shape: they stay with the process instead of being mapped, filled
  // with zeros page by page and given back each time.
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 256 << 20);
#endif
  // A closed pipe becomes an error of write(), which has an exit code, instead of a signal.
  signal(SIGPIPE, SIG_IGN);
  // argc is 0 when a caller passes no argv at all (execve allows it).
  const bitflash::verify::Arguments arguments(argv + (argc > 0 ? 1 : 0), argv + argc);
  return static_cast<int>(bitflash::verify::RunCommandLine(arguments));
}
