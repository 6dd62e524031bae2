#include "data/strict_json.h"

#include <doctest/doctest.h>

#include <fstream>

#include "data/error.h"

namespace bitflash::data {
namespace {

TEST_CASE("JSON that would be silently resolved is refused, with the file's name") {
  const auto refused = [](const std::string& text, const char* what) {
    CAPTURE(text.substr(0, 80));
    CHECK_THROWS_WITH_AS(ParseStrictJson(text, "some.json"), doctest::Contains(what), InputError);
    CHECK_THROWS_WITH_AS(ParseStrictJson(text, "some.json"), doctest::Contains("some.json: "), InputError);
  };
  refused("", "not valid JSON: parse error at line 1, column 1");
  refused("{\"a\": 1", "not valid JSON");
  refused("{\"a\": 1} x", "not valid JSON");
  refused("{\"a\": NaN}", "not valid JSON");
  refused(std::string("{\"a\": 1}\0{\"a\": 2}", 17), "holds a NUL byte");
  refused("{\"a\": 1e400}", "not valid JSON");
  refused("{\"a\": \"\xff\"}", "not valid JSON");
  refused("{\"a\": 1, \"b\": 2, \"a\": 3}", "the key \"a\" appears twice in one object");
  refused("{\"x\": {\"a\": 1, \"a\": 1}}", "the key \"a\" appears twice");
  refused("{\"" + std::string(1000, 'k') + "\": 1, \"" + std::string(1000, 'k') + "\": 1}", "kkk... appears twice");
  refused(std::string(65, '[') + std::string(65, ']'), "nests deeper than 64 levels");
  refused(std::string(10'000'000, '['), "nests deeper than 64 levels");
}

TEST_CASE("equal keys in different objects and 64 levels are fine") {
  CHECK(ParseStrictJson(R"({"a": {"a": 1}, "b": [{"a": 1}, {"a": 2}]})", "x")["b"][1]["a"] == 2);
  CHECK_NOTHROW(ParseStrictJson(std::string(64, '[') + std::string(64, ']'), "x"));
}

TEST_CASE("a path that is no small file is refused by name") {
  CHECK_THROWS_WITH_AS(ReadTextFile("/nonexistent/x.json"), doctest::Contains("/nonexistent/x.json: cannot be opened"),
                       InputError);
  CHECK_THROWS_WITH_AS(ReadTextFile(BITFLASH_SOURCE_DIR "/data"), doctest::Contains("is a directory"), InputError);
  CHECK_THROWS_WITH_AS(ReadTextFile("/dev/zero"), doctest::Contains("more than 16 MiB"), InputError);
}

TEST_CASE("a file is read byte for byte") {
  const std::string path = "strict_json_test.tmp";
  std::string bytes(200'000, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 7);
  std::ofstream(path, std::ios::binary) << bytes;
  CHECK(ReadTextFile(path) == bytes);
  std::ofstream(path, std::ios::binary | std::ios::trunc);
  CHECK(ReadTextFile(path).empty());
  std::remove(path.c_str());
}

TEST_CASE("values in messages are short and printable") {
  CHECK(DescribeJson("a\x1b[31mb") == "the string \"a\\u001b[31mb\"");
  CHECK(DescribeJson(nullptr) == "null");
  CHECK(DescribeJson(nlohmann::json::object()) == "an object");
  CHECK(ShortJson(std::string(1'000'000, 'x')).size() == 60);
}

}  // namespace
}  // namespace bitflash::data
