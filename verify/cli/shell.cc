#include "verify/cli/shell.h"

#include <stdlib.h>
#include <sys/wait.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace bitflash::verify {

TemporaryFolder::TemporaryFolder() {
  std::string name = std::filesystem::temp_directory_path() / "bitflash-test-XXXXXX";
  if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder " + name);
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

Finished Shell(const std::string& command, const TemporaryFolder& folder) {
  // The streams live outside the folder that the command sees.
  const TemporaryFolder streams;
  const std::string script = streams.path() + "/script";
  WriteText(script, "unset NO_COLOR\nTERM=xterm\nPATH='" BITFLASH_BINARY_DIR "':\"$PATH\"\ncd '" + folder.path() +
                        "'\n" + command + "\n");
  const std::string line =
      "/bin/sh '" + script + "' >'" + streams.path() + "/out' 2>'" + streams.path() + "/err' </dev/null";
  const int status = std::system(line.c_str());
  Finished finished;
  finished.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  finished.out = ReadText(streams.path() + "/out");
  finished.err = ReadText(streams.path() + "/err");
  return finished;
}

std::string ReadText(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

std::vector<std::string> Lines(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

void WriteText(const std::string& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

}  // namespace bitflash::verify
