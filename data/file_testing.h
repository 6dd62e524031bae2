// Helpers of the tests of file readers.
#ifndef BITFLASH_DATA_FILE_TESTING_H_
#define BITFLASH_DATA_FILE_TESTING_H_

#include <doctest/doctest.h>

#include <span>
#include <string>
#include <string_view>

#include "data/buffer.h"
#include "data/byte_source.h"
#include "data/error.h"

namespace bitflash::data {

inline std::span<const std::byte> AsBytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

inline std::string AsText(const Buffer& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), static_cast<size_t>(bytes.bytes())};
}

// The content of data/testdata/NAME, which data/testdata/make.py made with NumPy and safetensors.
inline std::string Testdata(const std::string& name) {
  const FileSource source(BITFLASH_SOURCE_DIR "/data/testdata/" + name);
  return AsText(source.Load(0, source.bytes(), "the file"));
}

// `value` as a little-endian number of `bytes` bytes.
inline std::string LittleEndian(uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += i < 8 ? static_cast<char>(value >> (8 * i) & 0xFF) : char{0};
  return text;
}

// Checks that `parse` throws InputError "FILE: ... WHAT ...".
template <typename Parse>
void CheckRefused(Parse parse, std::string_view bytes, const std::string& what) {
  CAPTURE(what);
  std::string message = "accepted";
  try {
    parse(AsBytes(bytes), "FILE");
  } catch (const InputError& error) {
    message = error.what();
  }
  CHECK_MESSAGE(message.starts_with("FILE: "), message);
  CHECK_MESSAGE(message.find(what) != std::string::npos, message);
}

// Checks that no proper beginning of `bytes` is accepted and each is refused by an InputError.
template <typename Parse>
void CheckTruncationsRefused(Parse parse, std::string_view bytes) {
  CHECK_NOTHROW(parse(AsBytes(bytes), "FILE"));
  for (size_t length = 0; length < bytes.size(); ++length) {
    CAPTURE(length);
    CHECK_THROWS_AS(parse(AsBytes(bytes.substr(0, length)), "FILE"), InputError);
  }
}

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_FILE_TESTING_H_
