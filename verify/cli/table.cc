#include "verify/cli/table.h"

#include <algorithm>
#include <cassert>

namespace bitflash::verify {
namespace {

constexpr int kGap = 2;  // blanks between columns

}  // namespace

void Table::Row(std::vector<std::string> cells) {
  assert(cells.size() <= columns_.size());
  cells.resize(columns_.size());
  rows_.push_back(std::move(cells));
}

void Table::Rule() { rows_.emplace_back(); }

std::string Table::ToString(bool colour, int indent) const {
  std::vector<int> widths;
  bool titled = false;
  int total = -kGap;
  for (size_t c = 0; c < columns_.size(); ++c) {
    int width = DisplayWidth(columns_[c].title);
    for (const auto& row : rows_) {
      if (!row.empty()) width = std::max(width, DisplayWidth(row[c]));
    }
    widths.push_back(width);
    titled |= !columns_[c].title.empty();
    total += width + kGap;
  }

  const std::string margin(indent, ' ');
  std::string text;
  const auto append_line = [&](const std::vector<std::string>& cells, bool bold) {
    std::string line;
    int pending = 0;  // blanks that are written only when something follows
    for (size_t c = 0; c < columns_.size(); ++c) {
      const int blanks = widths[c] - DisplayWidth(cells[c]);
      const bool right = columns_[c].align == Align::kRight;
      if (!cells[c].empty()) {
        line += std::string(pending + (right ? blanks : 0), ' ') + Paint(cells[c], Colour::kBold, bold);
        pending = right ? 0 : blanks;
      } else {
        pending += widths[c];
      }
      pending += kGap;
    }
    text += (line.empty() ? "" : margin + line) + "\n";
  };

  if (titled) {
    std::vector<std::string> titles;
    for (const Column& column : columns_) titles.push_back(column.title);
    append_line(titles, colour);
  }
  for (const auto& row : rows_) {
    if (row.empty()) {
      text += margin + Paint(std::string(std::max(total, 0), '-'), Colour::kDim, colour) + "\n";
    } else {
      append_line(row, false);
    }
  }
  return text;
}

}  // namespace bitflash::verify
