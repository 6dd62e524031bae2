// bitflash run as its users see it.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "data/tensor_file.h"
#include "verify/cli/shell.h"
#include "verify/judge/compare.h"
#include "verify/schema_check.h"

namespace bitflash::verify {
namespace {

using Json = nlohmann::json;

Json RunJson(const std::string& options, const TemporaryFolder& folder) {
  const Finished finished = Shell("bitflash run --json " + options, folder);
  CAPTURE(options);
  CAPTURE(finished.err);
  REQUIRE(finished.exit_code == 0);
  const Json json = Json::parse(finished.out);
  for (const std::string& error : CheckSchema(json, BITFLASH_SOURCE_DIR "/verify/schemas/run.schema.json")) {
    FAIL_CHECK(error);
  }
  return json;
}

std::vector<std::string> Hashes(const Json& run, const char* tensor) {
  std::vector<std::string> hashes;
  for (const Json& hash : run["hashes"]) {
    hashes.push_back(hash[tensor].is_null() ? "null" : hash[tensor].get<std::string>());
  }
  return hashes;
}

using Strings = std::vector<std::string>;

TEST_CASE("run: the hashes that an H200 gave (data/golden, case b1_h2-2_s64x64_d64_bf16_causal)") {
  const TemporaryFolder folder;
  const std::string problem = " --heads-q 2 --head-dim 64 --seqlen 64 --seed 1000 ";
  const Json pytorch = RunJson("--kernel pytorch-fa2 --causal" + problem, folder);
  CHECK(Hashes(pytorch, "o") == Strings{"5187b3aa0c5c3c64", "0aa8823ad6b2e426"});
  CHECK(Hashes(pytorch, "lse") == Strings{"6854e3550dd79067", "b9237a3fd62db724"});
  const Json cudnn = RunJson("--kernel cudnn-9.19-sm90 --mask causal-top-left" + problem, folder);
  CHECK(Hashes(cudnn, "o") == Strings{"5187b3aa0c5c3c64", "0aa8823ad6b2e426"});
  CHECK(Hashes(cudnn, "lse") == Strings{"08f91532443372b3", "241b401472d4690b"});
}

constexpr const char* kProblem =
    " --batch 2 --heads-q 6 --heads-kv 3 --head-dim 64 --seqlen-q 70 --seqlen-k 133 --causal --seed 3 ";

TEST_CASE("run: the bits do not depend on the number of threads, nor on which heads are simulated") {
  for (const char* kernel : {"standard", "fa1", "fa2", "fa3", "split-kv", "pytorch-fa2", "cudnn-9.19-sm90",
                             "fa3 --pack-gqa", "split-kv --splits 2 --pack-gqa"}) {
    CAPTURE(kernel);
    const TemporaryFolder folder;
    const std::string command = std::string("--kernel ") + kernel + kProblem;
    const Json whole = RunJson(command + "--out whole.npy -j 1", folder);
    REQUIRE(whole["hashes"].size() == 12);
    for (const char* threads : {"2", "3"}) {
      const Json again = RunJson(command + "--out again.npy -j " + threads, folder);
      CHECK(again["hashes"] == whole["hashes"]);
      CHECK(ReadText(folder.path() + "/again.npy") == ReadText(folder.path() + "/whole.npy"));
    }
    // Neither end is the end of a group of two heads.
    const Json part = RunJson(command + "--out part.npy --heads 1:4", folder);
    const data::Tensor all = data::ReadTensor(folder.path() + "/whole.npy");
    const data::Tensor some = data::ReadTensor(folder.path() + "/part.npy");
    CHECK(Name(some.type()) == "u16");
    CHECK(some.shape() == std::vector<int64_t>{2, 3, 70, 64});
    CHECK(some == all.Slice(1, 1, 4));
    REQUIRE(part["hashes"].size() == 6);
    CHECK(part["hashes"][0] == whole["hashes"][1]);
    CHECK(part["hashes"][5] == whole["hashes"][9]);
    CHECK(part["multiply_adds"] < whole["multiply_adds"]);
  }
}

TEST_CASE("run: LSE is fp32 [batch, heads, seqlen_q]; fa1 keeps m and l instead") {
  const TemporaryFolder folder;
  const Json run = RunJson(std::string("--kernel fa2 --lse lse.npy") + kProblem, folder);
  const data::Tensor lse = data::ReadTensor(folder.path() + "/lse.npy");
  CHECK(lse.type() == data::ElementType(data::Format::kFp32));
  CHECK(lse.shape() == std::vector<int64_t>{2, 6, 70});
  CHECK(Hashes(run, "lse")[0] != Hashes(run, "lse")[1]);
  CHECK(run["files"].size() == 1);
  CHECK(Hashes(RunJson(std::string("--kernel fa1") + kProblem, folder), "lse")[0] == "null");
}

TEST_CASE("run: files of gen give the bits of the seed; a file says its shapes, its mask and its scale") {
  const TemporaryFolder folder;
  const std::string shape = " --heads-q 4 --heads-kv 2 --head-dim 64 --seqlen 90 ";
  const std::string gen = "bitflash gen --quiet" + shape + "--seed 7 --causal --softmax-scale 0.3 ";
  REQUIRE(Shell(gen + "-o in.safetensors && " + gen + "-o in.npz && " + gen + "-o in/", folder).exit_code == 0);
  const std::string run = "--kernel fa2 --heads 1:3 ";
  const Json seed = RunJson(run + shape + "--seed 7 --causal --softmax-scale 0.3", folder);
  CHECK(RunJson(run + "--in in.safetensors", folder)["hashes"] == seed["hashes"]);
  CHECK(RunJson(run + "--causal --softmax-scale 0.3 --in in.npz", folder)["hashes"] == seed["hashes"]);
  const std::string parts = "--q in/q.npy --k in/k.npy --v in/v.npy --dtype bf16 --softmax-scale 0.3 ";
  CHECK(RunJson(run + "--causal " + parts, folder)["hashes"] == seed["hashes"]);
  CHECK(RunJson(run + "--mask full " + parts, folder)["hashes"] != seed["hashes"]);
  const Json sinks = RunJson(run + shape + "--distribution sinks", folder);
  CHECK(sinks["inputs"] == "sinks, seed 0");
  CHECK(sinks["hashes"] != RunJson(run + shape, folder)["hashes"]);
}

TEST_CASE("run: the architecture, the tile and the splits decide bits and are reported") {
  const TemporaryFolder folder;
  const std::string problem = "--heads-q 1 --head-dim 128 --seqlen 256 ";
  const Json sm90 = RunJson("--kernel fa2 --arch sm90 " + problem, folder);
  const Json sm80 = RunJson("--kernel fa2 --arch sm80 " + problem, folder);
  CHECK(sm90["gpu"]["name"] == "h200");
  CHECK(sm80["gpu"]["name"] == "a100-80gb");
  CHECK(sm80["assumed"][0] == "gpu = a100-80gb (stands for sm80)");
  CHECK(sm90["hashes"] != sm80["hashes"]);
  const Json tile = RunJson("--kernel fa2 --arch sm90 --tile 64x32 " + problem, folder);
  CHECK(tile["tiling"]["bc"] == 32);
  CHECK(tile["hashes"] != sm90["hashes"]);
  // The number of query rows in a tile never changes bits.
  CHECK(RunJson("--kernel fa2 --arch sm90 --tile 64x64 " + problem, folder)["hashes"] ==
        RunJson("--kernel fa2 --arch sm90 --tile 128x64 " + problem, folder)["hashes"]);
  const Json split = RunJson("--kernel split-kv --splits 3 " + problem, folder);
  CHECK(split["tiling"]["splits"] == 3);
  CHECK(split["launches"].size() == 2);
  const Json chunk = RunJson("--kernel split-kv --chunk 128 " + problem, folder);
  CHECK(chunk["tiling"]["part_keys"] == 128);
  CHECK(chunk["hashes"] == RunJson("--kernel split-kv --splits 2 " + problem, folder)["hashes"]);
  CHECK(RunJson("--kernel split-kv " + problem, folder)["tiling"]["part_keys"] == 1024);
}

}  // namespace
}  // namespace bitflash::verify
