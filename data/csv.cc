#include "data/csv.h"

#include <algorithm>

#include "data/text.h"

namespace bitflash::data {

InputError CsvError(std::string_view origin, int64_t line, int64_t column, std::string_view what) {
  return InputError(std::string(origin) + ":" + std::to_string(line) + ":" + std::to_string(column) + ": " +
                    std::string(what));
}

CsvReader::CsvReader(std::string_view text, std::string_view origin, char separator)
    : text_(text), origin_(origin), separator_(separator) {
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (text_.starts_with(kByteOrderMark)) text_.remove_prefix(kByteOrderMark.size());
}

std::string_view CsvReader::PeekLine() const {
  std::string_view line = text_.substr(at_, std::min(text_.find('\n', at_), text_.size()) - at_);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

void CsvReader::SkipLine() {
  const size_t end = text_.find('\n', at_);
  at_ = end == std::string_view::npos ? text_.size() : end + 1;
  NewLine();
}

CsvRecord CsvReader::Read() {
  CsvRecord record{line_, {}};
  while (true) {
    CsvField field{"", ColumnOf(at_)};
    if (at_ < text_.size() && text_[at_] == '"') {
      ReadQuoted(field);
    } else {
      const char ends[] = {separator_, '\n', '\0'};
      const size_t end = std::min(text_.find_first_of(std::string_view(ends, 2), at_), text_.size());
      field.text = text_.substr(at_, end - at_);
      at_ = end;
      const bool last = at_ == text_.size() || text_[at_] == '\n';
      if (last && field.text.ends_with('\r')) field.text.pop_back();
    }
    record.fields.push_back(std::move(field));
    if (at_ == text_.size()) return record;
    const char next = text_[at_++];
    if (next == separator_) continue;
    NewLine();  // \n, or the \n of \r\n
    return record;
  }
}

// From an opening quote to behind the closing one and a \r before the end of the line.
void CsvReader::ReadQuoted(CsvField& field) {
  const int64_t line = line_;
  ++at_;
  while (true) {
    const size_t quote = text_.find('"', at_);
    if (quote == std::string_view::npos) {
      throw CsvError(origin_, line, field.column, "a quote (\") is opened and never closed: expected a second one");
    }
    for (size_t end = text_.find('\n', at_); end < quote; end = text_.find('\n', end + 1)) {
      ++line_;
      line_begin_ = end + 1;
    }
    field.text.append(text_.substr(at_, quote - at_));
    at_ = quote + 1;
    if (at_ == text_.size() || text_[at_] != '"') break;
    field.text += '"';
    ++at_;
  }
  if (at_ < text_.size() && text_[at_] == '\r' && (at_ + 1 == text_.size() || text_[at_ + 1] == '\n')) ++at_;
  if (at_ < text_.size() && text_[at_] != separator_ && text_[at_] != '\n') {
    throw CsvError(origin_, line_, ColumnOf(at_),
                   Quoted(text_.substr(at_, 1)) + " follows a closing quote: expected " +
                       Quoted(std::string_view(&separator_, 1)) + " or the end of the line");
  }
}

}  // namespace bitflash::data
