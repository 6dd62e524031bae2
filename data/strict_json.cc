#include "data/strict_json.h"

#include <filesystem>
#include <fstream>
#include <set>
#include <vector>

#include "data/error.h"

namespace bitflash::data {
namespace {

constexpr int kMostLevels = 64;
constexpr std::streamsize kMostBytes = std::streamsize{16} << 20;

}  // namespace

std::string ShortJson(const nlohmann::json& value) {
  std::string text = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return text;
}

nlohmann::json ParseStrictJson(std::string_view text, std::string_view origin) {
  const auto fail = [&](const std::string& what) { return InputError(std::string(origin) + ": " + what); };
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  // The parser takes a NUL byte for the end of its input, so a file could hide bytes behind one.
  if (text.find('\0') != std::string_view::npos) throw fail("not valid JSON: holds a NUL byte");
  const auto inspect = [&](int depth, nlohmann::json::parse_event_t event, nlohmann::json& value) {
    using Event = nlohmann::json::parse_event_t;
    const bool opens = event == Event::object_start || event == Event::array_start;
    if (opens && depth >= kMostLevels) throw fail("nests deeper than " + std::to_string(kMostLevels) + " levels");
    if (event == Event::object_start) keys.emplace_back();
    if (event == Event::object_end) keys.pop_back();
    if (event == Event::key && !keys.back().insert(value.get<std::string>()).second) {
      throw fail("the key " + ShortJson(value) + " appears twice in one object: expected each key once");
    }
    return true;
  };
  try {
    return nlohmann::json::parse(text.begin(), text.end(), inspect);
  } catch (const nlohmann::json::exception& error) {
    // "[json.exception.parse_error.101] parse error at line 1, column 2: ...": the part in brackets tells a user
    // nothing.
    const std::string_view what = error.what();
    const size_t end = what.find("] ");
    throw fail("not valid JSON: " + std::string(end == what.npos ? what : what.substr(end + 2)));
  }
}

std::string ReadTextFile(const std::string& path) {
  std::error_code unreadable;
  if (std::filesystem::is_directory(path, unreadable)) throw InputError(path + ": is a directory, expected a file");
  std::ifstream file(path, std::ios::binary);
  if (!file) throw InputError(path + ": cannot be opened for reading");
  std::string text;
  std::vector<char> block(1 << 16);
  while (file.read(block.data(), static_cast<std::streamsize>(block.size())) || file.gcount() > 0) {
    text.append(block.data(), static_cast<size_t>(file.gcount()));
    if (static_cast<std::streamsize>(text.size()) > kMostBytes) {
      throw InputError(path + ": has more than 16 MiB, expected a small text file");
    }
  }
  if (file.bad()) throw InputError(path + ": cannot be read");
  return text;
}

std::string DescribeJson(const nlohmann::json& value) {
  switch (value.type()) {
    case nlohmann::json::value_t::null:
      return "null";
    case nlohmann::json::value_t::boolean:
      return ShortJson(value);
    case nlohmann::json::value_t::string:
      return "the string " + ShortJson(value);
    case nlohmann::json::value_t::object:
      return "an object";
    case nlohmann::json::value_t::array:
      return "a list";
    default:
      return ShortJson(value);
  }
}

bool NamesAFile(std::string_view name_or_file) {
  return name_or_file.ends_with(".json") || name_or_file.find('/') != name_or_file.npos;
}

}  // namespace bitflash::data
