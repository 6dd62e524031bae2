#include "verify/cli/output.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <omp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>

#include "data/atomic_file.h"
#include "data/error.h"
#include "verify/cli/numbers.h"
#include "verify/cli/suggest.h"
#include "verify/cli/text.h"

namespace bitflash::verify {
namespace {

using data::UsageError;

constexpr int64_t kMostThreads = 1024;

std::string Choice(std::string_view flag, const std::string& value, const std::vector<std::string>& accepted) {
  for (const std::string& word : accepted) {
    if (value == word) return value;
  }
  throw UsageError(UnknownName(fmt::format("value of {}:", flag), Printable(value), accepted));
}

bool WantsColor(const OutputFlags& flags) {
  const std::string when = Choice("--color", flags.color.value_or("auto"), {"auto", "always", "never"});
  if (flags.no_color && flags.color && when != "never") {
    throw UsageError(fmt::format("--no-color contradicts --color {}", when));
  }
  if (flags.no_color || when == "never") return false;
  if (when == "always") return true;
  const char* no_color = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  return !(no_color && *no_color) && !(term && std::strcmp(term, "dumb") == 0) && isatty(STDOUT_FILENO);
}

// Returns 0 or the errno of the failure. A signal that interrupts and a short write are not failures.
int WriteAll(int descriptor, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(descriptor, bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return errno;
    }
    bytes.remove_prefix(written);
  }
  return 0;
}

[[noreturn]] void FailToWrite(const std::string& what, int error) {
  throw OutputError(fmt::format("{}: cannot be written: {}", what, std::strerror(error)), error == EPIPE);
}

}  // namespace

void AddOutputFlags(CommandLine& line, OutputFlags& flags, OutputFeatures features) {
  line.AddFileOption("--json", flags.json, "Result as JSON on standard output, or into FILE beside the text");
  if (features.csv) {
    line.AddFileOption("--csv", flags.csv, "Result as CSV on standard output, or into FILE beside the text");
  }
  line.AddOption("--color", flags.color, "WHEN", "Colours: auto (a terminal and no NO_COLOR), always, never");
  line.AddFlag("--no-color", flags.no_color, "The same as --color never");
  if (features.lang) line.AddOption("--lang", flags.lang, "LANG", "Language of the text: en, zh");
  line.AddOption("-j,--threads", flags.threads, "N", "Threads; the result does not depend on it (default: all)");
  line.AddFlag("--quiet", flags.quiet, "No notes and no progress on standard error");
}

Output::Output(std::string command, const OutputFlags& flags)
    : command_(std::move(command)), json_(flags.json), csv_(flags.csv), quiet_(flags.quiet) {
  if (json_ == "-" && csv_ == "-") {
    throw UsageError("--json and --csv cannot both go to standard output; write one into a file: --csv=FILE");
  }
  if (json_ == "" || csv_ == "")
    throw UsageError(json_ == "" ? "--json= needs a file name" : "--csv= needs a file name");
  color_ = WantsColor(flags);
  if (Choice("--lang", flags.lang.value_or("en"), {"en", "zh"}) == "zh") language_ = Language::kChinese;
  if (flags.threads) omp_set_num_threads(static_cast<int>(ParseCount("-j", *flags.threads, 1, kMostThreads)));
}

void Output::Text(std::string_view text) {
  if (wants_text()) stdout_ += text;
}

void Output::JsonResult(const Json& json) {
  // Invalid UTF-8 can only come from a file name or a foreign file; it is replaced rather than refused.
  const std::string text = json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  if (json_ == "-") stdout_ += text;
  if (json_ && json_ != "-") json_text_ += text;
}

void Output::CsvResult(std::string_view csv) {
  if (csv_ == "-") stdout_ += csv;
  if (csv_ && csv_ != "-") csv_text_ += csv;
}

void Output::Note(std::string_view note) const {
  if (!quiet_) WriteError(fmt::format("bitflash {}: note: {}", command_, Printable(note)));
}

void Output::Finish() {
  if (json_ && json_ != "-") WriteFile(*json_, json_text_);
  if (csv_ && csv_ != "-") WriteFile(*csv_, csv_text_);
  WriteStdout(stdout_);
  stdout_.clear();
}

Progress::Progress(const Output& output, std::string what, int64_t total)
    : what_(std::move(what)), total_(total), enabled_(total > 0 && !output.quiet() && isatty(STDERR_FILENO)) {}

Progress::~Progress() {
  if (enabled_ && shown_percent_ >= 0) WriteAll(STDERR_FILENO, "\r\x1b[K");  // ECMA-48 EL: erase the line
}

void Progress::Advance(int64_t done) {
  if (!enabled_) return;
  const int percent = static_cast<int>(100.0 * static_cast<double>(done) / static_cast<double>(total_));
  if (percent == shown_percent_) return;
  shown_percent_ = percent;
  constexpr int kBar = 30;
  const int full = kBar * percent / 100;
  WriteAll(STDERR_FILENO,
           fmt::format("\r{} [{}{}] {:3} %", what_, std::string(full, '#'), std::string(kBar - full, '.'), percent));
}

void WriteStdout(std::string_view bytes) {
  if (const int error = WriteAll(STDOUT_FILENO, bytes)) FailToWrite("standard output", error);
}

void WriteError(std::string_view line) { WriteAll(STDERR_FILENO, std::string(line) + "\n"); }

void WriteFile(const std::string& path, std::string_view bytes) {
  struct stat status {
  }, standard_output{};
  const bool exists = stat(path.c_str(), &status) == 0;
  if (exists && S_ISDIR(status.st_mode)) FailToWrite(path, EISDIR);
  // /dev/stdout: what is behind it may be a regular file, and replacing that would lose what else is written there.
  if (exists && fstat(STDOUT_FILENO, &standard_output) == 0 && status.st_dev == standard_output.st_dev &&
      status.st_ino == standard_output.st_ino) {
    if (const int error = WriteAll(STDOUT_FILENO, bytes)) FailToWrite(path, error);
    return;
  }
  if (!exists || S_ISREG(status.st_mode)) {
    try {
      return data::WriteFileAtomically(path, bytes);
    } catch (const data::InputError& error) {
      throw OutputError(error.what());
    }
  }
  const int descriptor = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (descriptor < 0) FailToWrite(path, errno);
  int error = WriteAll(descriptor, bytes);
  if (close(descriptor) != 0 && error == 0) error = errno;
  if (error != 0) FailToWrite(path, error);
}

std::string CsvCell(std::string_view value) {
  if (value.find_first_of(",\"\r\n") == std::string_view::npos) return std::string(value);
  std::string cell = "\"";
  for (const char c : value) cell += c == '"' ? std::string("\"\"") : std::string(1, c);
  return cell + "\"";
}

}  // namespace bitflash::verify
