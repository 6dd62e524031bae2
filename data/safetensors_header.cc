#include "data/safetensors_header.h"

#include <nlohmann/json.hpp>
#include <set>

#include "data/error.h"
#include "data/tensor.h"
#include "data/text.h"

namespace bitflash::data {
namespace {

using Json = nlohmann::json;

// Receives the events of nlohmann-json's parser, which uses no recursion. A tree would lose repeated keys and could
// hold a hundred million brackets; this handler knows where it is and refuses everything that does not belong there.
class HeaderHandler : public nlohmann::json_sax<Json> {
 public:
  SafetensorsHeader Take() { return std::move(header_); }

  bool null() override { Fail("null"); }
  bool boolean(bool) override { Fail("a truth value"); }
  bool number_integer(number_integer_t) override { Fail("a negative number"); }
  bool number_float(number_float_t, const string_t& text) override { Fail("the number " + Quoted(text)); }
  bool binary(binary_t&) override { Fail("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (at_ != At::kShape && at_ != At::kOffsets) Fail("a number");
    std::vector<uint64_t>& list = at_ == At::kShape ? entry().shape : entry().data_offsets;
    const size_t most = at_ == At::kShape ? Tensor::kMaxDimensions : 2;
    if (list.size() == most) Fail("more than " + std::to_string(most) + " numbers");
    list.push_back(value);
    return true;
  }

  bool string(string_t& value) override {
    if (at_ == At::kMetadata) {
      header_.metadata[key_] = value;
    } else if (at_ == At::kTensor && key_ == "dtype") {
      entry().dtype = value;
    } else {
      Fail("a string");
    }
    return true;
  }

  bool start_object(size_t) override {
    if (at_ == At::kStart) {
      at_ = At::kRoot;
    } else if (at_ == At::kRoot) {
      at_ = key_ == "__metadata__" ? At::kMetadata : At::kTensor;
      if (at_ == At::kTensor) header_.entries.push_back({.name = key_});
      keys_.clear();
    } else {
      Fail("an object");
    }
    return true;
  }

  bool end_object() override {
    if (at_ == At::kTensor && keys_.size() != 3) {
      throw InputError("tensor " + Quoted(entry().name) + ": expected the keys dtype, shape and data_offsets");
    }
    at_ = At::kRoot;  // or the end of the header, after which the parser accepts nothing more
    return true;
  }

  bool start_array(size_t) override {
    if (at_ == At::kTensor && key_ == "shape") {
      at_ = At::kShape;
    } else if (at_ == At::kTensor && key_ == "data_offsets") {
      at_ = At::kOffsets;
    } else {
      Fail("an array");
    }
    return true;
  }

  bool end_array() override {
    if (at_ == At::kOffsets && entry().data_offsets.size() != 2) Fail("fewer than 2 numbers");
    at_ = At::kTensor;
    return true;
  }

  bool key(string_t& name) override {
    std::set<std::string>& seen = at_ == At::kRoot ? root_keys_ : keys_;
    if (!seen.insert(name).second) throw InputError("header: the key " + Quoted(name) + " occurs twice" + Where());
    if (at_ == At::kTensor && name != "dtype" && name != "shape" && name != "data_offsets") {
      throw InputError("header: unknown key " + Quoted(name) + Where());
    }
    key_ = name;
    return true;
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    std::string_view reason = error.what();
    // "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error ...": keep the reason. It quotes
    // the input, which can hold anything.
    if (const size_t start = reason.find(": "); start != std::string_view::npos) reason.remove_prefix(start + 2);
    throw InputError("header, byte " + std::to_string(position) + ": not valid JSON: " + Quoted(reason));
  }

 private:
  enum class At { kStart, kRoot, kMetadata, kTensor, kShape, kOffsets };

  SafetensorsEntry& entry() { return header_.entries.back(); }

  std::string Where() const {
    if (at_ == At::kMetadata) return " in __metadata__";
    const bool inside = at_ == At::kTensor || at_ == At::kShape || at_ == At::kOffsets;
    return inside ? " of tensor " + Quoted(header_.entries.back().name) : "";
  }

  [[noreturn]] void Fail(const std::string& found) const {
    const std::string subject = at_ == At::kStart ? "header" : "header: the value of " + Quoted(key_) + Where();
    const char* expected = at_ == At::kStart || at_ == At::kRoot ? "an object"
                           : at_ == At::kMetadata                ? "a string"
                           : at_ == At::kShape                   ? "an array of at most 64 integers from 0 to 2^64 - 1"
                           : at_ == At::kOffsets || key_ == "data_offsets" ? "an array of 2 integers from 0 to 2^64 - 1"
                           : key_ == "shape"                               ? "an array of integers"
                                                                           : "a string";
    throw InputError(subject + " is or contains " + found + ": expected " + expected);
  }

  SafetensorsHeader header_;
  At at_ = At::kStart;
  std::string key_;
  std::set<std::string> root_keys_;
  std::set<std::string> keys_;  // of the object inside the root that is being read
};

}  // namespace

SafetensorsHeader ParseSafetensorsHeader(std::string_view json) {
  if (!json.starts_with('{')) throw InputError("header: expected '{' as its first byte");
  // The parser takes a NUL for the end of its input and would not see what follows.
  if (json.find('\0') != std::string_view::npos) throw InputError("header: not valid JSON: it contains a NUL byte");
  HeaderHandler handler;
  Json::sax_parse(json.begin(), json.end(), &handler);
  return handler.Take();
}

const std::vector<SafetensorsType>& SafetensorsTypes() {
  static const std::vector<SafetensorsType> types = {
      {"U8", ElementType::Unsigned(1)}, {"I8", ElementType::Signed(1)},
      {"F8_E5M2", Format::kE5m2},       {"F8_E4M3", Format::kE4m3},
      {"I16", ElementType::Signed(2)},  {"U16", ElementType::Unsigned(2)},
      {"F16", Format::kFp16},           {"BF16", Format::kBf16},
      {"I32", ElementType::Signed(4)},  {"U32", ElementType::Unsigned(4)},
      {"F32", Format::kFp32},           {"F64", Format::kFp64},
      {"I64", ElementType::Signed(8)},  {"U64", ElementType::Unsigned(8)},
  };
  return types;
}

}  // namespace bitflash::data
