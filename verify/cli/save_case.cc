#include "verify/cli/save_case.h"

#include <fmt/format.h>

#include <cctype>
#include <filesystem>

#include "data/error.h"
#include "verify/check.h"
#include "verify/cli/text.h"
#include "verify/cli/verify_result.h"

namespace bitflash::verify {
namespace {

namespace fs = std::filesystem;

// Files that the first run wrote: repeating it need not write them again.
constexpr DroppedFlag kWritten[] = {{"--json", false}, {"--junit", true}, {"--github", false}, {"--save", true}};

// What says which problem it is.
constexpr std::string_view kProblem[] = {"--model",
                                         "--layers",
                                         "--heads-q",
                                         "--heads-kv",
                                         "--head-dim",
                                         "--head-dim-v",
                                         "--batch",
                                         "--seqlen-q",
                                         "--seqlen-k",
                                         "--phase",
                                         "--seqlen",
                                         "--mask",
                                         "--softmax-scale",
                                         "--dtype",
                                         "--seed",
                                         "--cases",
                                         "--distribution",
                                         "--in",
                                         "--q",
                                         "--k",
                                         "--v",
                                         "--o",
                                         "--lse",
                                         "--case",
                                         "--layout",
                                         "--kv-layout",
                                         "--v-in-k",
                                         "--softcap",
                                         "--q-scale",
                                         "--k-scale",
                                         "--v-scale"};

std::string FileName(std::string_view name) {
  constexpr size_t kLongest = 200;  // bytes; file systems take 255
  std::string file;
  for (const char c : name.substr(0, kLongest)) {
    const bool plain = std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.' || c == '+';
    file += plain ? c : '_';
  }
  if (file.empty() || file.front() == '-' || file.front() == '.') file.insert(0, "case");
  return file + ".safetensors";
}

}  // namespace

std::string CommandText(const Arguments& arguments) {
  return "bitflash verify" + ShellWords(arguments, {std::begin(kWritten), std::end(kWritten)});
}

std::string ReplayText(const Arguments& arguments, const std::string& path, const std::vector<std::string>& dropped) {
  std::vector<DroppedFlag> drop(std::begin(kWritten), std::end(kWritten));
  for (const std::string_view flag : kProblem) drop.push_back({flag, true});
  for (const std::string& flag : dropped) drop.push_back({flag, true});
  drop.push_back({"--causal", false});
  return "bitflash verify" + ShellWords(arguments, drop) + " --case " + ShellWord(path);
}

std::string GeneratedText(const Arguments& arguments, const std::string& name) {
  std::vector<DroppedFlag> drop(std::begin(kWritten), std::end(kWritten));
  for (const std::string_view flag : {"--cases", "--seed", "--dtype"}) drop.push_back({flag, true});
  return "bitflash verify" + ShellWords(arguments, drop) + " --cases " + ShellWord(name);
}

std::string MinimalName(const std::string& path) { return fs::path(path).stem().string() + "-minimal"; }

void SaveCase(CaseReport& report, const std::string& folder, const std::string& name, Case saved,
              const Arguments& arguments, const std::vector<std::string>& dropped) try {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw data::InputError(fmt::format("{}: {}", Printable(folder), error.message()));
  const std::string path = (fs::path(folder) / FileName(name)).string();
  saved.notes["producer"] = std::string("bitflash ") + BITFLASH_VERSION;
  WriteCase(path, saved);
  report.saved = path;
  report.saved_problem = Describe(saved.problem);
  report.command = ReplayText(arguments, path, dropped);
} catch (const data::InputError& error) {
  report.advice.push_back(fmt::format("the case could not be saved: {}", error.what()));
}

}  // namespace bitflash::verify
