// bitflash identify as its users see it.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "data/tensor_file.h"
#include "verify/cli/shell.h"
#include "verify/schema_check.h"

namespace bitflash::verify {
namespace {

using Json = nlohmann::json;

constexpr const char* kProblem = " --heads-q 1 --head-dim 32 --seqlen 160 --causal --seed 3 ";

void RequireRun(const TemporaryFolder& folder, const std::string& options) {
  const Finished run = Shell("bitflash run --quiet --out o.npy --lse lse.npy" + options + kProblem, folder);
  CAPTURE(run.err);
  REQUIRE(run.exit_code == 0);
}

Json Parsed(const Finished& finished) {
  CAPTURE(finished.err);
  const Json json = Json::parse(finished.out);
  for (const std::string& error : CheckSchema(json, BITFLASH_SOURCE_DIR "/verify/schemas/identify.schema.json")) {
    FAIL_CHECK(error);
  }
  return json;
}

TEST_CASE("identify: the recipe of run is found, written, and replayed by run --recipe") {
  const TemporaryFolder folder;
  RequireRun(folder, " --kernel pytorch-fa2 --splits 1 --tile 64x32");
  const Finished found =
      Shell(std::string("bitflash identify --json --o o.npy --lse lse.npy --out-recipe found.json") + kProblem, folder);
  REQUIRE(found.exit_code == 0);
  const Json json = Parsed(found);
  CHECK(json["verdict"] == "exact");
  CHECK(json["o"]["equal"] == 160 * 32);
  CHECK(json["lse"]["equal"] == 160);
  CHECK(json["recipe"]["tiling"]["bc"] == 32);
  CHECK(json["recipe"]["choices"]["exponent"] == "unfused");
  CHECK(json["recipe"]["choices"]["row_sum"] == "first-fused");
  CHECK(json["recipe_file"] == "found.json");
  CHECK(Json::parse(ReadText(folder.path() + "/found.json")) == json["recipe"]);

  // The command that it prints gives the same bits.
  const std::string command = json["command"];
  CHECK(command.rfind("bitflash run --recipe found.json ", 0) == 0);
  const Finished replayed = Shell(command + " --out again.npy", folder);
  CAPTURE(replayed.err);
  REQUIRE(replayed.exit_code == 0);
  CHECK(Shell("bitflash diff o.npy again.npy", folder).exit_code == 0);
}

TEST_CASE("identify: tensors of one file, text for people, a partial match") {
  const TemporaryFolder folder;
  RequireRun(folder, " --kernel fa2 --tile 64x64");
  REQUIRE(Shell(std::string("bitflash gen --quiet -o qkv.safetensors") + kProblem, folder).exit_code == 0);
  data::TensorFile file = data::ReadTensors(folder.path() + "/qkv.safetensors");
  file.tensors["o"] = data::ReadTensor(folder.path() + "/o.npy");
  data::WriteTensors(folder.path() + "/case.safetensors", file);
  // gen noted the mask and the scale in the file.
  const Finished exact = Shell("bitflash identify --in case.safetensors", folder);
  CAPTURE(exact.err);
  CHECK(exact.exit_code == 0);
  CHECK(exact.out.rfind("identified: 5,120 of 5,120 elements of O are explained (all)\n", 0) == 0);
  CHECK(exact.out.find("tile_keys") != std::string::npos);
  CHECK(exact.out.find("to replay    add --out-recipe FILE.json, then bitflash run --recipe FILE.json --in "
                       "case.safetensors\n") != std::string::npos);

  file.tensors["o"].SetBits({0, 0, 100, 5}, file.tensors["o"].Bits({0, 0, 100, 5}) ^ 0x0200);
  data::WriteTensors(folder.path() + "/case.safetensors", file);
  const Finished partial = Shell("bitflash identify --in case.safetensors --json=found.json", folder);
  CHECK(partial.exit_code == 1);
  CHECK(partial.out.rfind("partial match: 5,119 of 5,120", 0) == 0);
  const Json json = Parsed({0, ReadText(folder.path() + "/found.json"), ""});
  CHECK(json["verdict"] == "partial");
  REQUIRE(json["unexplained"].size() == 1);
  CHECK(json["unexplained"][0]["row"] == 100);
  CHECK(json["unexplained"][0]["column"] == 5);
  CHECK(json["lse"]["given"] == false);
}

TEST_CASE("identify and run --recipe: what is wrong has its exit code") {
  const TemporaryFolder folder;
  RequireRun(folder, " --kernel fa2");
  const auto exit_code = [&](const std::string& command) { return Shell(command + kProblem, folder).exit_code; };
  CHECK(exit_code("bitflash identify --o missing.npy") == 3);
  CHECK(exit_code("bitflash identify") == 2);
  CHECK(exit_code("bitflash identify --o lse.npy") == 3);
  CHECK(exit_code("bitflash identify --o o.npy --arch sm60") == 2);
  CHECK(exit_code("bitflash identify --o o.npy --dtype fp32") == 5);
  WriteText(folder.path() + "/bad.json", "{\"schema\": \"bitflash.recipe/1\", \"schema\": 1}");
  CHECK(exit_code("bitflash run --recipe bad.json") == 3);
  CHECK(exit_code("bitflash run --recipe missing.json") == 3);

  REQUIRE(exit_code("bitflash identify --quiet --o o.npy --out-recipe found.json") == 0);
  CHECK(exit_code("bitflash run --recipe found.json") == 0);
  CHECK(exit_code("bitflash run --recipe found.json --kernel fa2") == 2);
  CHECK(exit_code("bitflash run --recipe found.json --tile 64x64") == 2);
  CHECK(exit_code("bitflash run --recipe found.json --arch sm80") == 2);
  CHECK(exit_code("bitflash run --recipe found.json --device cuda") == 2);
}

}  // namespace
}  // namespace bitflash::verify
