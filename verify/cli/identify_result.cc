#include "verify/cli/identify_result.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "verify/cli/suggest.h"
#include "verify/cli/table.h"
#include "verify/cli/text.h"
#include "verify/cli/traffic_result.h"
#include "verify/cli/units.h"

namespace bitflash::verify {
namespace {

constexpr size_t kUnexplainedLines = 8, kHintLines = 4;
constexpr int kWidth = 100;

bool IsExact(const Identification& found) { return found.verdict == Identification::Verdict::kExact; }

// "32+ elements (over fused)", "same bits: ex2"; what is known of a choice in a few words.
std::string EvidenceText(const ChoiceEvidence& e) {
  if (!e.nearest.empty()) {
    const bool enough = e.decided_by - e.against >= kEnoughElements;
    std::string text = fmt::format("{}{} over {}", e.decided_by, enough ? "+" : "", e.nearest);
    if (e.against > 0) text += fmt::format(", {} against", e.against);
    return e.same.empty() ? text : text + "; open: " + Join(e.same, " ");
  }
  if (e.same.empty()) return "";
  constexpr size_t kMost = 4;
  std::vector<std::string> some(e.same.begin(), e.same.begin() + static_cast<int64_t>(std::min(kMost, e.same.size())));
  if (e.same.size() > kMost) some.push_back("...");
  return "open: also " + Join(some, " ");
}

std::string Bits(const Unexplained& u, uint32_t bits) {
  return u.lse ? fmt::format("0x{:08x}", bits) : fmt::format("0x{:04x}", bits);
}

std::string Differences(const Identification& found) {
  std::string text = fmt::format("differ       {} rows of {}, {} of them in one or two elements\n",
                                 Grouped(found.rows_differ), Grouped(found.rows), Grouped(found.rows_one_or_two));
  Table table({{"batch", Align::kRight},
               {"head", Align::kRight},
               {"row", Align::kRight},
               {"column", Align::kRight},
               {"observed"},
               {"simulated"},
               {"ulps", Align::kRight}});
  for (size_t n = 0; n < std::min(kUnexplainedLines, found.unexplained.size()); ++n) {
    const Unexplained& u = found.unexplained[n];
    table.Row({fmt::format("{}", u.sequence), fmt::format("{}", u.head), fmt::format("{}", u.row),
               u.lse ? "LSE" : fmt::format("{}", u.column), Bits(u, u.observed), Bits(u, u.simulated),
               u.ulps < 0 ? "-" : Grouped(u.ulps)});
  }
  text += table.ToString(false, 2);
  for (size_t n = 0; n < std::min(kHintLines, found.hints.size()); ++n) {
    const KeyHint& hint = found.hints[n];
    text += fmt::format("  batch {}, head {}, row {}: the residual follows key {} of tile {} (correlation {:.3f})\n",
                        hint.sequence, hint.head, hint.row, hint.key, hint.tile, hint.correlation);
  }
  for (const std::string& suggestion : found.suggestions) text += Wrap("suggests: " + suggestion, kWidth, "  ") + "\n";
  return text;
}

}  // namespace

std::string ReplayCommand(const std::vector<std::string>& arguments, const std::string& recipe_path) {
  constexpr std::string_view kDropped[] = {"--o", "--lse", "--out-recipe", "--arch", "--json", "--color"};
  std::string command = fmt::format("bitflash run --recipe {}", ShellWord(recipe_path));
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& word = arguments[i];
    const std::string_view flag = std::string_view(word).substr(0, word.find('='));
    if (std::ranges::find(kDropped, flag) == std::end(kDropped)) {
      command += " " + ShellWord(word);
    } else if (flag == word && flag != "--json") {
      ++i;  // the value is the next word
    }
  }
  return command;
}

