#include "verify/predict/explain.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "verify/cli/explain_json.h"
#include "verify/cli/explain_writer.h"
#include "verify/cli/shell.h"
#include "verify/cli/text.h"
#include "verify/schema_check.h"

namespace bitflash::verify {
namespace {

using data::Mask;
using data::Phase;

Explanation ExplainModel(const std::string& name, Phase phase, int64_t seqlen, const std::string& gpu,
                         bool full_mask = false) {
  const data::Model model = data::LoadModel(name);
  ExplainInput input{.attention = data::ToAttention(model, model.groups[0], phase, 1, seqlen),
                     .phase = phase,
                     .gpu = data::LoadGpu(gpu),
                     .model = model};
  if (full_mask) input.attention.mask = *(input.mask = Mask::Full());
  return Explain(input);
}

// One line, so that a phrase is found wherever the text was wrapped.
std::string Flat(const Document& document) {
  std::string flat;
  for (const DocumentPart& part : document.parts) {
    for (const DocumentBlock& block : part.blocks) flat += block.text + "\n";
  }
  return flat;
}

void CheckText(const Explanation& e, const std::string& what) {
  for (const Language language : {Language::kEnglish, Language::kChinese}) {
    CAPTURE(what);
    CAPTURE(std::string(Name(language)));
    const Document document = WriteExplanation(e, Catalogue::For(language));
    REQUIRE(document.parts.size() == 11);
    for (const DocumentPart& part : document.parts) CHECK_FALSE(part.blocks.empty());
    for (const int width : {80, 100}) {
      const std::string text = Layout(document, width, false);
      CHECK(text.find('{') == std::string::npos);
      CHECK(text.find('}') == std::string::npos);
      CHECK(text.find("nan") == std::string::npos);
      CHECK(text.find("inf x") == std::string::npos);
      for (const std::string& line : Lines(text)) {
        CAPTURE(line);
        // Tables do not wrap; they fit 100 columns.
        CHECK(DisplayWidth(line) <= (line.rfind("  ", 0) == 0 ? 112 : width));
        CHECK((line.empty() || line.back() != ' '));
      }
    }
  }
}

}  // namespace

TEST_CASE("amounts keep one unit among neighbours") {
  CHECK(Amount(0) == "0 B");
  CHECK(Amount(512) == "512 B");
  CHECK(Amount(1023) == "1,023 B");
  CHECK(Amount(1024) == "1.0 KiB");
  CHECK(Amount(2 << 20) == "2.0 MiB");
  CHECK(Amount(32 << 20) == "32 MiB");
  CHECK(Amount(int64_t{16384} << 20) == "16,384 MiB");
  CHECK(Amount(int64_t{4096} << 30) == "4,096 GiB");
  CHECK(Amount((33 << 20) + (1 << 19)) == "33.5 MiB");
}

TEST_CASE("the numbers that the explanation exists for are in the text, in both languages") {
  const Explanation prefill = ExplainModel("llama-3-8b", Phase::kPrefill, 8192, "h200", /*full_mask=*/true);
  const Explanation decode = ExplainModel("llama-3-8b", Phase::kDecode, 8192, "h200");
  for (const Language language : {Language::kEnglish, Language::kChinese}) {
    const std::string a = Flat(WriteExplanation(prefill, Catalogue::For(language)));
    CHECK(a.find("16,384 MiB") != std::string::npos);
    CHECK(a.find("160 MiB") != std::string::npos);
    const std::string b = Flat(WriteExplanation(decode, Catalogue::For(language)));
    CHECK(b.find("2.0 MiB") != std::string::npos);
    CHECK(b.find("32 MiB") != std::string::npos);
  }
  const std::string english = Flat(WriteExplanation(decode, Catalogue::For(Language::kEnglish)));
  CHECK(english.find("This is not where decode gains: 2.0 MiB of S and P stand against 32 MiB of K and V") !=
        std::string::npos);
  const std::string chinese = Flat(WriteExplanation(decode, Catalogue::For(Language::kChinese)));
  CHECK(chinese.find("解码的收益不在这里：S 和 P 只有 2.0 MiB") != std::string::npos);
}

TEST_CASE("every part is present in both languages, complete and within the width") {
  for (const std::string& model : data::ModelNames()) {
    for (const Phase phase : {Phase::kPrefill, Phase::kDecode}) {
      CheckText(ExplainModel(model, phase, 8192, "h200"), model);
      CheckText(ExplainModel(model, phase, 300, "t4"), model + " on t4");
    }
  }
  for (const auto& [q, k] : {std::pair{1, 1}, {1, 2}, {16, 8192}, {300, 7}}) {
    const data::Attention a{.heads_q = 8, .heads_kv = 2, .seqlen_q = q, .seqlen_k = k, .mask = Mask::Window(127, 0)};
    CheckText(Explain({.attention = a, .gpu = data::LoadGpu("a100-80gb")}), data::ToString(a));
  }
}

TEST_CASE("tables line up by display width") {
  const Explanation e = ExplainModel("gemma-3-27b", Phase::kPrefill, 8192, "h200");
  const Document document = WriteExplanation(e, Catalogue::For(Language::kChinese), {"5"});
  // Right-aligned last column: the rows of a table end at the same column.
  size_t tables = 0;
  for (const DocumentBlock& block : document.parts.back().blocks) {
    if (block.kind != DocumentBlock::Kind::kTable) continue;
    Document one{"", {{"x", "", {block}}}};
    int width = 0;
    for (const std::string& line : Lines(Layout(one, 100, false))) {
      if (line.empty()) continue;
      if (width == 0) width = DisplayWidth(line);
      CAPTURE(line);
      CHECK(DisplayWidth(line) <= width);
    }
    ++tables;
  }
  CHECK(tables == 2);  // the comparison and the layer groups
}

TEST_CASE("parts can be selected") {
  const Explanation e = ExplainModel("llama-3-8b", Phase::kPrefill, 1024, "h200");
  const Document document = WriteExplanation(e, Catalogue::For(Language::kEnglish), {"1", "claims"});
  REQUIRE(document.parts.size() == 3);
  CHECK(document.parts[0].id == "introduction");
  CHECK(document.parts[1].id == "1");
  CHECK(document.parts[2].id == "claims");
}

TEST_CASE("the JSON is what the schema says") {
  for (const std::string& model : data::ModelNames()) {
    for (const Phase phase : {Phase::kPrefill, Phase::kDecode}) {
      const Explanation e = ExplainModel(model, phase, 2048, "h200");
      const Catalogue& catalogue = Catalogue::For(Language::kChinese);
      const Json json = ExplanationJson(e, WriteExplanation(e, catalogue), catalogue);
      for (const std::string& error :
           CheckSchema(nlohmann::json::parse(json.dump()), BITFLASH_SOURCE_DIR "/verify/schemas/explain.schema.json")) {
        FAIL_CHECK(model << ": " << error);
      }
      CHECK(json["claims"].size() == 10);
      CHECK(json["parts"].size() == 11);
    }
  }
}

}  // namespace bitflash::verify
