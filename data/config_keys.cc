#include "data/config_keys.h"

#include <algorithm>

#include "data/model_families.h"

namespace bitflash::data {

using nlohmann::json;

std::optional<int64_t> ConfigKeys::Integer(const char* key, int64_t most) {
  const json* value = Find(key);
  if (!value) return {};
  // An integer beyond int64 compares as a negative one.
  const bool fits = value->is_number_integer() && *value >= 1 && *value <= most;
  if (!fits) throw Wrong(key, "an integer from 1 to " + std::to_string(most));
  return value->get<int64_t>();
}

int64_t ConfigKeys::Required(const char* key, int64_t most) {
  const std::optional<int64_t> value = Integer(key, most);
  if (!value) throw Missing(key, "an integer from 1 to " + std::to_string(most));
  return *value;
}

std::optional<double> ConfigKeys::Number(const char* key) {
  const json* value = Find(key);
  if (!value) return {};
  // The limits keep a scale of 1 / sqrt(number) finite and positive.
  const double number = value->is_number() ? value->get<double>() : 0;
  if (!(number >= 1e-9 && number <= 1e9)) throw Wrong(key, "a number from 1e-9 to 1e9");
  return number;
}

bool ConfigKeys::Flag(const char* key, bool if_absent) {
  const json* value = Find(key);
  if (!value) return if_absent;
  if (!value->is_boolean()) throw Wrong(key, "true or false");
  return value->get<bool>();
}

std::optional<std::string> ConfigKeys::Text(const char* key) {
  const json* value = Find(key);
  if (!value) return {};
  if (!value->is_string()) throw Wrong(key, "a string");
  return value->get<std::string>();
}

const json* ConfigKeys::Object(const char* key) {
  const json* value = Find(key);
  if (value && !value->is_object()) throw Wrong(key, "an object");
  return value;
}

const json* ConfigKeys::Find(const char* key) {
  const auto found = object_.find(key);
  if (found == object_.end()) return nullptr;
  if (!found->is_object()) {
    const std::string line = prefix_ + key + " = " + ShortJson(*found);
    if (std::ranges::find(model_.read, line) == model_.read.end()) model_.read.push_back(line);
  }
  return found->is_null() ? nullptr : &*found;
}

InputError ConfigKeys::Missing(const char* key, const std::string& expected) const {
  return InputError(origin_ + ": " + prefix_ + key + " is missing: expected " + expected);
}

InputError ConfigKeys::Wrong(const char* key, const std::string& expected) const {
  return InputError(origin_ + ": " + prefix_ + key + " is " + DescribeJson(object_.at(key)) + ": expected " + expected);
}

UndecidedError ConfigKeys::Undecided(const std::string& what) const {
  return UndecidedError(origin_ + ": " + what + ": expected a decoder of " + FamilyNames());
}

}  // namespace bitflash::data
