// Reading JSON that a person wrote: the standard's grammar and nothing that would be silently resolved for them.
#ifndef BITFLASH_DATA_STRICT_JSON_H_
#define BITFLASH_DATA_STRICT_JSON_H_

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace bitflash::data {

// The value that `text` holds. Throws InputError, which begins with `origin`, when it is not JSON, repeats a key within
// one object (parsers differ in which one wins, so the file has two meanings), or nests deeper than 64 levels.
nlohmann::json ParseStrictJson(std::string_view text, std::string_view origin);

// The whole content of a file of at most 16 MiB. Throws InputError that names the path.
std::string ReadTextFile(const std::string& path);

// The value as JSON in ASCII, cut off after 60 characters so that a hostile value cannot fill the screen.
std::string ShortJson(const nlohmann::json& value);

// "the string \"abc\"", "the number 1.5", "an object": how an error message calls a value that it did not expect.
std::string DescribeJson(const nlohmann::json& value);

// True when a --gpu or --model argument means a file and not a built-in name: it ends in ".json" or contains a '/'.
bool NamesAFile(std::string_view name_or_file);

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_STRICT_JSON_H_
