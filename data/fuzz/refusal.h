// What every reader of untrusted bytes promises when it refuses them; shared by the fuzz targets of all folders.
#ifndef BITFLASH_DATA_FUZZ_REFUSAL_H_
#define BITFLASH_DATA_FUZZ_REFUSAL_H_

#include <optional>
#include <stdexcept>
#include <string_view>

namespace bitflash::data {

// A property that does not hold is a bug: std::logic_error.
inline void Require(bool holds, const char* what) {
  if (!holds) throw std::logic_error(what);
}

// What `parse` returns; empty when it throws an Error whose message is one line that begins with `start` (the origin of
// the bytes, or the flag) and goes on to say what is wrong. Other exceptions pass.
template <class Error, class Parse>
auto Parsed(std::string_view start, Parse parse) -> std::optional<decltype(parse())> {
  try {
    return parse();
  } catch (const Error& error) {
    const std::string_view message = error.what();
    Require(message.starts_with(start), "the message does not name the origin");
    Require(message.size() > start.size() + 2, "the message does not say what is wrong");
    Require(message.find('\n') == message.npos, "the message quotes a newline");
    return std::nullopt;
  }
}

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_FUZZ_REFUSAL_H_
