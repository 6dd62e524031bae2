#include "verify/cli/document.h"

#include <algorithm>
#include <cctype>

#include "verify/cli/text.h"

namespace bitflash::verify {
namespace {

// Wrap breaks lines at blanks; a number and its unit stay together when a no-break space stands between them.
constexpr std::string_view kNoBreak = "\u00A0";
constexpr std::string_view kUnits[] = {"%",    "k",      "M",     "G",     "T",     "B",    "KiB", "MiB",
                                       "GiB",  "TiB",    "PiB",   "s",     "ms",    "us",   "ns",  "x",
                                       "FLOP", "FLOP/B", "MFLOP", "GFLOP", "TFLOP", "PFLOP"};

bool StartsWithUnit(std::string_view text) {
  size_t end = 0;
  while (end < text.size() && (std::isalpha(static_cast<unsigned char>(text[end])) || text[end] == '%' ||
                               (text[end] == '/' && end + 1 < text.size() && text[end + 1] == 'B'))) {
    ++end;
  }
  return std::find(std::begin(kUnits), std::end(kUnits), text.substr(0, end)) != std::end(kUnits);
}

std::string WrapProse(std::string_view text, int width, std::string_view indent = "") {
  std::string glued;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool after_digit = i > 0 && std::isdigit(static_cast<unsigned char>(text[i - 1]));
    if (text[i] == ' ' && after_digit && StartsWithUnit(text.substr(i + 1))) {
      glued += kNoBreak;
    } else {
      glued += text[i];
    }
  }
  std::string wrapped = Wrap(glued, width, indent);
  for (size_t at = wrapped.find(kNoBreak); at != std::string::npos; at = wrapped.find(kNoBreak, at)) {
    wrapped.replace(at, kNoBreak.size(), " ");
  }
  return wrapped;
}

std::string LayoutItem(const DocumentBlock& block, int width) {
  const std::string hang(static_cast<size_t>(DisplayWidth(block.marker)) + 3, ' ');
  std::string text = WrapProse(block.text, width, hang);
  // The marker takes the place of the first line's indent.
  return "  " + block.marker + " " + text.substr(hang.size());
}

std::string LayoutTable(const DocumentTable& data, bool colour) {
  Table table(data.columns);
  for (size_t i = 0; i < data.rows.size(); ++i) {
    if (data.rows[i].empty()) {
      table.Rule();
      continue;
    }
    std::vector<std::string> cells = data.rows[i];
    if (static_cast<int>(i) == data.emphasised) {
      for (std::string& cell : cells) cell = Paint(cell, Colour::kBold, colour);
    }
    table.Row(std::move(cells));
  }
  return table.ToString(colour, 2);
}

std::string EndLine(std::string text) {
  if (!text.empty() && text.back() != '\n') text += '\n';
  return text;
}

}  // namespace

std::string Layout(const Document& document, int width, bool colour) {
  std::string out;
  if (!document.title.empty()) {
    std::string title = Wrap(document.title, width);
    while (!title.empty() && title.back() == '\n') title.pop_back();
    out += EndLine(Paint(title, Colour::kBold, colour));
  }
  for (const DocumentPart& part : document.parts) {
    if (!out.empty()) out += '\n';
    if (!part.heading.empty()) out += Paint(part.heading, Colour::kCyan, colour) + "\n\n";
    for (size_t i = 0; i < part.blocks.size(); ++i) {
      const DocumentBlock& block = part.blocks[i];
      const bool list_goes_on =
          i > 0 && block.kind == DocumentBlock::Kind::kItem && block.kind == part.blocks[i - 1].kind;
      if (i > 0 && !list_goes_on) out += '\n';
      switch (block.kind) {
        case DocumentBlock::Kind::kParagraph:
          out += EndLine(WrapProse(block.text, width));
          break;
        case DocumentBlock::Kind::kItem:
          out += EndLine(LayoutItem(block, width));
          break;
        case DocumentBlock::Kind::kTable:
          out += EndLine(LayoutTable(block.table, colour));
          break;
      }
    }
  }
  return out;
}

}  // namespace bitflash::verify
