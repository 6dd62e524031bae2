#include "verify/cli/xml_check.h"

#include <algorithm>
#include <cctype>
#include <stdexcept>

namespace bitflash::verify {
namespace {

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) { CheckCharacters(); }

  std::vector<XmlElement> Run() {
    if (Take("<?xml ")) Until("?>");
    std::vector<size_t> open;
    do {
      const std::string between = Resolved(text_.substr(at_, text_.find('<', at_) - at_));
      if (open.empty() && between.find_first_not_of(" \n") != std::string::npos) Fail("text outside of the root");
      if (!open.empty()) elements_[open.back()].text += between;
      at_ = std::min(text_.find('<', at_), text_.size());
      if (at_ == text_.size()) Fail(open.empty() ? "no root" : "no end tag of " + elements_[open.back()].name);
      if (Take("</")) {
        if (open.empty() || Name() != elements_[open.back()].name) Fail("an end tag of another element");
        if (!Take(">")) Fail("expected >");
        open.pop_back();
      } else if (Take("<")) {
        Start(open);
      }
    } while (!open.empty());
    if (text_.substr(at_).find_first_not_of('\n') != std::string_view::npos) Fail("something behind the root");
    return std::move(elements_);
  }

 private:
  [[noreturn]] void Fail(const std::string& what) const {
    throw std::runtime_error("byte " + std::to_string(at_) + ": " + what);
  }
  bool Take(std::string_view word) {
    if (at_ > text_.size() || text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }
  std::string_view Until(std::string_view end) {
    const size_t found = text_.find(end, at_);
    if (found == text_.npos) Fail("no " + std::string(end));
    const std::string_view before = text_.substr(at_, found - at_);
    at_ = found + end.size();
    return before;
  }
  std::string Name() {
    const size_t begin = at_;
    while (at_ < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[at_])) || text_[at_] == '_')) ++at_;
    if (at_ == begin) Fail("expected a name");
    return std::string(text_.substr(begin, at_ - begin));
  }

  void Start(std::vector<size_t>& open) {
    XmlElement element{Name(), open.empty() ? "" : elements_[open.back()].name, {}, ""};
    while (Take(" ")) {
      const std::string name = Name();
      if (!Take("=\"")) Fail("expected =\"");
      const std::string_view value = Until("\"");
      if (value.find('<') != value.npos) Fail("< in an attribute");
      if (!element.attributes.emplace(name, Resolved(value)).second) Fail("attribute " + name + " twice");
    }
    elements_.push_back(std::move(element));
    if (Take("/>")) return;
    if (!Take(">")) Fail("expected >");
    open.push_back(elements_.size() - 1);
  }

  std::string Resolved(std::string_view raw) const {
    static const std::map<std::string_view, char> kEntities = {
        {"amp", '&'}, {"lt", '<'}, {"gt", '>'}, {"quot", '"'}, {"apos", '\''}};
    std::string text;
    for (size_t i = 0; i < raw.size(); ++i) {
      if (raw[i] != '&') {
        text += raw[i];
        continue;
      }
      const size_t end = raw.find(';', i);
      const auto found = kEntities.find(raw.substr(i + 1, end == raw.npos ? 0 : end - i - 1));
      if (found == kEntities.end()) Fail("a bare &");
      text += found->second;
      i = end;
    }
    return text;
  }

  void CheckCharacters() {
    for (at_ = 0; at_ < text_.size();) {
      const auto byte = [&](size_t i) {
        return at_ + i < text_.size() ? static_cast<unsigned char>(text_[at_ + i]) : 0u;
      };
      const unsigned first = byte(0);
      const size_t length = first < 0x80 ? 1 : first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
      unsigned code = length == 1 ? first : first & (0x7Fu >> length);
      if (first >= 0x80 && first < 0xC2) Fail("not UTF-8");
      for (size_t i = 1; i < length; ++i) {
        if ((byte(i) & 0xC0) != 0x80) Fail("not UTF-8");
        code = code << 6 | (byte(i) & 0x3F);
      }
      const bool is_char = code == 9 || code == 10 || code == 13 || (code >= 0x20 && code <= 0xD7FF) ||
                           (code >= 0xE000 && code <= 0xFFFD) || (code >= 0x10000 && code <= 0x10FFFF);
      if (!is_char) Fail("no character of XML");
      at_ += length;
    }
    at_ = 0;
  }

  std::string_view text_;
  size_t at_ = 0;
  std::vector<XmlElement> elements_;
};

}  // namespace

std::vector<XmlElement> ParseXml(std::string_view text) { return Parser(text).Run(); }

}  // namespace bitflash::verify
