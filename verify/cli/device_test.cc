// What needs a GPU: every CUDA kernel against its simulated twin, as a user asks for it. Without a device this program
// says so and returns 77, which ctest calls skipped.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>

#include "data/error.h"
#include "verify/cases/case.h"
#include "verify/cli/shell.h"
#include "verify/device/device_run.h"
#include "verify/schema_check.h"

namespace bitflash::verify {
namespace {

using Json = nlohmann::json;

struct CliProblem {
  const char* kernel;
  const char* flags;
};

// Lengths that end inside a tile unless the case is about whole ones.
constexpr CliProblem kProblems[] = {
    {"standard", "--heads-q 2 --head-dim 64 --seqlen 256"},
    {"standard", "--heads-q 2 --head-dim 128 --seqlen-q 133 --seqlen-k 301 --causal --dtype fp16"},
    {"standard", "--heads-q 4 --heads-kv 2 --head-dim 96 --seqlen 205 --fp32-scores --mask causal-top-left"},
    {"standard", "--batch 2 --heads-q 2 --head-dim 256 --seqlen 190 --mask 'window(70,0)'"},
    {"standard", "--heads-q 2 --head-dim 192 --seqlen-q 90 --seqlen-k 40 --causal"},
    {"fa2", "--heads-q 2 --head-dim 64 --seqlen 256"},
    {"fa2", "--batch 2 --heads-q 6 --heads-kv 2 --head-dim 96 --seqlen-q 133 --seqlen-k 333 --causal --dtype fp16"},
    {"fa2", "--heads-q 2 --head-dim 128 --seqlen-q 300 --seqlen-k 201 --mask causal-top-left"},
    {"fa2", "--heads-q 2 --head-dim 192 --seqlen 259 --mask 'window(50,20)' --softmax-scale 0.3"},
    {"fa2", "--batch 3 --heads-q 2 --head-dim 256 --seqlen 97 --dtype fp16"},
    {"fa2", "--heads-q 4 --heads-kv 1 --head-dim 128 --seqlen-q 200 --seqlen-k 77 --causal"},  // rows without keys
    {"fa2", "--heads-q 2 --head-dim 128 --seqlen-q 5 --seqlen-k 0"},
    {"fa3", "--heads-q 2 --head-dim 64 --seqlen 384"},
    {"fa3", "--batch 2 --heads-q 6 --heads-kv 2 --head-dim 96 --seqlen-q 133 --seqlen-k 333 --causal --dtype fp16"},
    {"fa3", "--heads-q 2 --head-dim 128 --seqlen-q 300 --seqlen-k 201 --mask causal-top-left"},
    {"fa3", "--heads-q 2 --head-dim 192 --seqlen 259 --mask 'window(50,20)' --softmax-scale 0.3"},
    {"fa3", "--batch 3 --heads-q 2 --head-dim 256 --seqlen 97 --dtype fp16"},
    {"fa3", "--heads-q 4 --heads-kv 1 --head-dim 128 --seqlen-q 200 --seqlen-k 77 --causal"},  // rows without keys
    {"fa3", "--heads-q 2 --head-dim 128 --seqlen-q 5 --seqlen-k 0"},
    {"fa3", "--batch 2 --heads-q 8 --heads-kv 2 --head-dim 64 --phase decode --seqlen 1001"},
    {"split-kv", "--heads-q 8 --heads-kv 2 --head-dim 128 --phase decode --seqlen 3001"},
    {"split-kv",
     "--batch 3 --heads-q 4 --heads-kv 4 --head-dim 64 --phase decode --seqlen 777 --splits 5 --dtype fp16"},
    {"split-kv", "--batch 2 --heads-q 16 --heads-kv 2 --head-dim 128 --phase decode --seqlen 1500 --page-size 64"},
    {"split-kv", "--batch 2 --heads-q 4 --heads-kv 1 --head-dim 256 --phase decode --seqlen 1030 --page-size 16"},
    {"split-kv", "--heads-q 8 --heads-kv 1 --head-dim 96 --seqlen-q 4 --seqlen-k 2050 --causal"},
    {"split-kv", "--heads-q 4 --heads-kv 2 --head-dim 192 --seqlen-q 2 --seqlen-k 100 --mask 'window(40,0)'"},
};

Finished Bitflash(const std::string& arguments, const TemporaryFolder& folder) {
  return Shell("bitflash " + arguments, folder);
}

// As gpu::DeviceRefusal, which gpu/ does not lend to verify/.
bool RunsHere(const gpu::Kernel& kernel) { return !kernel.hopper_only || CurrentCudaDevice().arch() == "sm90"; }

bool Exists(std::string_view kernel) {
  for (const gpu::Kernel& each : CudaKernels()) {
    if (each.name == kernel) return RunsHere(each);
  }
  return false;
}

TEST_CASE("every CUDA kernel gives the bits of its simulated twin, run after run") {
  int verified = 0;
  for (const CliProblem& problem : kProblems) {
    if (!Exists(problem.kernel)) continue;
    const TemporaryFolder folder;
    const Finished finished = Bitflash(std::string("verify --quiet --device cuda --repeat 3 --seed 11 --json=v.json "
                                                   "--kernel ") +
                                           problem.kernel + " " + problem.flags,
                                       folder);
    CAPTURE(finished.out);
    CAPTURE(finished.err);
    CHECK(finished.exit_code == 0);
    CHECK(finished.out.find("\nRESULT pass=1 fail=0 undecided=0\n") != std::string::npos);
    if (finished.exit_code > 1) continue;
    const Json json = Json::parse(ReadText(folder.path() + "/v.json"));
    for (const std::string& error : CheckSchema(json, BITFLASH_SOURCE_DIR "/verify/schemas/verify.schema.json")) {
      FAIL_CHECK(error);
    }
    CHECK(json["kernels"][0]["runs"] == 3);
    ++verified;
  }
  std::printf("%d of %zu problems verified\n", verified, std::size(kProblems));
}

TEST_CASE("a saved case with sequences of several lengths: packed for fa3, refused by the others") {
  const TemporaryFolder folder;
  Problem p = GenerateProblem({.batch = 4,
                               .heads_q = 6,
                               .heads_kv = 2,
                               .seqlen_q = 200,
                               .seqlen_k = 300,
                               .head_dim = 96,
                               .head_dim_v = 96,
                               .mask = data::Mask::Causal(),
                               .format = data::Format::kBf16},
                              data::ParseDistribution("hash-normal"), 3);
  p.seqlens_q = {200, 1, 129, 0};
  p.seqlens_k = {257, 300, 0, 64};
  WriteCase(folder.path() + "/ragged.safetensors", {p, {}, {}});
  for (const gpu::Kernel& kernel : CudaKernels()) {
    if (!RunsHere(kernel)) continue;
    const Finished finished =
        Bitflash("verify --quiet --device cuda --case ragged.safetensors --kernel " + std::string(kernel.name), folder);
    CAPTURE(finished.out);
    CAPTURE(finished.err);
    CHECK(finished.exit_code == (kernel.packs_sequences ? 0 : 2));
    const std::string& said = kernel.packs_sequences ? finished.out : finished.err;
    CHECK(said.find(kernel.packs_sequences ? "RESULT pass=1" : "sequences of several lengths") != std::string::npos);
    if (kernel.packs_sequences)
      CHECK(said.find("sequences    packed, 200 x 257, 1 x 300, 129 x 0, 0 x 64\n") != std::string::npos);
  }
}

TEST_CASE("--seqlens-q and --seqlens-k: each kernel in the form that it has for them") {
  const CliProblem problems[] = {
      {"fa3", "--heads-q 6 --heads-kv 2 --head-dim 128 --seqlens-q 200,1,129,0 --seqlens-k 257,300,0,64 --causal"},
      {"fa3",
       "--heads-q 4 --heads-kv 2 --head-dim 64 --seqlens-q 1,130,70 --seqlens-k 500,130,1 --mask 'window(60,0)'"},
      {"fa3", "--heads-q 4 --head-dim 256 --seqlen-q 33 --seqlens-k 0,100,65 --heads 1:3"},
      {"split-kv", "--heads-q 8 --heads-kv 2 --head-dim 128 --seqlen-q 1 --seqlens-k 3001,0,17,1024"},
      {"split-kv", "--heads-q 8 --heads-kv 2 --head-dim 64 --seqlen-q 3 --seqlens-k 900,1300 --causal --splits 4"},
      {"split-kv", "--heads-q 4 --heads-kv 1 --head-dim 128 --seqlen-q 1 --seqlens-k 700,33,0 --page-size 16"}};
  for (const CliProblem& problem : problems) {
    if (!Exists(problem.kernel)) continue;
    const TemporaryFolder folder;
    const std::string flags = std::string(" --kernel ") + problem.kernel + " " + problem.flags;
    const Finished verified = Bitflash("verify --quiet --device cuda --json=v.json" + flags, folder);
    CAPTURE(verified.out);
    CAPTURE(verified.err);
    CHECK(verified.exit_code == 0);
    CHECK(verified.out.find("\nRESULT pass=1 fail=0 undecided=0\n") != std::string::npos);
    CHECK(verified.out.find("\nsequences    ") != std::string::npos);
    if (verified.exit_code > 1) continue;
    const Json json = Json::parse(ReadText(folder.path() + "/v.json"));
    for (const std::string& error : CheckSchema(json, BITFLASH_SOURCE_DIR "/verify/schemas/verify.schema.json")) {
      FAIL_CHECK(error);
    }
    const Finished ran = Bitflash("run --quiet --device cuda --json" + flags, folder);
    CAPTURE(ran.err);
    CHECK(ran.exit_code == 0);
    if (ran.exit_code == 0) CHECK(Json::parse(ran.out)["lengths"] == json["lengths"]);
  }
  const TemporaryFolder folder;
  for (const char* kernel : {"fa2", "standard", "split-kv"}) {
    const Finished refused = Bitflash(std::string("run --device cuda --heads-q 2 --head-dim 64 --seqlens-q 3,4 "
                                                  "--seqlen-k 9 --kernel ") +
                                          kernel,
                                      folder);
    CHECK(refused.exit_code == 2);
    CHECK(refused.err.find("sequences of several lengths are taken by fa3") != std::string::npos);
  }
}

TEST_CASE("run on the device and run in the simulator write the same files") {
  for (const gpu::Kernel& kernel : CudaKernels()) {
    if (!RunsHere(kernel)) continue;
    const TemporaryFolder folder;
    const std::string problem =
        "run --quiet --heads-q 6 --heads-kv 3 --head-dim 64 --seqlen-q 70 --seqlen-k 133 "
        "--causal --heads 1:4 --kernel " +
        std::string(kernel.name) + " ";
    const Finished real = Bitflash(problem + "--device cuda --out real.npy --lse real_lse.npy --json", folder);
    CAPTURE(real.err);
    REQUIRE(real.exit_code == 0);
    const Json json = Json::parse(real.out);
    for (const std::string& error : CheckSchema(json, BITFLASH_SOURCE_DIR "/verify/schemas/run.schema.json")) {
      FAIL_CHECK(error);
    }
    CHECK(json["device"]["kind"] == "cuda");
    const Json& t = json["tiling"];
    const std::string tile = "--arch " + json["device"]["arch"].get<std::string>() + " --tile " + t["br"].dump() + "x" +
                             t["bc"].dump() + " --warps " + t["warps"].dump() + " --stages " + t["stages"].dump();
    const Finished simulated = Bitflash(problem + tile + " --out o.npy --lse lse.npy --json", folder);
    CAPTURE(simulated.err);
    REQUIRE(simulated.exit_code == 0);
    CHECK(Json::parse(simulated.out)["hashes"] == json["hashes"]);
    CHECK(ReadText(folder.path() + "/o.npy") == ReadText(folder.path() + "/real.npy"));
    CHECK(ReadText(folder.path() + "/lse.npy") == ReadText(folder.path() + "/real_lse.npy"));
  }
}

TEST_CASE("what the CUDA kernel is not built for is refused with what it is built for") {
  const TemporaryFolder folder;
  for (const gpu::Kernel& kernel : CudaKernels()) {
    const std::string problem =
        "run --quiet --device cuda --heads-q 1 --head-dim 64 --seqlen 64 --kernel " + std::string(kernel.name) + " ";
    if (!RunsHere(kernel)) {
      const Finished refused = Bitflash(problem, folder);
      CHECK(refused.exit_code == 2);
      CHECK(refused.err.find("sm90") != std::string::npos);
      continue;
    }
    const Finished tile = Bitflash(problem + (kernel.hopper_only ? "--tile 64x16" : "--tile 16x16"), folder);
    CHECK(tile.exit_code == 2);
    CHECK(tile.err.find(": the CUDA kernel ") != std::string::npos);
    if (kernel.hopper_only) continue;  // no other architecture has it at all
    const Finished gpu = Bitflash(problem + "--arch sm75", folder);
    CHECK(gpu.exit_code == 2);
    CHECK(gpu.err.find("--arch sm75 contradicts --device cuda") != std::string::npos);
  }
}

}  // namespace
}  // namespace bitflash::verify

int main(int argc, char** argv) {
  try {
    const bitflash::gpu::Device device = bitflash::verify::CurrentCudaDevice();
    std::printf("on %s (%s)\n", device.name.c_str(), device.arch().c_str());
  } catch (const bitflash::data::UndecidedError& error) {
    std::printf("skipped: %s\n", error.what());
    return 77;
  }
  return doctest::Context(argc, argv).run();
}
