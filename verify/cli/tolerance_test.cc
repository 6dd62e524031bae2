// bitflash tolerance as its users see it.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "verify/cli/shell.h"
#include "verify/schema_check.h"

namespace bitflash::verify {
namespace {

using Json = nlohmann::json;

constexpr const char* kProblem = " --heads-q 2 --head-dim 32 --seqlen 64 --causal --tile 64x32 --quiet ";

TEST_CASE("tolerance: exit code 1 when a wrong kernel passes, 0 when none does; JSON by its schema") {
  const TemporaryFolder folder;
  const Finished loose = Shell(std::string("bitflash tolerance --json --atol 0.5 --rtol 0") + kProblem, folder);
  CAPTURE(loose.err);
  REQUIRE(loose.exit_code == 1);
  const Json json = Json::parse(loose.out);
  for (const std::string& error : CheckSchema(json, BITFLASH_SOURCE_DIR "/verify/schemas/tolerance.schema.json")) {
    FAIL_CHECK(error);
  }
  CHECK(json["escaped"] > 0);
  CHECK(json["blind_rows"]["tolerance"] > 0);
  CHECK(json["applicable"].get<int64_t>() == static_cast<int64_t>(json["faults"].size()));
  const Finished strict = Shell(std::string("bitflash tolerance --json --atol 0 --rtol 0") + kProblem, folder);
  CHECK(strict.exit_code == 0);
  CHECK(Json::parse(strict.out)["escaped"] == 0);
}

TEST_CASE("tolerance: the text names the mistakes that pass and the blind rows") {
  const TemporaryFolder folder;
  const Finished text = Shell(std::string("bitflash tolerance --atol 0.5 --rtol 0") + kProblem, folder);
  CHECK(text.exit_code == 1);
  CHECK(text.out.find("wrong kernels pass this tolerance") != std::string::npos);
  CHECK(text.out.find("could be zeros and pass this tolerance") != std::string::npos);
  CHECK(text.out.find("scale-of-head-dim") != std::string::npos);
}

TEST_CASE("tolerance: what is wrong with the command line is said") {
  const TemporaryFolder folder;
  const Finished missing = Shell(std::string("bitflash tolerance --atol 0.5") + kProblem, folder);
  CHECK(missing.exit_code == 2);
  CHECK(missing.err.find("--rtol is missing") != std::string::npos);
  const Finished negative = Shell(std::string("bitflash tolerance --rtol 0 --atol=-1") + kProblem, folder);
  CHECK(negative.exit_code == 2);
  CHECK(negative.err.find("'-1'") != std::string::npos);
  CHECK(Shell(std::string("bitflash tolerance --rtol 0 --atol nan") + kProblem, folder).exit_code == 2);
}

}  // namespace
}  // namespace bitflash::verify
