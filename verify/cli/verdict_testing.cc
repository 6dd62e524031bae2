#include "verify/cli/verdict_testing.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "verify/cli/xml_check.h"
#include "verify/schema_check.h"

namespace bitflash::verify {
namespace {

using Json = nlohmann::json;

constexpr int kScreen = 45;  // lines

int ExpectedCode(const Json& result) {
  if (result["broken"] > 0) return 4;
  if (result["fail"] > 0) return 1;
  return result["pass"] > 0 ? 0 : 5;
}

void CheckText(const Judged& judged) {
  const Json& result = judged.json["result"];
  const int64_t failures = result["fail"].get<int64_t>() + result["broken"].get<int64_t>();
  const std::string last = "\nRESULT pass=" + result["pass"].dump() + " fail=" + std::to_string(failures) +
                           " undecided=" + result["undecided"].dump() + "\n";
  CHECK(judged.text.ends_with(last));
  const size_t screens = std::min<size_t>(judged.json["cases"].size(), 3);
  CHECK(std::count(judged.text.begin(), judged.text.end(), '\n') <= static_cast<int64_t>(kScreen * screens));
  for (const std::string* text : {&judged.text, &judged.err}) {
    const bool clean = std::none_of(text->begin(), text->end(), [](char c) {
      return (static_cast<unsigned char>(c) < 0x20 && c != '\n') || c == 0x7F;
    });
    CHECK(clean);
  }
}

void CheckJUnit(const Judged& judged) {
  int64_t tests = 0, failures = 0, errors = 0, skipped = 0;
  std::set<std::string> failed, broken, all;
  const std::vector<XmlElement> elements = ParseXml(judged.junit);
  REQUIRE(elements.size() > 2);
  std::string name;
  for (const XmlElement& e : elements) {
    if (e.name == "testcase") {
      ++tests;
      name = e.attributes.at("classname");
      all.insert(name);
      CHECK(e.attributes.contains("name"));
    }
    if (e.name == "failure") {
      ++failures;
      failed.insert(name);
      CHECK(e.parent == "testcase");
      CHECK(e.attributes.at("message") != "");
    }
    if (e.name == "error") {
      ++errors;
      broken.insert(name);
    }
    skipped += e.name == "skipped";
  }
  for (const size_t suite : {0, 1}) {
    CHECK(elements[suite].name == (suite == 0 ? "testsuites" : "testsuite"));
    CHECK(elements[suite].attributes.at("tests") == std::to_string(tests));
    CHECK(elements[suite].attributes.at("failures") == std::to_string(failures));
    CHECK(elements[suite].attributes.at("errors") == std::to_string(errors));
    CHECK(elements[suite].attributes.at("skipped") == std::to_string(skipped));
  }
  CHECK(all.size() == judged.json["cases"].size());
  CHECK(broken.size() == judged.json["result"]["broken"]);
  for (const std::string& b : broken) failed.erase(b);  // a case that broke may have failed before
  CHECK(failed.size() == judged.json["result"]["fail"]);
}

}  // namespace

Judged RunVerify(const std::string& options, const TemporaryFolder& folder) {
  CAPTURE(options);
  const std::string json = folder.path() + "/v.json", xml = folder.path() + "/v.xml";
  const Finished finished = Shell("bitflash verify --json=v.json --junit v.xml " + options, folder);
  CAPTURE(finished.out);
  CAPTURE(finished.err);
  Judged judged{finished.exit_code, finished.out, finished.err, {}, ReadText(xml)};
  const std::string text = ReadText(json);
  REQUIRE(text != "");
  judged.json = Json::parse(text);
  for (const std::string& error : CheckSchema(judged.json, BITFLASH_SOURCE_DIR "/verify/schemas/verdict.schema.json")) {
    FAIL_CHECK(error);
  }
  CHECK(judged.exit_code == ExpectedCode(judged.json["result"]));
  CheckText(judged);
  CheckJUnit(judged);
  std::filesystem::remove(json);
  std::filesystem::remove(xml);
  return judged;
}

Json WithoutTimes(Json json) {
  if (json.is_object()) {
    for (auto it = json.begin(); it != json.end();) {
      const bool time = it.key() == "seconds" || it.key().ends_with("_seconds");
      it = time ? json.erase(it) : std::next(it);
    }
  }
  if (json.is_structured()) {
    for (auto& value : json) value = WithoutTimes(std::move(value));
  }
  return json;
}

}  // namespace bitflash::verify
