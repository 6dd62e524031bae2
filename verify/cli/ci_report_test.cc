// Reports for machines, made up of what is hardest to write: XML, annotations and tables from hostile text.
#include "verify/cli/ci_report.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "verify/cli/verdict_text.h"
#include "verify/cli/xml_check.h"

namespace bitflash::verify {
namespace {

constexpr const char* kHostile = "a<b>&\"'|`%:,\n\r\x1b[31m\xff\xef\xbf\xbf]]>::error::_x_";

Report Hostile() {
  Report report{.subject = kHostile, .cases = {}};
  for (const Outcome outcome : {Outcome::kPass, Outcome::kFail, Outcome::kUndecided, Outcome::kBroken}) {
    CaseReport c{.name = std::string(Name(outcome)) + kHostile, .outcome = outcome, .reason = kHostile};
    c.command = kHostile;
    report.cases.push_back(std::move(c));
  }
  return report;
}

TEST_CASE("JUnit: well-formed whatever the names, counts that add up") {
  const std::vector<XmlElement> elements = ParseXml(JUnitXml(Hostile()));
  REQUIRE(elements.size() == 2 + 4 + 3);
  CHECK(elements[0].name == "testsuites");
  CHECK(elements[1].attributes.at("name") == "a<b>&\"'|`%:,\\n\\x0d\\x1b[31m\\xff\xef\xbf\xbd]]>::error::_x_");
  for (const size_t suite : {0, 1}) {
    CHECK(elements[suite].attributes.at("tests") == "4");
    CHECK(elements[suite].attributes.at("failures") == "1");
    CHECK(elements[suite].attributes.at("errors") == "1");
    CHECK(elements[suite].attributes.at("skipped") == "1");
  }
  CHECK(elements[4].name == "failure");
  CHECK(elements[4].text.starts_with("a<b>&\""));  // the command
  CHECK(elements[6].name == "skipped");
  CHECK(elements[8].name == "error");
  CHECK(elements[8].parent == "testcase");
}

TEST_CASE("JUnit: a line for every check of a case") {
  Report report{.subject = "s", .cases = {{.name = "c", .outcome = Outcome::kFail, .reason = "r"}}};
  CaseReport& c = report.cases[0];
  Problem problem;
  problem.attention = {.heads_q = 1, .heads_kv = 1, .seqlen_q = 1, .seqlen_k = 1, .head_dim = 1, .head_dim_v = 1};
  c.judgement = Judgement{.rung = Rung::kBounded, .reason = "fine", .evidence = Evidence(problem), .parts = {}};
  c.calls = CallFacts{.stale_o = 7};
  c.metamorphic = {{.id = "MM1", .name = "V = 1 gives O = 1"},
                   {.id = "MM3", .name = "permuted keys", .status = MetamorphicStatus::kFailed, .compared = "O"},
                   {.id = "MM7", .name = "padding", .status = MetamorphicStatus::kNotApplicable, .note = "no padding"}};
  const std::vector<XmlElement> elements = ParseXml(JUnitXml(report));
  std::string names, failures, skipped, last;
  for (const XmlElement& e : elements) {
    if (e.name == "testcase") names += (last = e.attributes.at("name")) + " ";
    if (e.name == "failure") failures += last + " ";
    if (e.name == "skipped") skipped += last + ": " + e.attributes.at("message");
  }
  CHECK(names == "verdict written repeatable fresh MM1 MM3 MM7 ");
  CHECK(failures == "fresh MM3 ");
  CHECK(skipped == "MM7: no padding");
  CHECK(elements[0].attributes.at("failures") == "2");
}

TEST_CASE("GitHub: one line a case that does not pass, with GitHub's escapes") {
  const std::vector<std::string> lines = GithubAnnotations(Hostile());
  REQUIRE(lines.size() == 3);
  CHECK(lines[0].starts_with("::error title=bitflash verify%3A faila<b>&\"'|`%25%3A%2C\\n\\x0d\\x1b[31m\\xff"));
  CHECK(lines[0].find("::a<b>&\"'|`%25:,\\n\\x0d\\x1b[31m\\xff") != std::string::npos);
  CHECK(lines[1].starts_with("::warning title=bitflash verify%3A undecided"));
  CHECK(lines[2].starts_with("::error title=bitflash verify%3A broken"));
  for (const std::string& line : lines) {
    CHECK(std::none_of(line.begin(), line.end(), [](char c) { return c == '\n' || c == '\r' || c == '\x1b'; }));
  }
}

TEST_CASE("GitHub: the summary is a table of four columns whatever the names") {
  const std::string text = GithubSummary(Hostile());
  CHECK(text.find("1 pass, 2 fail, 1 undecided") != std::string::npos);
  int rows = 0;
  for (size_t begin = 0, end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
    const std::string line = text.substr(begin, end - begin);
    if (!line.starts_with("|")) continue;
    ++rows;
    int bars = 0;
    for (size_t i = 0; i < line.size(); ++i) {
      if (line[i] == '\\') {
        ++i;
      } else {
        bars += line[i] == '|';
      }
    }
    CHECK(bars == 5);
  }
  CHECK(rows == 6);
}

TEST_CASE("text: of many cases that pass some are shown, the others counted; of failing ones three are told in full") {
  Report report{.subject = kHostile, .cases = {}};
  for (int n = 0; n < 25; ++n) report.cases.push_back({.name = kHostile, .outcome = Outcome::kPass, .reason = "r"});
  for (int n = 0; n < 5; ++n) report.cases.push_back({.name = kHostile, .outcome = Outcome::kBroken, .reason = "why"});
  report.cases.back().calls = CallFacts{.printed = "\x1b[1m" + std::string(99, 'x') + "\xe4\xb8\xad\xe4\xb8\xad\n"};
  report.cases.front().outcome = report.cases.back().outcome;
  report.cases.front().calls = report.cases.back().calls;
  const std::string text = ReportText(report, false);
  CHECK(text.find("and 4 more that pass\n") != std::string::npos);
  int told = 0;
  for (size_t at = 0; (at = text.find("reason       why\n", at)) != std::string::npos; ++at) ++told;
  CHECK(told == 2);  // and the first one, whose reason is another
  CHECK(text.find("printed      \\x1b[1m" + std::string(93, 'x') + "...\n") != std::string::npos);
  CHECK(std::none_of(text.begin(), text.end(), [](char c) { return c == '\x1b' || c == '\r' || c == '\xff'; }));
  CHECK(text.ends_with("\nRESULT pass=24 fail=6 undecided=0\n"));

  // A character of three bytes and two columns is cut whole or not at all.
  report.cases.front().calls->printed = std::string(99, 'x') + "\xe4\xb8\xad\xe4\xb8\xad";
  CHECK(ReportText(report, false).find("printed      " + std::string(99, 'x') + "...\n") != std::string::npos);
}

TEST_CASE("the checker of XML refuses what is not well-formed") {
  for (const char* text : {"", "<a>", "<a></b>", "<a b=c/>", "<a b=\"1\" b=\"2\"/>", "<a>&</a>", "<a b=\"<\"/>",
                           "<a/><b/>", "<a>\x01</a>", "<a>\xff</a>", "<a>\xef\xbf\xbf</a>", "text", "<a>&nbsp;</a>"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(ParseXml(text), std::runtime_error);
  }
  CHECK(ParseXml("<?xml version=\"1.0\"?>\n<a b=\"&lt;\"><c/>x</a>\n")[0].text == "x");
}

}  // namespace
}  // namespace bitflash::verify
