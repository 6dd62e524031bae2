// The examples of README.md and README.zh-CN.md, run as a reader would: every command that shows an output prints it,
// the others succeed. A line "..." stands for any lines, "..." in a line for any text; runs of spaces count as one.
#include <doctest/doctest.h>

#include <filesystem>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "verify/cli/shell.h"

namespace bitflash::verify {
namespace {

namespace fs = std::filesystem;

struct Example {
  int line = 0;  // of the file, counted from 1
  std::string command;
  std::vector<std::string> output;  // as the document shows it; empty: it shows none
};

// Words without the spaces around them, joined by one.
std::string Folded(const std::string& line) {
  std::istringstream in(line);
  std::string folded;
  for (std::string word; in >> word;) folded += (folded.empty() ? "" : " ") + word;
  return folded;
}

// In blocks of code, what follows "$ ".
std::vector<Example> ExamplesOf(const std::string& document) {
  std::vector<Example> examples;
  bool code = false, open = false;
  const std::vector<std::string> lines = Lines(document);
  for (size_t n = 0; n < lines.size(); ++n) {
    if (lines[n].starts_with("```")) {
      code = !code;
      open = false;
    } else if (code && lines[n].starts_with("$ ")) {
      examples.push_back({static_cast<int>(n + 1), lines[n].substr(2), {}});
      open = true;
    } else if (open) {
      examples.back().output.push_back(Folded(lines[n]));
    }
  }
  return examples;
}

// What a test cannot have: a GPU, a reader's own files, another build.
bool CanRun(const std::string& command) {
  for (const char* other : {"--device cuda", "libmykernel", "from-the-gpu", "counters.csv", "cmake ", "peers.py"}) {
    if (command.find(other) != std::string::npos) return false;
  }
  return true;
}

bool LineMatches(const std::string& shown, const std::string& printed) {
  constexpr std::string_view kAny = "...";
  size_t at = 0, begin = 0;
  for (size_t end; (end = shown.find(kAny, begin)) != std::string::npos; begin = end + kAny.size()) {
    const std::string piece = shown.substr(begin, end - begin);
    const size_t found = printed.find(piece, at);
    if (found == std::string::npos || (begin == 0 && found != 0)) return false;
    at = found + piece.size();
  }
  const std::string rest = shown.substr(begin);
  if (begin == 0) return printed == rest;
  return printed.size() >= at + rest.size() && printed.ends_with(rest);
}

// The first line of `shown` that `printed` has not at its place; empty when it has them all.
std::string Missing(const std::vector<std::string>& shown, const std::vector<std::string>& printed) {
  size_t at = 0;
  bool skips = false;
  for (const std::string& line : shown) {
    if (line == "...") {
      skips = true;
      continue;
    }
    const size_t last = skips ? printed.size() : std::min(printed.size(), at + 1);
    while (at < last && !LineMatches(line, printed[at])) ++at;
    if (at == last) return line;
    ++at;
    skips = false;
  }
  return skips || at == printed.size() ? "" : "... (more is printed)";
}

// One folder, with the files that the documents speak of. A command that both show runs once.
class Reader {
 public:
  Reader() {
    fs::create_directory_symlink(BITFLASH_SOURCE_DIR "/data", folder_.path() + "/data");
    fs::create_symlink(BITFLASH_BINARY_DIR "/plugin_faulty.so", folder_.path() + "/plugin_faulty.so");
  }

  const Finished& Run(const std::string& command) {
    const auto [entry, is_new] = finished_.try_emplace(Folded(command.substr(0, command.find(" # "))));
    if (is_new) entry->second = Shell(command, folder_);
    return entry->second;
  }

 private:
  TemporaryFolder folder_;
  std::map<std::string, Finished> finished_;
};

void CheckExamples(Reader& reader, const std::string& name) {
  const std::vector<Example> examples = ExamplesOf(ReadText(std::string(BITFLASH_SOURCE_DIR "/") + name));
  int shown = 0;
  for (const Example& example : examples) {
    if (!CanRun(example.command)) continue;
    const Finished& finished = reader.Run(example.command);
    INFO(name << ":" << example.line << ": " << example.command << "\nprints\n" << finished.out << finished.err);
    if (example.output.empty()) {
      CHECK(finished.exit_code == 0);
      continue;
    }
    std::vector<std::string> printed = Lines(finished.out);
    for (std::string& line : printed) line = Folded(line);
    CHECK(Missing(example.output, printed) == "");
    ++shown;
  }
  CHECK(shown >= 2);
}

TEST_CASE("the examples of README.md and README.zh-CN.md print what these show") {
  Reader reader;
  CheckExamples(reader, "README.md");
  CheckExamples(reader, "README.zh-CN.md");
}

TEST_CASE("a document's example is compared line by line") {
  CHECK(Missing({"a", "...", "c ... e"}, {"a", "b", "c d e"}) == "");
  CHECK(Missing({"a", "c"}, {"a", "b", "c"}) == "c");
  CHECK(Missing({"a"}, {"a", "b"}) != "");
  CHECK(Missing({"a", "..."}, {"a", "b"}) == "");
  CHECK(Missing({"a 1 ..."}, {"a 2 b"}) == "a 1 ...");
  CHECK(Missing({"... b"}, {"a bc"}) == "... b");
}

}  // namespace
}  // namespace bitflash::verify
