#include "verify/cli/catalogue.h"

#include <fmt/args.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <stdexcept>

#include "data/embedded.h"
#include "verify/cli/text.h"
#include "verify/cli/units.h"

namespace bitflash::data {
const std::vector<EmbeddedFile>& CatalogueFiles();
}

namespace bitflash::verify {

std::string_view Name(Language language) { return language == Language::kEnglish ? "en" : "zh"; }

const Catalogue& Catalogue::For(Language language) {
  static const Catalogue english(Language::kEnglish);
  static const Catalogue chinese(Language::kChinese);
  return language == Language::kEnglish ? english : chinese;
}

Catalogue::Catalogue(Language language) : language_(language) {
  const std::string file = std::string(Name(language)) + ".json";
  for (const data::EmbeddedFile& embedded : data::CatalogueFiles()) {
    if (embedded.name != file) continue;
    const auto catalogue = nlohmann::json::parse(embedded.bytes);
    for (const auto& [id, text] : catalogue.items()) messages_[id] = text.get<std::string>();
  }
  if (messages_.empty()) throw std::logic_error("the catalogue " + file + " is not embedded");
}

std::string Catalogue::Say(std::string_view id, const std::vector<Argument>& arguments) const {
  const auto found = messages_.find(id);
  if (found == messages_.end()) throw std::logic_error("no message has the id " + std::string(id));
  const std::set<std::string> wanted = places(found->first);
  fmt::dynamic_format_arg_store<fmt::format_context> store;
  for (const Argument& argument : arguments) {
    const std::string name(argument.name);
    if (!wanted.contains(name)) throw std::logic_error("message " + found->first + " has no place {" + name + "}");
    // A title from a user's file must not colour the terminal or break the line.
    store.push_back(fmt::arg(name.c_str(), Printable(argument.value)));
  }
  if (wanted.size() != arguments.size()) {
    throw std::logic_error("message " + found->first + " got " + std::to_string(arguments.size()) +
                           " arguments for its " + std::to_string(wanted.size()) + " places");
  }
  return fmt::vformat(found->second, store);
}

std::string Catalogue::Count(std::string_view id, int64_t n) const {
  return Say(std::string(id) + (n == 1 ? ".one" : ".other"), {{"n", Grouped(n)}});
}

std::vector<std::string> Catalogue::ids() const {
  std::vector<std::string> ids;
  for (const auto& message : messages_) ids.push_back(message.first);
  return ids;
}

std::set<std::string> Catalogue::places(const std::string& id) const {
  std::set<std::string> names;
  const std::string& text = messages_.at(id);
  for (size_t open = text.find('{'); open != std::string::npos; open = text.find('{', open + 1)) {
    names.insert(text.substr(open + 1, text.find('}', open) - open - 1));
  }
  return names;
}

}  // namespace bitflash::verify
