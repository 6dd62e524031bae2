#include "verify/cli/ci_report.h"

#include <fmt/format.h>

#include <vector>

#include "verify/cli/suggest.h"
#include "verify/cli/text.h"

namespace bitflash::verify {
namespace {

// XML 1.0 has no control characters, escaped or not: Printable has turned them into visible text. Nor has it U+FFFE and
// U+FFFF (section 2.2).
std::string Xml(std::string_view text) {
  std::string printable = Printable(text), escaped;
  for (const std::string_view none : {"\xEF\xBF\xBE", "\xEF\xBF\xBF"}) {
    for (size_t at = printable.find(none); at != std::string::npos; at = printable.find(none, at)) {
      printable.replace(at, none.size(), "\xEF\xBF\xBD");
    }
  }
  for (const char c : printable) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

// One line of a JUnit file: what was checked of a case, and how it ended.
struct Check {
  std::string name;
  Outcome outcome;
  std::string text;
};

std::vector<Check> ChecksOf(const CaseReport& c) {
  std::vector<Check> checks;
  if (!c.judgement) return {{"verdict", c.outcome, c.reason}};
  const Judgement& j = *c.judgement;
  std::string text = j.reason;
  if (j.witness && !j.witness->used) text += ". No second witness: " + j.witness->reason;
  if (c.locality) text += ". Where: " + Join(c.locality->statements, "; ");
  if (c.diagnosis && c.diagnosis->finding()) text += ". Looks like " + c.diagnosis->finding()->reading;
  const Outcome judged = Passes(j.rung)               ? Outcome::kPass
                         : j.rung == Rung::kUndecided ? Outcome::kUndecided
                                                      : Outcome::kFail;
  checks.push_back({"verdict", judged, text});
  if (c.calls) {
    const auto check = [&](const char* name, int64_t bad, const char* what) {
      checks.push_back({name, bad > 0 ? Outcome::kFail : Outcome::kPass, fmt::format("{} elements {}", bad, what)});
    };
    check("written", c.calls->unwritten_o + c.calls->unwritten_lse, "were never written");
    check("repeatable", c.calls->differing_o + c.calls->differing_lse, "changed from one call to the next");
    check("fresh", c.calls->stale_o, "do not depend on V");
  }
  for (const MetamorphicResult& relation : c.metamorphic) {
    const Outcome outcome = relation.status == MetamorphicStatus::kPassed   ? Outcome::kPass
                            : relation.status == MetamorphicStatus::kFailed ? Outcome::kFail
                                                                            : Outcome::kUndecided;
    checks.push_back({relation.id, outcome, RelationText(relation)});
  }
  if (c.outcome == Outcome::kBroken) checks.push_back({"plug-in", Outcome::kBroken, c.reason});
  return checks;
}

std::string CheckXml(const CaseReport& c, const Check& check, double seconds) {
  const std::string open =
      fmt::format("    <testcase classname=\"{}\" name=\"{}\" time=\"{:.3f}\"", Xml(c.name), Xml(check.name), seconds);
  switch (check.outcome) {
    case Outcome::kPass:
      return open + "/>\n";
    case Outcome::kFail:
      return open + fmt::format(">\n      <failure message=\"{}\">{}</failure>\n    </testcase>\n", Xml(check.text),
                                Xml(c.command));
    case Outcome::kBroken:
      return open + fmt::format(">\n      <error message=\"{}\">{}</error>\n    </testcase>\n", Xml(check.text),
                                Xml(c.command));
    case Outcome::kUndecided:
      break;
  }
  return open + fmt::format(">\n      <skipped message=\"{}\"/>\n    </testcase>\n", Xml(check.text));
}

// GitHub's escapes: % and line ends in messages, : and , as well in properties.
std::string Escaped(std::string_view text, bool property) {
  std::string escaped;
  for (const char c : Printable(text)) {
    if (c == '%' || c == '\r' || c == '\n' || (property && (c == ':' || c == ','))) {
      escaped += fmt::format("%{:02X}", static_cast<unsigned>(static_cast<unsigned char>(c)));
    } else {
      escaped += c;
    }
  }
  return escaped;
}

// A cell of a Markdown table, without markup of its own.
std::string Cell(std::string_view text) {
  constexpr std::string_view kMarkup = "|\\`<>*_[]&~#!";
  std::string cell;
  for (const char c : Printable(text)) {
    if (kMarkup.find(c) != std::string_view::npos) cell += '\\';
    cell += c;
  }
  return cell;
}

}  // namespace

std::string JUnitXml(const Report& r) {
  std::string cases;
  int64_t tests = 0, failures = 0, errors = 0, skipped = 0;
  double seconds = 0;
  for (const CaseReport& c : r.cases) {
    double of_check = c.seconds;  // all of it with the first
    for (const Check& check : ChecksOf(c)) {
      cases += CheckXml(c, check, of_check);
      of_check = 0;
      ++tests;
      failures += check.outcome == Outcome::kFail;
      errors += check.outcome == Outcome::kBroken;
      skipped += check.outcome == Outcome::kUndecided;
    }
    seconds += c.seconds;
  }
  const std::string counts = fmt::format("tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"{:.3f}\"",
                                         tests, failures, errors, skipped, seconds);
  return fmt::format(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"bitflash verify\" {}>\n  <testsuite name=\"{}\" "
      "{}>\n{}  </testsuite>\n</testsuites>\n",
      counts, Xml(r.subject), counts, cases);
}

std::vector<std::string> GithubAnnotations(const Report& r) {
  std::vector<std::string> lines;
  for (const CaseReport& c : r.cases) {
    if (c.outcome == Outcome::kPass) continue;
    std::string message = c.reason;
    if (c.diagnosis && c.diagnosis->finding()) message += "; looks like " + c.diagnosis->finding()->reading;
    if (!c.command.empty()) message += "; to repeat: " + c.command;
    lines.push_back(fmt::format("::{} title={}::{}", c.outcome == Outcome::kUndecided ? "warning" : "error",
                                Escaped("bitflash verify: " + c.name, true), Escaped(message, false)));
  }
  return lines;
}

std::string GithubSummary(const Report& r) {
  std::string text = fmt::format("### bitflash verify: {}\n\n{} pass, {} fail, {} undecided\n\n", Cell(r.subject),
                                 r.Count(Outcome::kPass), r.Count(Outcome::kFail) + r.Count(Outcome::kBroken),
                                 r.Count(Outcome::kUndecided));
  text += "| case | verdict | largest error / bound | looks like |\n|---|---|---|---|\n";
  for (const CaseReport& c : r.cases) {
    const std::optional<Element> worst = c.judgement ? c.judgement->evidence.o().worst : std::nullopt;
    const Hypothesis* finding = c.diagnosis ? c.diagnosis->finding() : nullptr;
    text += fmt::format("| {} | {} | {} | {} |\n", Cell(c.name), Name(c.outcome),
                        worst ? fmt::format("{:.3g}", worst->score()) : "", finding ? Cell(finding->reading) : "");
  }
  return text + "\n";
}

}  // namespace bitflash::verify
