#include "verify/cli/document.h"

#include "verify/cli/text.h"

namespace bitflash::verify {
namespace {

std::string LayoutItem(const DocumentBlock& block, int width) {
  const std::string hang(static_cast<size_t>(DisplayWidth(block.marker)) + 3, ' ');
  std::string text = Wrap(block.text, width, hang);
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
    out += EndLine(Paint(document.title, Colour::kBold, colour));
  }
  for (const DocumentPart& part : document.parts) {
    if (!out.empty()) out += '\n';
    if (!part.heading.empty()) out += Paint(part.heading, Colour::kCyan, colour) + "\n\n";
    for (size_t i = 0; i < part.blocks.size(); ++i) {
      const DocumentBlock& block = part.blocks[i];
      const bool list_goes_on = i > 0 && block.kind == DocumentBlock::Kind::kItem && block.kind == part.blocks[i - 1].kind;
      if (i > 0 && !list_goes_on) out += '\n';
      switch (block.kind) {
        case DocumentBlock::Kind::kParagraph: out += EndLine(Wrap(block.text, width)); break;
        case DocumentBlock::Kind::kItem: out += EndLine(LayoutItem(block, width)); break;
        case DocumentBlock::Kind::kTable: out += EndLine(LayoutTable(block.table, colour)); break;
      }
    }
  }
  return out;
}

}  // namespace bitflash::verify
