// What the process says to its caller. The only place that knows the numbers.
#ifndef BITFLASH_VERIFY_CLI_EXIT_CODE_H_
#define BITFLASH_VERIFY_CLI_EXIT_CODE_H_

#include <stdexcept>
#include <string>

namespace bitflash::verify {

// 77 is avoided (test drivers read it as "skipped") and so is everything from 126 on (shells use it).
enum class ExitCode : int {
  kPass = 0,
  kMismatch = 1,   // a mismatch, or an --assert that does not hold
  kUsage = 2,      // the command line is wrong
  kInput = 3,      // a file cannot be read or its content is invalid
  kPlugin = 4,     // a plug-in kernel failed
  kUndecided = 5,  // nothing was decided; never a pass
  kInternal = 6,   // a defect of bitflash, or the result could not be written (full disk, closed pipe)
};

// The result exists but could not be written.
struct OutputError : std::runtime_error {
  explicit OutputError(const std::string& what, bool reader_left = false)
      : std::runtime_error(what), reader_has_left(reader_left) {}
  // The other end of a pipe was closed, as by `| head`: the caller has seen enough, so no message is printed.
  bool reader_has_left;
};

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_EXIT_CODE_H_
