// One subcommand's command line: a thin layer over CLI11 that keeps every value as text (the command parses it, so that
// messages are ours and alike), suggests the nearest option, and puts examples under the help.
#ifndef BITFLASH_VERIFY_CLI_COMMAND_LINE_H_
#define BITFLASH_VERIFY_CLI_COMMAND_LINE_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace bitflash::verify {

// Not an error: --help was given.
struct HelpRequested {
  std::string text;
};

class CommandLine {
 public:
  struct Example {
    std::string command;  // "bitflash traffic --model llama-3-8b --seqlen 8192"
    std::string meaning;  // "what one layer moves"
  };

  CommandLine(const std::string& command, const std::string& summary, const std::vector<Example>& examples);
  ~CommandLine();

  // Options added after this stand under the heading in the help.
  void Group(const std::string& heading);

  void AddOption(const std::string& names, std::optional<std::string>& value, const std::string& placeholder,
                 const std::string& help);
  // May be given several times.
  void AddOption(const std::string& names, std::vector<std::string>& values, const std::string& placeholder,
                 const std::string& help);
  void AddFlag(const std::string& name, bool& value, const std::string& help);
  // "--json" (value "-") or "--json=FILE"; never takes the next word.
  void AddFileOption(const std::string& name, std::optional<std::string>& value, const std::string& help);
  void AddPositional(const std::string& name, std::optional<std::string>& value, const std::string& help);

  // Throws UsageError, HelpRequested.
  void Parse(const std::vector<std::string>& arguments);

 private:
  std::vector<std::string> OptionNames() const;

  std::unique_ptr<CLI::App> app_;
  std::string group_ = "Options";
  std::vector<std::string> file_options_;
  std::vector<std::string> flags_;
};

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_COMMAND_LINE_H_
