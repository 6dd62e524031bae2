// A text with headings, paragraphs, lists and tables, before it is laid out for a terminal or written as JSON.
#ifndef BITFLASH_VERIFY_CLI_DOCUMENT_H_
#define BITFLASH_VERIFY_CLI_DOCUMENT_H_

#include <string>
#include <vector>

#include "verify/cli/table.h"

namespace bitflash::verify {

struct DocumentTable {
  std::vector<Table::Column> columns;
  std::vector<std::vector<std::string>> rows;  // an empty row is a rule
  int emphasised = -1;                         // index of the row to print in bold
};

struct DocumentBlock {
  enum class Kind { kParagraph, kItem, kTable };
  Kind kind = Kind::kParagraph;
  std::string marker;   // kItem: "1." or "-"
  std::string text;     // kParagraph, kItem
  DocumentTable table;  // kTable
};

struct DocumentPart {
  std::string id;  // "1" ... "8", "claims", "verdict"
  std::string heading;
  std::vector<DocumentBlock> blocks;

  void Paragraph(std::string text) { blocks.push_back({DocumentBlock::Kind::kParagraph, "", std::move(text), {}}); }
  void Item(std::string marker, std::string text) {
    blocks.push_back({DocumentBlock::Kind::kItem, std::move(marker), std::move(text), {}});
  }
  void Add(DocumentTable table) { blocks.push_back({DocumentBlock::Kind::kTable, "", "", std::move(table)}); }
};

struct Document {
  std::string title;
  std::vector<DocumentPart> parts;
};

// Laid out for `width` columns of a terminal. Paragraphs and list items are wrapped; tables are as wide as they are.
std::string Layout(const Document& document, int width, bool colour);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_DOCUMENT_H_