Json IdentifyJson(const IdentifyResult& r) {
  const Identification& f = r.found;
  Json choices = Json::array(), unexplained = Json::array(), hints = Json::array();
  for (const ChoiceEvidence& e : f.choices) {
    choices.push_back({{"choice", e.choice},
                       {"value", e.value},
                       {"meaning", e.meaning},
                       {"nearest", e.nearest.empty() ? Json(nullptr) : Json(e.nearest)},
                       {"decided_by", e.decided_by},
                       {"against", e.against},
                       {"same", e.same}});
  }
  for (const Unexplained& u : f.unexplained) {
    unexplained.push_back({{"tensor", u.lse ? "lse" : "o"},
                           {"batch", u.sequence},
                           {"head", u.head},
                           {"row", u.row},
                           {"column", u.lse ? Json(nullptr) : Json(u.column)},
                           {"observed", Bits(u, u.observed)},
                           {"simulated", Bits(u, u.simulated)},
                           {"ulps", u.ulps < 0 ? Json(nullptr) : Json(u.ulps)}});
  }
  for (const KeyHint& hint : f.hints) {
    hints.push_back({{"batch", hint.sequence},
                     {"head", hint.head},
                     {"row", hint.row},
                     {"key", hint.key},
                     {"tile", hint.tile},
                     {"correlation", hint.correlation}});
  }
  return {{"schema", "bitflash.identify/1"},
          {"version", BITFLASH_VERSION},
          {"verdict", IsExact(f) ? "exact" : "partial"},
          {"problem", ProblemJson(r.workload.attention())},
          {"inputs", r.inputs},
          {"outputs", r.outputs},
          {"assumed", r.workload.assumed},
          {"named", f.named},
          {"like", f.like.empty() ? Json(nullptr) : Json(f.like)},
          {"recipe", RecipeJson(f.recipe)},
          {"choices", choices},
          {"o", {{"elements", f.elements}, {"equal", f.equal}}},
          {"lse", {{"given", r.has_lse}, {"modelled", f.lse_modelled}, {"rows", f.lse_rows}, {"equal", f.lse_equal}}},
          {"rows", {{"verified", f.rows}, {"all", f.all_rows}, {"differ", f.rows_differ}}},
          {"rows_one_or_two", f.rows_one_or_two},
          {"unexplained", unexplained},
          {"hints", hints},
          {"suggestions", f.suggestions},
          {"structures_not_tried", f.structures_not_tried},
          {"simulations", f.simulations},
          {"recipe_file", r.recipe_path ? Json(*r.recipe_path) : Json(nullptr)},
          {"command", r.command},
          {"seconds", r.seconds},
          {"threads", r.threads}};
}

std::string IdentifyText(const IdentifyResult& r, bool color) {
  const Identification& f = r.found;
  const bool exact = IsExact(f);
  const std::string verdict =
      exact ? Paint("identified", Colour::kGreen, color) : Paint("partial match", Colour::kYellow, color);
  const double share = static_cast<double>(f.equal) / static_cast<double>(std::max<int64_t>(1, f.elements));
  std::string text = fmt::format("{}: {} of {} elements of O are explained ({})\n", verdict, Grouped(f.equal),
                                 Grouped(f.elements), exact ? "all" : Percent(share));
  if (r.has_lse) {
    text += f.lse_modelled
                ? fmt::format("LSE          {} of {} rows are explained\n", Grouped(f.lse_equal), Grouped(f.lse_rows))
                : "LSE          has none of the forms that are modelled, and took no part\n";
  }
  if (f.rows < f.all_rows) text += fmt::format("verified     {} of {} rows\n", Grouped(f.rows), Grouped(f.all_rows));
  if (!f.named.empty()) {
    text += fmt::format("same bits as {}\n", Paint(Join(f.named), Colour::kBold, color));
  } else if (!f.like.empty()) {
    text += fmt::format("same choices as the recipe {}, with another tile\n", Paint(f.like, Colour::kBold, color));
  } else {
    text += "same bits as no built-in kernel\n";
  }
  text += fmt::format("problem      {}\n", data::ToString(r.workload.attention()));
  text += fmt::format("inputs       {}\n", Printable(r.inputs));
  text += fmt::format("outputs      {}\n", Printable(r.outputs));
  for (const std::string& assumed : r.workload.assumed) text += fmt::format("assumed      {}\n", Printable(assumed));

  Table table({{"choice"}, {"value"}, {"elements that decide"}, {"meaning"}});
  bool open = false;
  for (const ChoiceEvidence& e : f.choices) {
    table.Row({e.choice, Paint(e.value, e.open() ? Colour::kDim : Colour::kBold, color), EvidenceText(e), e.meaning});
    open |= e.open();
  }
  text += table.ToString(color);
  if (open) text += "open: these values give the same bits on everything that was compared\n";
  if (!exact && f.rows_differ > 0) text += Differences(f);
  if (f.structures_not_tried > 0) {
    text +=
        fmt::format("not tried    {} tilings, for want of time: give fewer keys\n", Grouped(f.structures_not_tried));
  }
  text += fmt::format("{} simulations of a block of rows in {} on {} thread{}\n", Grouped(f.simulations),
                      Seconds(r.seconds), r.threads, r.threads == 1 ? "" : "s");
  if (r.recipe_path) {
    text += fmt::format("wrote {}\nto replay    {}\n", Printable(*r.recipe_path), Printable(r.command));
  } else {
    text += fmt::format("to replay    add --out-recipe FILE.json, then {}\n", Printable(r.command));
  }
  return text;
}

}  // namespace bitflash::verify
