#include "verify/schema_check.h"

#include <algorithm>
#include <fstream>
#include <map>
#include <stdexcept>

namespace bitflash::verify {
namespace {

using Json = nlohmann::json;

class Checker {
 public:
  explicit Checker(const std::string& file) : folder_(file.substr(0, file.rfind('/') + 1)) {
    root_ = file.substr(folder_.size());
  }

  std::vector<std::string> Run(const Json& value) {
    Check(value, Load(root_), root_, "");
    return std::move(errors_);
  }

 private:
  const Json& Load(const std::string& name) {
    const auto found = files_.find(name);
    if (found != files_.end()) return found->second;
    std::ifstream in(folder_ + name);
    if (!in) throw std::runtime_error("no schema " + folder_ + name);
    return files_.emplace(name, Json::parse(in)).first->second;
  }

  void Fail(const std::string& at, const std::string& what) {
    errors_.push_back((at.empty() ? "/" : at) + ": " + what);
  }

  static bool HasType(const Json& value, const std::string& type) {
    if (type == "object") return value.is_object();
    if (type == "array") return value.is_array();
    if (type == "string") return value.is_string();
    if (type == "boolean") return value.is_boolean();
    if (type == "null") return value.is_null();
    if (type == "number") return value.is_number();
    if (type == "integer") return value.is_number_integer();
    throw std::runtime_error("unknown type in a schema: " + type);
  }

  void CheckAnyOf(const Json& value, const Json& alternatives, const std::string& file, const std::string& at) {
    const std::vector<std::string> before = errors_;
    std::vector<std::string> last;
    for (const Json& alternative : alternatives) {
      errors_.clear();
      Check(value, alternative, file, at);
      const bool fits = errors_.empty();
      last = errors_;
      errors_ = before;
      if (fits) return;
    }
    Fail(at, "fits none of the alternatives");
    errors_.insert(errors_.end(), last.begin(), last.end());  // what is wrong with it as the last of them
  }

  void Check(const Json& value, const Json& schema, const std::string& file, const std::string& at) {
    for (const auto& [keyword, rule] : schema.items()) {
      if (keyword == "$ref") {
        const std::string ref = rule.get<std::string>();
        const size_t hash = ref.find('#');
        const std::string target = hash == 0 ? file : ref.substr(0, hash);
        Check(value, Load(target).at(Json::json_pointer(ref.substr(hash + 1))), target, at);
      } else if (keyword == "type") {
        const std::vector<std::string> types =
            rule.is_array() ? rule.get<std::vector<std::string>>() : std::vector{rule.get<std::string>()};
        if (std::none_of(types.begin(), types.end(), [&](const std::string& type) { return HasType(value, type); })) {
          Fail(at, "is not of type " + rule.dump());
        }
      } else if (keyword == "enum") {
        if (std::find(rule.begin(), rule.end(), value) == rule.end())
          Fail(at, value.dump() + " is not in " + rule.dump());
      } else if (keyword == "anyOf") {
        CheckAnyOf(value, rule, file, at);
      } else if (keyword == "const") {
        if (value != rule) Fail(at, value.dump() + " is not " + rule.dump());
      } else if (keyword == "minimum") {
        if (value.is_number() && value < rule) Fail(at, value.dump() + " is below " + rule.dump());
      } else if (keyword == "minItems") {
        if (value.is_array() && value.size() < rule.get<size_t>()) Fail(at, "has too few items");
      } else if (keyword == "items") {
        for (size_t i = 0; value.is_array() && i < value.size(); ++i) {
          Check(value[i], rule, file, at + "/" + std::to_string(i));
        }
      } else if (keyword == "required") {
        for (const Json& name : rule) {
          if (value.is_object() && !value.contains(name)) Fail(at, "'" + name.get<std::string>() + "' is missing");
        }
      } else if (keyword == "properties" || keyword == "additionalProperties") {
        continue;  // below: the two speak of one another
      } else if (keyword != "$schema" && keyword != "$id" && keyword != "$defs" && keyword != "title" &&
                 keyword != "description") {
        throw std::runtime_error("a schema uses the keyword " + keyword + ", which is not checked");
      }
    }
    if (!value.is_object() || !schema.contains("properties")) return;
    for (const auto& [name, child] : value.items()) {
      const std::string child_at = at + "/" + name;
      if (schema["properties"].contains(name)) {
        Check(child, schema["properties"][name], file, child_at);
      } else if (schema.contains("additionalProperties")) {
        const Json& rule = schema["additionalProperties"];
        if (rule.is_object()) {
          Check(child, rule, file, child_at);
        } else if (!rule.get<bool>()) {
          Fail(child_at, "is not a property of the schema");
        }
      }
    }
  }

  std::string folder_, root_;
  std::map<std::string, Json> files_;
  std::vector<std::string> errors_;
};

}  // namespace

std::vector<std::string> CheckSchema(const nlohmann::json& value, const std::string& schema_file) {
  return Checker(schema_file).Run(value);
}

}  // namespace bitflash::verify
