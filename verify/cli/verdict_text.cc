#include "verify/cli/verdict_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "verify/cli/suggest.h"
#include "verify/cli/table.h"
#include "verify/cli/text.h"
#include "verify/cli/units.h"

namespace bitflash::verify {
namespace {

constexpr size_t kFullCases = 3;     // failing cases that are told in full; of the others a line
constexpr size_t kPassLines = 20;    // of passing cases; the others are counted
constexpr size_t kPrintedLines = 6;  // of what a plug-in printed
constexpr int kPrintedColumns = 100;
constexpr int kLabel = 13;  // columns

std::string Line(std::string_view label, std::string_view text) {
  return Pad(label, kLabel, Align::kLeft) + std::string(text) + "\n";
}

Colour ColourOf(Outcome outcome) {
  return outcome == Outcome::kPass ? Colour::kGreen : outcome == Outcome::kUndecided ? Colour::kYellow : Colour::kRed;
}

std::string Verdict(const CaseReport& c) {
  if (c.outcome == Outcome::kBroken) return "plug-in failed";
  // The judgement may pass where a check of the calls does not.
  if (c.judgement && (c.outcome != Outcome::kFail || c.judgement->rung == Rung::kWrong)) {
    return std::string(Name(c.judgement->rung));
  }
  return std::string(Name(c.outcome));
}

std::string ElementText(const TensorEvidence& e, const Element& x, bool lse) {
  return fmt::format("{}: got {} = {:.6g}, truth {:.6g}, bound {:.3g}", IndexText(x, lse), HexBits(e.type, x.bits),
                     x.got, x.truth, x.bound);
}

// "score" is error over bound.
std::string ScoreTable(const TensorEvidence& e) {
  std::string text;
  for (size_t n = 0; n < e.by_score.size(); ++n) {
    const bool last = n == e.kScoreSteps.size();
    const std::string step = last                   ? "more"
                             : e.kScoreSteps[n] < 1 ? fmt::format("1/{:g}", 1 / e.kScoreSteps[n])
                                                    : fmt::format("{:g}", e.kScoreSteps[n]);
    if (e.by_score[n] == 0) continue;
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", last ? step : "to " + step, Grouped(e.by_score[n]));
  }
  return text;
}

std::string TensorText(const char* name, const TensorEvidence& e, bool lse, bool color) {
  std::string text = Line(name, fmt::format("{}, {} elements: {} NaN, {} infinite, {} beyond the bound", Name(e.type),
                                            Grouped(e.elements), Grouped(e.nan), Grouped(e.infinite),
                                            Paint(Grouped(e.beyond), e.beyond ? Colour::kRed : Colour::kGreen, color)));
  if (e.all_ones > 0) text += Line("", Grouped(e.all_ones) + " elements are all ones, as never written");
  if (e.plus_infinity > 0) {
    text += Line("", Grouped(e.plus_infinity) + " rows without keys have +inf, FlashAttention-2's convention for -inf");
  }
  if (e.kind_differs > 0) {
    text += Line("", fmt::format("{} are NaN, infinite or finite where the truth is not; first {}",
                                 Grouped(e.kind_differs), ElementText(e, *e.first_kind, lse)));
  }
  if (e.worst && std::isfinite(e.worst->score()) && e.worst->score() > 0) {
    text += Line("", fmt::format("worst {}: {:.3g} of the bound", ElementText(e, *e.worst, lse), e.worst->score()));
  } else if (e.worst && e.kind_differs == 0 && std::isinf(e.worst->score())) {
    text += Line("", fmt::format("worst {}", ElementText(e, *e.worst, lse)));
  }
  if (e.farthest && e.farthest->error() > 0 && e.worst && e.farthest->index != e.worst->index) {
    text += Line("", fmt::format("largest error {:.3g} at {}", e.farthest->error(), ElementText(e, *e.farthest, lse)));
  }
  if (e.sum_squared_error > 0) {
    text +=
        Line("", fmt::format("relative error (root mean square) {:.3g}; error / bound: {}",
                             std::sqrt(e.sum_squared_error / std::max(e.sum_squared_truth, 1e-300)), ScoreTable(e)));
  }
  return text;
}

std::string BitsText(const char* label, const BitAgreement& b) {
  if (b.elements == 0) return Line(label, b.kernel + ": " + (b.reason.empty() ? "nothing was compared" : b.reason));
  if (b.differ == 0) return Line(label, fmt::format("{}: all {} elements equal", b.kernel, Grouped(b.elements)));
  const bool in_o = b.o.bits_differ > 0;
  const Difference& d = in_o ? b.o : *b.lse;
  std::string text =
      Line(label, fmt::format("{}: {} of {} elements differ ({})", b.kernel, Grouped(b.differ), Grouped(b.elements),
                              Percent(static_cast<double>(b.differ) / static_cast<double>(b.elements))));
  return text + Line("", fmt::format("first in {} at {}: got {}, simulated {}; at most {} ulps", in_o ? "O" : "LSE",
                                     data::ShapeString(d.first.index), HexBits(d.type, d.first.a_bits),
                                     HexBits(d.type, d.first.b_bits), d.max_ulps));
}

// Heads down, rows across; a digit is the share of wrong elements in tenths.
std::string MapText(const ErrorPlaces& p) {
  if (p.by_cell.empty() || p.by_cell[0].size() < 2) return "";
  std::string text = Line("map", fmt::format("{} {} a line, {} {} a column; . right, 1 to 9 tenths wrong, # all",
                                             p.heads_per_cell, p.heads_per_cell == 1 ? "head" : "heads",
                                             p.rows_per_cell, p.rows_per_cell == 1 ? "row" : "rows"));
  for (size_t n = 0; n < p.by_cell.size(); ++n) {
    std::string cells;
    for (size_t m = 0; m < p.by_cell[n].size(); ++m) {
      const int64_t judged = p.judged_by_cell[n][m], wrong = p.by_cell[n][m];
      if (judged == 0) {
        cells += ' ';
      } else if (wrong == 0) {
        cells += '.';
      } else {
        cells += wrong == judged ? '#' : static_cast<char>('0' + std::clamp<int64_t>(10 * wrong / judged, 1, 9));
      }
    }
    text += Line("", cells);
  }
  return text;
}

std::string HypothesisText(const Hypothesis& h) {
  std::string text = h.reading;
  const std::string kernel = h.tiles.empty() ? h.kernel : h.kernel + ", " + h.tiles;
  if (h.identical()) return text + fmt::format(": identical, all {} elements ({})", Grouped(h.elements), kernel);
  text += fmt::format(": explains {}", Percent(h.explained));
  if (h.equal > 0) text += fmt::format(", {} of {} bits equal", Grouped(h.equal), Grouped(h.elements));
  if (!h.kernel.empty()) text += fmt::format(" ({})", kernel);
  return text;
}

std::string DiagnosisText(const Diagnosis& d, bool color) {
  std::string text;
  if (const Hypothesis* finding = d.finding()) {
    text += Line("looks like", Paint(HypothesisText(*finding), Colour::kBold, color));
  } else {
    text += Line("looks like", fmt::format("nothing known: {} simulations and fits explain too little", d.tried));
  }
  size_t shown = 0;
  for (const Hypothesis& h : d.hypotheses) {
    if (&h == d.finding()) continue;
    if (++shown > 3) break;
    text += Line("", (d.finding() ? "or " : "nearest: ") + HypothesisText(h));
  }
  for (const std::string& reason : d.left_out) text += Line("", "not tried: " + reason);
  return text;
}

// At most so many columns of it, and whether there is more.
std::string Cut(const std::string& text, int columns) {
  if (DisplayWidth(text) <= columns) return text;
  size_t end = 0;
  for (size_t next = 1; next <= text.size(); ++next) {
    const bool continues = next < text.size() && (static_cast<unsigned char>(text[next]) & 0xC0) == 0x80;
    if (continues) continue;
    if (DisplayWidth(std::string_view(text).substr(0, next)) > columns) break;
    end = next;
  }
  return text.substr(0, end) + "...";
}

std::string CallsText(const CallFacts& c) {
  std::string text;
  if (c.unwritten_o + c.unwritten_lse > 0) {
    text += Line("not written",
                 fmt::format("{} elements of O, {} of LSE", Grouped(c.unwritten_o), Grouped(c.unwritten_lse)));
  }
  if (c.differing_o + c.differing_lse > 0) {
    text += Line("not stable", fmt::format("{} elements of O, {} of LSE changed from one call to the next",
                                           Grouped(c.differing_o), Grouped(c.differing_lse)));
  }
  if (c.stale_o > 0) text += Line("stale", fmt::format("{} elements of O do not depend on V", Grouped(c.stale_o)));
  if (!c.fp_control_note.empty()) text += Line("note", Printable(c.fp_control_note));
  if (c.printed.empty()) return text;
  std::vector<std::string> lines = {""};
  for (const char letter : c.printed) {
    if (letter == '\n') {
      lines.emplace_back();
    } else {
      lines.back() += letter;
    }
  }
  std::erase(lines, "");
  for (size_t n = lines.size() > kPrintedLines ? lines.size() - kPrintedLines : 0; n < lines.size(); ++n) {
    text += Line("printed", Cut(Printable(lines[n]), kPrintedColumns));
  }
  return text;
}

std::string RelationsText(const std::vector<MetamorphicResult>& checks, bool color) {
  if (checks.empty()) return "";
  int64_t passed = 0, skipped = 0;
  std::string failed;
  for (const MetamorphicResult& check : checks) {
    passed += check.status == MetamorphicStatus::kPassed;
    skipped += check.status == MetamorphicStatus::kNotApplicable;
    if (check.status != MetamorphicStatus::kFailed) continue;
    // Where to look is said of the first one; most mistakes break several.
    const std::string what =
        failed.empty() ? RelationText(check)
                       : fmt::format("{}: {} elements beyond their bounds", check.compared, Grouped(check.failures));
    failed += Line("", Paint("failed ", Colour::kRed, color) + check.name + ": " + what);
  }
  return Line("relations", fmt::format("{} of {} hold, {} do not apply", passed, checks.size(), skipped)) + failed;
}

// Who judged which rows; nothing where fp64 saw them all.
std::string WitnessesText(const Judgement& j) {
  if (!j.sampled) {
    return j.witness ? Line("witness", fmt::format("{} judged nothing: {}", j.witness->kernel, j.witness->reason)) : "";
  }
  const bool used = j.witness && j.witness->used;
  std::string text;
  if (!used) {
    text = Line("sample", fmt::format("{} parts, {} elements of O", j.parts.size(), Grouped(j.evidence.o().elements)));
    if (j.witness) text += Line("", fmt::format("{} was no second witness: {}", j.witness->kernel, j.witness->reason));
    return text;
  }
  const WitnessReport& w = *j.witness;
  text =
      Line("rows",
           fmt::format("{} judged by fp64 in {}, the other {} by {} with its error added to the bounds, in {}",
                       Grouped(j.fp64_rows), Seconds(j.truth_seconds), Grouped(w.rows), w.kernel, Seconds(w.seconds)));
  text += Line("", fmt::format("{} agrees with fp64 on {} rows: at most {:.3g} of its own error bound", w.kernel,
                               Grouped(w.check.rows), w.check.worst));
  if (j.named || j.variant) text += Line("", "bits were compared on rows of fp64 only");
  if (w.beyond > 0)
    text += Line("", fmt::format("{} elements beyond the bound in rows of {}", Grouped(w.beyond), w.kernel));
  if (w.open > 0)
    text += Line("", fmt::format("{} elements are open: {} may overflow there", Grouped(w.open), w.kernel));
  return text;
}

std::string FullText(const CaseReport& c, bool color) {
  std::string text = fmt::format("{}: {}\n", Paint(Printable(c.name), Colour::kBold, color),
                                 Paint(Verdict(c), ColourOf(c.outcome), color));
  text += Line("reason", Printable(c.reason));
  text += Line("problem", c.problem);
  for (size_t n = 0; n < c.assumed.size(); ++n) text += Line(n == 0 ? "assumed" : "", Printable(c.assumed[n]));
  if (c.judgement) {
    const Judgement& j = *c.judgement;
    text += WitnessesText(j);
    text += TensorText("O", j.evidence.o(), false, color);
    if (j.evidence.lse()) text += TensorText("LSE", *j.evidence.lse(), true, color);
    if (j.named) text += BitsText("bits", *j.named);
    if (j.variant) text += BitsText(j.named ? "" : "bits", *j.variant);
  }
  if (c.locality && !c.locality->statements.empty()) {
    text += Line("where", Join(c.locality->statements, "; "));
    text += MapText(c.judgement->evidence.places());
  }
  if (c.diagnosis) text += DiagnosisText(*c.diagnosis, color);
  if (c.calls) text += CallsText(*c.calls);
  text += RelationsText(c.metamorphic, color);
  if (c.judgement && c.judgement->flash_rule) {
    const FlashRule& rule = *c.judgement->flash_rule;
    text += Line("FA's rule",
                 fmt::format("{}: error {:.3g}, limit {:.3g}; {} of {} rows{} could be zeros and pass",
                             rule.passes() ? "passes" : "fails", rule.error, rule.limit, Grouped(rule.blind_rows),
                             Grouped(rule.rows), rule.sampled ? " of a sample" : ""));
  }
  for (size_t n = 0; n < c.advice.size(); ++n) text += Line(n == 0 ? "next" : "", Printable(c.advice[n]));
  if (!c.saved.empty()) text += Line("saved", fmt::format("{}: {}", Printable(c.saved), c.saved_problem));
  if (!c.command.empty()) text += Line("to repeat", Printable(c.command));
  return text;
}

}  // namespace

std::string IndexText(const Element& x, bool lse) {
  return lse ? fmt::format("({}, {}, {})", x.index[0], x.index[1], x.index[2])
             : fmt::format("({}, {}, {}, {})", x.index[0], x.index[1], x.index[2], x.index[3]);
}

std::string Shortest(double value) {
  return std::isfinite(value) ? fmt::format("{}", value) : fmt::format("{:g}", value);
}

std::string ReportText(const Report& r, bool color) {
  std::string text, full;
  if (r.cases.size() > 1) text += fmt::format("{}, {} cases\n", Printable(r.subject), r.cases.size());
  Table table({{"case"}, {"verdict"}, {"largest error / bound", Align::kRight}, {"looks like"}});
  size_t told = 0, rows = 0, passes = 0;
  for (const CaseReport& c : r.cases) {
    const bool pass = c.outcome == Outcome::kPass;
    if (r.cases.size() == 1 || (!pass && told < kFullCases)) {
      ++told;
      full += FullText(c, color) + "\n";
      continue;
    }
    if (pass && ++passes > kPassLines) continue;
    ++rows;
    const std::optional<Element> worst = c.judgement ? c.judgement->evidence.o().worst : std::nullopt;
    const Hypothesis* finding = c.diagnosis ? c.diagnosis->finding() : nullptr;
    table.Row({Printable(c.name), Paint(Verdict(c), ColourOf(c.outcome), color),
               worst ? fmt::format("{:.3g}", worst->score()) : "", finding ? finding->reading : ""});
  }
  if (rows > 0) text += table.ToString(color);
  if (passes > kPassLines) text += fmt::format("and {} more that pass\n", passes - kPassLines);
  if (!text.empty()) text += "\n";
  return text + full +
         fmt::format("RESULT pass={} fail={} undecided={}\n", r.Count(Outcome::kPass),
                     r.Count(Outcome::kFail) + r.Count(Outcome::kBroken), r.Count(Outcome::kUndecided));
}

}  // namespace bitflash::verify
