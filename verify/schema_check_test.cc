#include "verify/schema_check.h"

#include <doctest/doctest.h>

#include <stdexcept>

#include "verify/cli/shell.h"

namespace bitflash::verify {
namespace {

size_t Errors(const char* schema, const char* value) {
  const TemporaryFolder folder;
  WriteText(folder.path() + "/a.json", schema);
  WriteText(folder.path() + "/b.json", R"({"$defs": {"n": {"type": "integer"}}})");
  return CheckSchema(nlohmann::json::parse(value), folder.path() + "/a.json").size();
}

TEST_CASE("every keyword accepts what it should and refuses what it should") {
  CHECK(Errors(R"({"type": "integer"})", "1") == 0);
  CHECK(Errors(R"({"type": "integer"})", "1.5") == 1);
  CHECK(Errors(R"({"type": ["integer", "null"]})", "null") == 0);
  CHECK(Errors(R"({"type": ["integer", "null"]})", "\"x\"") == 1);
  CHECK(Errors(R"({"minimum": 1})", "0") == 1);
  CHECK(Errors(R"({"minimum": 1})", "1") == 0);
  CHECK(Errors(R"({"enum": ["a", null]})", "null") == 0);
  CHECK(Errors(R"({"enum": ["a"]})", "\"b\"") == 1);
  CHECK(Errors(R"({"anyOf": [{"type": "null"}, {"type": "integer", "minimum": 1}]})", "null") == 0);
  CHECK(Errors(R"({"anyOf": [{"type": "null"}, {"type": "integer", "minimum": 1}]})", "1") == 0);
  CHECK(Errors(R"({"anyOf": [{"type": "null"}, {"type": "integer", "minimum": 1}]})", "0") == 2);
  CHECK(Errors(R"({"const": "a"})", "\"a\"") == 0);
  CHECK(Errors(R"({"const": "a"})", "1") == 1);
  CHECK(Errors(R"({"items": {"type": "string"}, "minItems": 1})", R"(["a", 1, 2])") == 2);
  CHECK(Errors(R"({"items": {}, "minItems": 1})", "[]") == 1);
  CHECK(Errors(R"({"required": ["a"]})", "{}") == 1);
  CHECK(Errors(R"({"properties": {"a": {"type": "null"}}})", R"({"a": 1, "b": 2})") == 1);
  CHECK(Errors(R"({"properties": {}, "additionalProperties": false})", R"({"b": 2})") == 1);
  CHECK(Errors(R"({"properties": {}, "additionalProperties": {"type": "string"}})", R"({"b": 2, "c": "x"})") == 1);
  CHECK(Errors(R"({"$ref": "#/$defs/n", "$defs": {"n": {"type": "null"}}})", "1") == 1);
  CHECK(Errors(R"({"$ref": "b.json#/$defs/n"})", "1") == 0);
  CHECK(Errors(R"({"$ref": "b.json#/$defs/n"})", "true") == 1);
}

TEST_CASE("a keyword that is not implemented is an error, not a pass") {
  CHECK_THROWS_AS(Errors(R"({"pattern": "a"})", "\"b\""), std::runtime_error);
  CHECK_THROWS_AS(Errors(R"({"type": "int"})", "1"), std::runtime_error);
}

}  // namespace
}  // namespace bitflash::verify
