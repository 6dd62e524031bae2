#include "data/npy_header.h"

#include <charconv>

#include "data/error.h"
#include "data/tensor.h"
#include "data/text.h"

namespace bitflash::data {
namespace {

// The grammar, with any spaces between tokens:
//   header := '{' [pair {',' pair} [',']] '}' spaces newline      pair := string ':' value
//   string := quote {printable ASCII except quotes and backslash} the same quote
//   shape  := '(' ')' | '(' integer ',' ')' | '(' integer {',' integer} [','] ')' with two integers or more
class HeaderParser {
 public:
  explicit HeaderParser(std::string_view text) : text_(text) {}

  NpyHeader Parse() {
    NpyHeader header;
    bool has_descr = false, has_order = false, has_shape = false;
    Expect('{');
    while (!Accept('}')) {
      const size_t start = at_;
      const std::string key = String();
      Expect(':');
      bool* seen = key == "descr"           ? &has_descr
                   : key == "fortran_order" ? &has_order
                   : key == "shape"         ? &has_shape
                                            : nullptr;
      if (seen == nullptr || *seen) {
        at_ = start;
        Fail((seen == nullptr ? "unknown key " : "repeated key ") + Quoted(key));
      }
      *seen = true;
      if (seen == &has_descr) header.descr = Descr();
      if (seen == &has_order) header.fortran_order = Bool();
      if (seen == &has_shape) header.shape = Shape();
      if (Accept(',')) continue;
      Expect('}');
      break;
    }
    SkipSpaces();
    if (text_.substr(at_) != "\n") Fail("expected spaces and one newline after the dictionary");
    if (!has_descr || !has_order || !has_shape) {
      throw InputError("header lacks the key " + std::string(!has_descr   ? "'descr'"
                                                             : !has_order ? "'fortran_order'"
                                                                          : "'shape'"));
    }
    return header;
  }

 private:
  [[noreturn]] void Fail(const std::string& what) const {
    throw InputError("header, character " + std::to_string(at_) + ": " + what);
  }

  void SkipSpaces() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
  }

  // The next character that is not a space; 0 at the end.
  char Peek() {
    SkipSpaces();
    return at_ < text_.size() ? text_[at_] : '\0';
  }

  bool Accept(char c) {
    if (Peek() != c) return false;
    ++at_;
    return true;
  }

  void Expect(char c) {
    if (!Accept(c)) Fail("expected " + Quoted(std::string(1, c)));
  }

  std::string String() {
    const char quote = Peek();
    if (quote != '\'' && quote != '"') Fail("expected a quoted string");
    std::string value;
    for (++at_; at_ < text_.size() && text_[at_] != quote; ++at_) {
      const char c = text_[at_];
      if (c < 0x20 || c > 0x7E || c == '\\' || c == '\'' || c == '"') Fail("unexpected character in a string");
      value += c;
    }
    if (at_ == text_.size()) Fail("a string without its closing quote");
    ++at_;
    return value;
  }

  std::string Descr() {
    if (Peek() == '[') Fail("a structured dtype: expected a plain one such as '<f2'");
    return String();
  }

  bool Bool() {
    SkipSpaces();
    for (const std::string_view word : {"True", "False"}) {
      if (text_.substr(at_).starts_with(word)) {
        at_ += word.size();
        return word == "True";
      }
    }
    Fail("expected True or False");
  }

  std::vector<int64_t> Shape() {
    std::vector<int64_t> shape;
    Expect('(');
    while (!Accept(')')) {
      if (shape.size() == Tensor::kMaxDimensions) {
        Fail("a shape of more than " + std::to_string(Tensor::kMaxDimensions) + " dimensions");
      }
      shape.push_back(Extent());
      if (Accept(',')) continue;
      // (3) is a number in Python, (3,) a tuple.
      if (shape.size() == 1) Fail("expected ',' after the only extent of a shape");
      Expect(')');
      break;
    }
    return shape;
  }

  int64_t Extent() {
    SkipSpaces();
    const size_t start = at_;
    while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') ++at_;
    const std::string_view digits = text_.substr(start, at_ - start);
    int64_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error == std::errc::result_out_of_range) Fail("an extent that does not fit 64 bits");
    if (digits.empty() || (digits.size() > 1 && digits[0] == '0')) {
      at_ = start;
      Fail("expected an extent: decimal digits without a leading zero");
    }
    return value;
  }

  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace

NpyHeader ParseNpyHeader(std::string_view text) { return HeaderParser(text).Parse(); }

ElementType ParseNpyType(std::string_view descr) {
  const auto fail = [&](std::string_view what) -> ElementType {
    throw InputError("dtype " + Quoted(descr) + ": " + std::string(what));
  };
  if (descr.find('O') != std::string_view::npos) return fail("objects are stored as pickles, which are never loaded");
  if (descr.starts_with('>'))
    return fail("big-endian elements; convert with array.astype(array.dtype.newbyteorder('<'))");
  const std::string_view type = descr.empty() ? descr : descr.substr(1);
  const bool one_byte = type.ends_with('1');  // has no byte order: NumPy writes '|'
  if (descr.starts_with('<') || (descr.starts_with('|') && (one_byte || type == "V2"))) {
    if (type == "f2") return Format::kFp16;
    if (type == "f4") return Format::kFp32;
    if (type == "f8") return Format::kFp64;
    if (type == "V2") return ElementType::Unsigned(2);
    if (type == "V1" || type == "f1") return ElementType::Unsigned(1);
    for (const int bytes : {1, 2, 4, 8}) {
      if (type == "i" + std::to_string(bytes)) return ElementType::Signed(bytes);
      if (type == "u" + std::to_string(bytes)) return ElementType::Unsigned(bytes);
    }
  }
  return fail("expected one of <f2 <f4 <f8 |i1 <i2 <i4 <i8 |u1 <u2 <u4 <u8, <V2 (bf16) or <V1 (fp8)");
}

std::string NpyType(const ElementType& type) {
  const std::string bytes = std::to_string(type.bytes());
  if (!type.format()) return (type.bytes() == 1 ? "|" : "<") + std::string(type.IsSigned() ? "i" : "u") + bytes;
  const bool numpy_has_it =
      type == Format::kFp64 || type == Format::kFp32 || type == Format::kTf32 || type == Format::kFp16;
  return (numpy_has_it ? "<f" : "<V") + bytes;
}

}  // namespace bitflash::data
