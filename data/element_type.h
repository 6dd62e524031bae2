// The type of a tensor's elements: a number format, or an integer.
#ifndef BITFLASH_DATA_ELEMENT_TYPE_H_
#define BITFLASH_DATA_ELEMENT_TYPE_H_

#include <cstdint>
#include <optional>
#include <string>

#include "data/format.h"

namespace bitflash::data {

// Integers hold lengths and block tables. Unsigned integers also hold bits whose format a file does not say, as NumPy
// files do for bf16 and fp8; Tensor::View says what they mean.
class ElementType {
 public:
  ElementType(Format format)  // implicit: every format is an element type
      : kind_(Kind::kFormat), format_(format), bytes_(static_cast<uint8_t>(StorageBytes(format))) {}
  static ElementType Signed(int bytes) { return {Kind::kSigned, bytes}; }      // 1, 2, 4 or 8
  static ElementType Unsigned(int bytes) { return {Kind::kUnsigned, bytes}; }  // 1, 2, 4 or 8

  int64_t bytes() const { return bytes_; }  // of one element in memory
  bool IsInteger() const { return kind_ != Kind::kFormat; }
  bool IsSigned() const { return kind_ == Kind::kSigned; }  // a signed integer
  std::optional<Format> format() const { return IsInteger() ? std::nullopt : std::optional(format_); }

  bool operator==(const ElementType&) const = default;

 private:
  enum class Kind : uint8_t { kFormat, kSigned, kUnsigned };
  ElementType(Kind kind, int bytes) : kind_(kind), bytes_(static_cast<uint8_t>(bytes)) {}

  Kind kind_;
  Format format_ = Format::kFp32;  // kFormat only; else this value, so that equality can compare it
  uint8_t bytes_;
};

// "bf16", "i32", "u16".
std::string Name(const ElementType& type);

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_ELEMENT_TYPE_H_
