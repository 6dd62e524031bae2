#include "verify/cli/command_line.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>

#include "data/error.h"
#include "verify/cli/suggest.h"
#include "verify/cli/text.h"

namespace bitflash::verify {

using data::UsageError;

namespace {

bool Contains(const std::vector<std::string>& words, const std::string& word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

// CLI11 separates an option from its value by a blank and groups by two empty lines.
std::string Tidy(std::string help) {
  const auto replace = [&help](std::string_view from, std::string_view to) {
    for (size_t at = 0; (at = help.find(from, at)) != std::string::npos; at += to.size()) {
      help.replace(at, from.size(), to);
    }
  };
  replace(" [=FILE]", "[=FILE] ");
  replace("\n\n\n", "\n\n");
  replace(".\nUsage:", ".\n\nUsage:");
  return help;
}

}  // namespace

CommandLine::CommandLine(const std::string& command, const std::string& summary, const std::vector<Example>& examples)
    : app_(std::make_unique<CLI::App>(summary, fmt::format("bitflash {}", command))) {
  app_->allow_extras();  // collected, then refused with a suggestion
  app_->get_formatter()->column_width(34);
  app_->set_help_flag("-h,--help", "Print this help");
  std::string footer = examples.empty() ? "" : "Examples:\n";
  for (const Example& example : examples) footer += fmt::format("  {}\n      {}\n", example.command, example.meaning);
  while (!footer.empty() && footer.back() == '\n') footer.pop_back();
  app_->footer(footer);
}

CommandLine::~CommandLine() = default;

void CommandLine::Group(const std::string& heading) { group_ = heading; }

void CommandLine::AddOption(const std::string& names, std::optional<std::string>& value, const std::string& placeholder,
                            const std::string& help) {
  app_->add_option_function<std::string>(
          names, [&value](const std::string& text) { value = text; }, help)
      ->type_name(placeholder)
      ->group(group_);
}

void CommandLine::AddOption(const std::string& names, std::vector<std::string>& values, const std::string& placeholder,
                            const std::string& help) {
  app_->add_option_function<std::vector<std::string>>(
          names, [&values](const std::vector<std::string>& texts) { values = texts; }, help)
      ->type_name(placeholder)
      ->expected(1)  // value per occurrence
      ->take_all()
      ->group(group_);
}

void CommandLine::AddFlag(const std::string& name, bool& value, const std::string& help) {
  flags_.push_back(name);
  app_->add_flag(name, value, help)->group(group_);
}

void CommandLine::AddFileOption(const std::string& name, std::optional<std::string>& value, const std::string& help) {
  file_options_.push_back(name);
  AddOption(name, value, "[=FILE]", help);
}

void CommandLine::AddPositional(const std::string& name, std::optional<std::string>& value, const std::string& help) {
  app_->add_option_function<std::string>(
          name, [&value](const std::string& text) { value = text; }, help)
      ->type_name("")
      ->group(group_);
}

std::vector<std::string> CommandLine::OptionNames() const {
  std::vector<std::string> names;
  for (const CLI::Option* option : std::as_const(*app_).get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back(fmt::format("--{}", name));
  }
  return names;
}

void CommandLine::Parse(const std::vector<std::string>& arguments) {
  std::vector<std::string> reversed;  // CLI11 takes words from the back
  const std::vector<std::string> names = OptionNames();
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& word = arguments[i];
    const size_t equals = word.find('=');
    const std::string name = word.substr(0, equals);
    if (Contains(file_options_, name)) {
      if (equals + 1 == word.size()) throw UsageError(fmt::format("{} needs a file name", word));
      reversed.push_back(equals == std::string::npos ? name + "=-" : word);
      continue;
    }
    if (Contains(flags_, name) && equals != std::string::npos) throw UsageError(fmt::format("{} takes no value", name));
    // A forgotten value would swallow the option that follows.
    if (Contains(names, word) && !Contains(flags_, word) && i + 1 < arguments.size() &&
        Contains(names, arguments[i + 1])) {
      throw UsageError(fmt::format("{} needs a value, but {} follows", word, arguments[i + 1]));
    }
    reversed.push_back(word);
  }
  std::reverse(reversed.begin(), reversed.end());
  try {
    app_->parse(reversed);
  } catch (const CLI::CallForHelp&) {
    throw HelpRequested{Tidy(app_->help())};
  } catch (const CLI::ParseError& error) {
    throw UsageError(Printable(error.what()));
  }
  const std::vector<std::string> extras = app_->remaining();
  if (extras.empty()) return;
  const std::string word = extras.front().substr(0, extras.front().find('='));
  if (word.size() > 1 && word[0] == '-') {
    throw UsageError(
        fmt::format("unknown option '{}'{} (--help lists the options)", Printable(word), DidYouMean(word, names)));
  }
  throw UsageError(
      fmt::format("unexpected argument '{}' (a value is given as --option VALUE, a file for JSON as "
                  "--json=FILE; --help lists the options)",
                  Printable(extras.front())));
}

}  // namespace bitflash::verify
