// One object of a config.json: checks each value that is asked for and keeps what was read and what was assumed.
#ifndef BITFLASH_DATA_CONFIG_KEYS_H_
#define BITFLASH_DATA_CONFIG_KEYS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "data/error.h"
#include "data/model_config.h"
#include "data/strict_json.h"

namespace bitflash::data {

// Far above every model, and small enough that products of a few of them fit int64.
inline constexpr int64_t kMostLayers = 10000;
inline constexpr int64_t kMostHeads = 1 << 16;
inline constexpr int64_t kMostColumns = 1 << 24;
inline constexpr int64_t kMostPositions = int64_t{1} << 40;

// Every reader treats null as absent and throws InputError, with the file and the key, on a value of another kind.
class ConfigKeys {
 public:
  // `prefix` is "" or "text_config.". What is read and assumed is added to `model`.
  ConfigKeys(const nlohmann::json& object, std::string origin, std::string prefix, Model& model)
      : object_(object), origin_(std::move(origin)), prefix_(std::move(prefix)), model_(model) {}

  const std::string& origin() const { return origin_; }
  bool Has(const char* key) const { return object_.contains(key); }  // null counts

  std::optional<int64_t> Integer(const char* key, int64_t most);  // from 1 to `most`
  int64_t Required(const char* key, int64_t most);                // likewise
  std::optional<double> Number(const char* key);                  // above 0
  bool Flag(const char* key, bool if_absent);
  std::optional<std::string> Text(const char* key);
  const nlohmann::json* Object(const char* key);
  const nlohmann::json* Find(const char* key);  // any value

  void Assume(const std::string& line) { model_.assumed.push_back(line); }
  void NotModelled(const std::string& line) { model_.not_modelled.push_back(line); }

  InputError Missing(const char* key, const std::string& expected) const;
  InputError Wrong(const char* key, const std::string& expected) const;
  UndecidedError Undecided(const std::string& what) const;

 private:
  const nlohmann::json& object_;
  std::string origin_;
  std::string prefix_;
  Model& model_;
};

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_CONFIG_KEYS_H_
