// Test-only: what running plug-ins could leave behind.
#ifndef BITFLASH_VERIFY_SUBJECTS_LEFTOVERS_TESTING_H_
#define BITFLASH_VERIFY_SUBJECTS_LEFTOVERS_TESTING_H_

#include <doctest/doctest.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <optional>
#include <string>

#include "verify/cli/shell.h"

namespace bitflash::verify {

// Processes are recognised by a variable in their environment, whoever their parent is; temporary files by the folder
// that TMPDIR names.
class Leftovers {
 public:
  Leftovers() {
    if (const char* folder = getenv("TMPDIR")) former_ = folder;
    setenv("TMPDIR", folder_.path().c_str(), 1);
    setenv("BITFLASH_TEST_MARK", mark_.c_str(), 1);
    descriptors_ = Descriptors();
  }
  ~Leftovers() {
    former_ ? setenv("TMPDIR", former_->c_str(), 1) : unsetenv("TMPDIR");
    unsetenv("BITFLASH_TEST_MARK");
  }
  void CheckNone() const {
    namespace fs = std::filesystem;
    CHECK(Processes() == 0);
    CHECK(Descriptors() == descriptors_);
    for (const auto& entry : fs::directory_iterator(".")) {
      CHECK(entry.path().filename().string().find("core") != 0);
    }
    CHECK(fs::is_empty(folder_.path()));
    for (const auto& entry : fs::directory_iterator("/dev/shm")) {
      CHECK(entry.path().filename().string().find("bitflash") == std::string::npos);
    }
  }
  int Processes() const {
    int count = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      const std::string name = entry.path().filename();
      if (name.find_first_not_of("0123456789") != std::string::npos || name == std::to_string(getpid())) continue;
      count += ReadText(entry.path().string() + "/environ").find(mark_) != std::string::npos;
    }
    return count;
  }

 private:
  static int64_t Descriptors() {
    namespace fs = std::filesystem;
    return std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator());
  }

  TemporaryFolder folder_;
  std::string mark_ = folder_.path();
  std::optional<std::string> former_;
  int64_t descriptors_ = 0;
};

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_SUBJECTS_LEFTOVERS_TESTING_H_
