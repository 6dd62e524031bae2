// Test-only: runs command lines as a user types them.
#ifndef BITFLASH_VERIFY_CLI_SHELL_H_
#define BITFLASH_VERIFY_CLI_SHELL_H_

#include <string>
#include <vector>

namespace bitflash::verify {

struct Finished {
  int exit_code = -1;  // as a shell reports it: 128 + signal when killed
  std::string out;     // standard output
  std::string err;     // standard error
};

// A new folder that is removed, with what is in it, at the end.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Runs `command` with /bin/sh in a folder; `bitflash` is the executable of this build. Environment variables that
// change what bitflash prints are unset.
Finished Shell(const std::string& command, const TemporaryFolder& folder);

// Without their ends.
std::vector<std::string> Lines(const std::string& text);

std::string ReadText(const std::string& path);
void WriteText(const std::string& path, const std::string& text);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_SHELL_H_
