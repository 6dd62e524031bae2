#include "verify/cli/length_flags.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "data/error.h"
#include "verify/cases/case.h"
#include "verify/cli/shell.h"
#include "verify/diagnose/faults.h"
#include "verify/schema_check.h"

namespace bitflash::verify {
namespace {

std::string Message(const LengthFlags& flags, WorkloadFlags workload = {}) try {
  ParseLengths(flags, workload);
  return "";
} catch (const data::UsageError& error) {
  return error.what();
}

TEST_CASE("lists of lengths say the batch and the longest, unless flags do") {
  WorkloadFlags workload;
  Lengths lengths = ParseLengths({"200,1,0", "5,300,64"}, workload);
  CHECK(lengths.queries == std::vector<int64_t>{200, 1, 0});
  CHECK(lengths.keys == std::vector<int64_t>{5, 300, 64});
  CHECK(workload.batch == "3");
  CHECK(workload.seqlen_q == "200");
  CHECK(workload.seqlen_k == "300");
  workload = {};
  workload.batch = "1";
  workload.seqlen_k = "1000";
  lengths = ParseLengths({{}, "17"}, workload);
  CHECK(lengths.queries.empty());
  CHECK(workload.seqlen_k == "1000");
  CHECK(!workload.seqlen_q);  // not said
  CHECK(!ParseLengths({}, workload).ragged());
}

TEST_CASE("what is no list of lengths is refused with the flag and the value") {
  CHECK(Message({"3,x", {}}).find("--seqlens-q") != std::string::npos);
  CHECK(Message({"3,x", {}}).find("'x'") != std::string::npos);
  for (const char* text : {"", ",", "3,", ",3", "-1", "3;4", "3, 4"}) CHECK(!Message({{}, text}).empty());
  CHECK(Message({"3,4", "1,2,3"}) == "--seqlens-k has 3 lengths, but there are 2 sequences");
  WorkloadFlags workload;
  workload.batch = "5";
  CHECK(Message({"3,4", {}}, workload) == "--seqlens-q has 2 lengths, but there are 5 sequences");
  workload = {};
  workload.seqlen = "100";
  CHECK(Message({{}, "3,4"}, workload) ==
        "--seqlens-k contradicts --seqlen: give the longest of the other length as --seqlen-q");
  workload = {};
  workload.phase = "decode";
  CHECK(Message({"3,4", {}}, workload).find("--seqlens-q contradicts --phase") == 0);
  const data::Attention a{
      .batch = 2, .heads_q = 1, .heads_kv = 1, .seqlen_q = 4, .seqlen_k = 9, .head_dim = 64, .head_dim_v = 64};
  CHECK_NOTHROW(RequireFitting({{4, 0}, {}}, a));
  CHECK_THROWS_WITH_AS(RequireFitting({{4, 5}, {}}, a),
                       "--seqlens-q has a length of 5: expected at most 4, which is seqlen_q", data::UsageError);
  CHECK_THROWS_WITH_AS(RequireFitting({{}, {9}}, a), "--seqlens-k has 1 lengths: expected 2, one for each sequence",
                       data::UsageError);
}

TEST_CASE("lengths as text and as JSON") {
  const data::Attention a{
      .batch = 8, .heads_q = 1, .heads_kv = 1, .seqlen_q = 4, .seqlen_k = 9, .head_dim = 64, .head_dim_v = 64};
  const Lengths lengths{{}, {9, 8, 7, 6, 5, 4, 3, 2}};
  CHECK(LengthsText(a, lengths) == "4 x 9, 4 x 8, 4 x 7, 4 x 6, 4 x 5, 4 x 4 and 2 more");
  CHECK(LengthsJson(a, lengths)["queries"] == Json::parse("[4,4,4,4,4,4,4,4]"));
  CHECK(LengthsJson(a, lengths)["keys"] == Json::parse("[9,8,7,6,5,4,3,2]"));
  CHECK(LengthsJson(a, {}).is_null());
}

TEST_CASE("run simulates each sequence of a ragged problem by itself, from flags and from a file alike") {
  const TemporaryFolder folder;
  const data::Attention a{.batch = 3,
                          .heads_q = 4,
                          .heads_kv = 2,
                          .seqlen_q = 70,
                          .seqlen_k = 90,
                          .head_dim = 64,
                          .head_dim_v = 64,
                          .mask = data::Mask::Causal(),
                          .format = data::Format::kBf16};
  Problem p = GenerateProblem(a, data::ParseDistribution("hash-normal"), 3);
  p.seqlens_q = {70, 1, 0};
  p.seqlens_k = {33, 90, 17};
  WriteCase(folder.path() + "/ragged.safetensors", {p, {}, {}});
  const std::string run = "bitflash run --quiet --json --kernel fa2 --tile 64x64 ";
  const std::string flags = "--heads-q 4 --heads-kv 2 --head-dim 64 --causal --seed 3 ";
  const Finished file = Shell(run + "--in ragged.safetensors --out file.npy --lse file_lse.npy", folder);
  const Finished shape =
      Shell(run + flags + "--seqlens-q 70,1,0 --seqlens-k 33,90,17 --out o.npy --lse lse.npy", folder);
  CAPTURE(file.err);
  CAPTURE(shape.err);
  REQUIRE(file.exit_code == 0);
  REQUIRE(shape.exit_code == 0);
  const Json json = Json::parse(shape.out);
  for (const std::string& error : CheckSchema(json, BITFLASH_SOURCE_DIR "/verify/schemas/run.schema.json")) {
    FAIL_CHECK(error);
  }
  CHECK(json["lengths"] == Json::parse(R"({"queries":[70,1,0],"keys":[33,90,17]})"));
  CHECK(ReadText(folder.path() + "/o.npy") == ReadText(folder.path() + "/file.npy"));
  CHECK(ReadText(folder.path() + "/lse.npy") == ReadText(folder.path() + "/file_lse.npy"));

  const SimulatedKernel kernel{&sim::FindKernel("fa2"), {.Br = 64, .Bc = 64}, "sm90"};
  const Outputs expected = RunSimulated(kernel, p);
  const std::vector<HeadHash> hashes = HashHeads(expected.o.View(data::ElementType::Unsigned(2)), *expected.lse, 0);
  REQUIRE(json["hashes"].size() == hashes.size());
  for (size_t n = 0; n < hashes.size(); ++n) {
    CHECK(json["hashes"][n]["o"] == fmt::format("{:016x}", hashes[n].o));
    CHECK(json["hashes"][n]["lse"] == fmt::format("{:016x}", hashes[n].lse));
  }
  // Some heads of it.
  const Finished some = Shell(run + "--in ragged.safetensors --heads 1:3", folder);
  CAPTURE(some.err);
  REQUIRE(some.exit_code == 0);
  const Json of_some = Json::parse(some.out)["hashes"];
  REQUIRE(of_some.size() == 6);
  CHECK(of_some[0] == json["hashes"][1]);
  CHECK(of_some[5] == json["hashes"][10]);

  const Finished both = Shell(run + "--in ragged.safetensors --seqlens-q 1,2,3", folder);
  CHECK(both.exit_code == 2);
  CHECK(both.err.find("--seqlens-q contradicts ragged.safetensors") != std::string::npos);
  for (const std::string command : {"identify --o file.npy", "tolerance --atol 0.01 --rtol 0.01"}) {
    CAPTURE(command);
    const Finished refused = Shell("bitflash " + command + " --in ragged.safetensors", folder);
    CHECK(refused.exit_code == 2);
    CHECK(refused.err.find("ragged.safetensors has sequences of several lengths: ") != std::string::npos);
    CHECK(refused.err.find(command.substr(0, command.find(' ')) + " takes sequences of one length") !=
          std::string::npos);
  }
  const Finished no_device = Shell("bitflash verify --in ragged.safetensors --seqlens-q 1,2,3", folder);
  CHECK(no_device.exit_code == 2);
  CHECK(no_device.err.find("need --device cuda") != std::string::npos);
}

TEST_CASE("the CPU's kernel takes sequences of several lengths too") {
  const TemporaryFolder folder;
  const std::string run = "bitflash run --quiet --kernel cpu-simd --heads-q 2 --head-dim 64 --seed 3 --json ";
  const Finished whole = Shell(run + "--seqlens-q 9,30 --seqlens-k 20,30", folder);
  CAPTURE(whole.err);
  REQUIRE(whole.exit_code == 0);
  const Json json = Json::parse(whole.out);
  for (const std::string& error : CheckSchema(json, BITFLASH_SOURCE_DIR "/verify/schemas/run.schema.json")) {
    FAIL_CHECK(error);
  }
  CHECK(json["multiply_adds"] == 2 * (9 * 20 + 30 * 30) * 128);
  // The second sequence is as long as the problem: what it gives where nothing is ragged.
  const Finished dense = Shell(run + "--batch 2 --seqlen-q 30 --seqlen-k 30", folder);
  REQUIRE(dense.exit_code == 0);
  CHECK(Json::parse(dense.out)["hashes"][2] == json["hashes"][2]);
  CHECK(Json::parse(dense.out)["hashes"][0] != json["hashes"][0]);
}

}  // namespace
}  // namespace bitflash::verify
