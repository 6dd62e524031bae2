#include "verify/cli/catalogue.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <stdexcept>

namespace bitflash::verify {
namespace {

// True for words of small letters, digits and underscores, joined by dots.
bool LooksLikeAnId(const std::string& text) {
  const auto is_part = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '.'; };
  return !text.empty() && text[0] >= 'a' && text[0] <= 'z' && text.back() != '.' &&
         std::all_of(text.begin(), text.end(), is_part);
}

// Every string literal of the sources that write the explanation and that looks like an id.
std::set<std::string> Literals() {
  std::set<std::string> literals;
  for (const auto& entry : std::filesystem::directory_iterator(BITFLASH_SOURCE_DIR "/verify/cli")) {
    const std::string name = entry.path().filename().string();
    if (name.rfind("explain", 0) != 0 || name.find("_test") != std::string::npos) continue;
    std::stringstream text;
    text << std::ifstream(entry.path()).rdbuf();
    const std::string source = text.str();
    for (size_t open = source.find('"'); open != std::string::npos; open = source.find('"', open + 1)) {
      const size_t close = source.find('"', open + 1);
      const std::string literal = source.substr(open + 1, close - open - 1);
      if (LooksLikeAnId(literal)) literals.insert(literal);
    }
  }
  return literals;
}

// "count.blocks.one" and "count.blocks.other" are used as "count.blocks".
std::string UsedAs(const std::string& id) {
  for (const std::string_view ending : {".one", ".other"}) {
    if (id.size() > ending.size() && id.compare(id.size() - ending.size(), ending.size(), ending) == 0) {
      const std::string stem = id.substr(0, id.size() - ending.size());
      if (stem.rfind("count.", 0) == 0 || stem.rfind("phase.", 0) == 0) return stem;
    }
  }
  return id;
}

}  // namespace

TEST_CASE("both catalogues have the same messages with the same places") {
  const Catalogue& english = Catalogue::For(Language::kEnglish);
  const Catalogue& chinese = Catalogue::For(Language::kChinese);
  REQUIRE(english.ids() == chinese.ids());
  for (const std::string& id : english.ids()) {
    CAPTURE(id);
    CHECK(english.places(id) == chinese.places(id));
  }
}

TEST_CASE("every message is used, and every id that the sources use exists") {
  const std::set<std::string> literals = Literals();
  std::set<std::string> stems;
  for (const std::string& id : Catalogue::For(Language::kEnglish).ids()) {
    CAPTURE(id);
    CHECK(literals.contains(UsedAs(id)));
    stems.insert(UsedAs(id));
  }
  // An id is a literal whose first word is the first word of some message.
  for (const std::string& literal : literals) {
    const size_t dot = literal.find('.');
    if (dot == std::string::npos) continue;
    CAPTURE(literal);
    CHECK(stems.contains(literal));
  }
}

TEST_CASE("a wrong id or a wrong place is a defect that names it") {
  const Catalogue& english = Catalogue::For(Language::kEnglish);
  CHECK_THROWS_WITH_AS(english.Say("no.such.id"), "no message has the id no.such.id", std::logic_error);
  CHECK_THROWS_WITH_AS(english.Say("times", {{"m", "3"}}), "message times has no place {m}", std::logic_error);
  CHECK_THROWS_AS(english.Say("times"), std::logic_error);
  CHECK(english.Say("times", {{"n", "3.25"}}) == "3.25 x");
}

TEST_CASE("counts agree in number") {
  const Catalogue& english = Catalogue::For(Language::kEnglish);
  CHECK(english.Count("count.blocks", 1) == "1 thread block");
  CHECK(english.Count("count.blocks", 2048) == "2,048 thread blocks");
  CHECK(Catalogue::For(Language::kChinese).Count("count.blocks", 1) == "1 个线程块");
}

}  // namespace bitflash::verify
