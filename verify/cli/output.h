// Where results, notes and progress go: the output flags that every command shares, and the only code that writes.
#ifndef BITFLASH_VERIFY_CLI_OUTPUT_H_
#define BITFLASH_VERIFY_CLI_OUTPUT_H_

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "verify/cli/command_line.h"
#include "verify/cli/exit_code.h"

namespace bitflash::verify {

using Json = nlohmann::ordered_json;

enum class Language { kEnglish, kChinese };

// The flags as written on the command line; Output checks them.
struct OutputFlags {
  std::optional<std::string> json;  // "-": standard output
  std::optional<std::string> csv;
  std::optional<std::string> color;
  std::optional<std::string> lang;
  std::optional<std::string> threads;
  bool no_color = false;
  bool quiet = false;
};

// Which of the optional flags a command has. --json, --color, --no-color, --quiet and -j are everywhere.
struct OutputFeatures {
  bool csv = false;
  bool lang = false;
};

void AddOutputFlags(CommandLine& line, OutputFlags& flags, OutputFeatures features = {});

// Results are collected and written by Finish, so that a command that fails has printed nothing on standard output.
class Output {
 public:
  // Throws UsageError. Reads NO_COLOR (no-color.org: any non-empty value) and TERM.
  Output(std::string command, const OutputFlags& flags);

  bool color() const { return color_; }
  bool quiet() const { return quiet_; }
  Language language() const { return language_; }
  // True when somebody wants it: building it may cost more than the result.
  bool wants_text() const { return json_ != "-" && csv_ != "-"; }
  bool wants_json() const { return json_.has_value(); }
  bool wants_csv() const { return csv_.has_value(); }

  // The result for people; standard output unless --json or --csv took it.
  void Text(std::string_view text);
  void JsonResult(const Json& json);     // to where --json says
  void CsvResult(std::string_view csv);  // to where --csv says
  // "bitflash traffic: note: ..." on standard error, unless --quiet.
  void Note(std::string_view note) const;

  // Writes files, then standard output. Throws OutputError.
  void Finish();

 private:
  std::string command_;
  std::optional<std::string> json_, csv_;
  std::string stdout_;
  std::string json_text_, csv_text_;
  Language language_ = Language::kEnglish;
  bool color_ = false;
  bool quiet_ = false;
};

// A line on standard error that is drawn over itself; nothing when standard error is not a terminal or --quiet.
class Progress {
 public:
  Progress(const Output& output, std::string what, int64_t total);
  ~Progress();
  void Advance(int64_t done);

 private:
  std::string what_;
  int64_t total_;
  int shown_percent_ = -1;
  bool enabled_;
};

// Writes all bytes to standard output. Throws OutputError.
void WriteStdout(std::string_view bytes);

// Writes one line to standard error; failures are ignored, there is nowhere left to report them.
void WriteError(std::string_view line);

// A regular file is replaced as data::WriteFileAtomically does: it holds its old content or all of the new. What is not
// one (/dev/null, a pipe), and whatever standard output goes to, is written directly. Throws OutputError that names the
// file.
void WriteFile(const std::string& path, std::string_view bytes);

// A value as one CSV cell (RFC 4180, section 2: quoted when it holds a comma, a quote or a line break).
std::string CsvCell(std::string_view value);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_OUTPUT_H_
