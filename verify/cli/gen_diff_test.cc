// `bitflash gen` and `bitflash diff`: files, bits, distances.
#include <doctest/doctest.h>

#include "verify/cli/command_testing.h"
#include "verify/schema_check.h"

namespace bitflash::verify {
namespace {

TEST_CASE("gen and diff: the same bits in every file format and for every number of threads") {
  const TemporaryFolder folder;
  const std::string gen = "bitflash gen --heads-q 4 --heads-kv 2 --head-dim 64 --seqlen 700 --seed 7 ";
  for (const char* rest : {"-o a.npz -j 1", "-o b.safetensors -j 2", "-o c/", "-o d.npz --seed 8"}) {
    std::string command = gen + rest;
    if (std::string(rest).find("--seed") != std::string::npos) command.replace(command.find("--seed 7 "), 9, "");
    const Finished finished = Shell(command, folder);
    CAPTURE(finished.err);
    REQUIRE(finished.exit_code == 0);
    CHECK(finished.out.find("assumed: distribution = hash-normal") != std::string::npos);
  }
  // NumPy's formats have no bf16: the bits come back as 16-bit patterns and --dtype names them.
  CHECK(Shell("bitflash diff a.npz b.safetensors --dtype bf16", folder).exit_code == 0);
  CHECK(Shell("bitflash diff a.npz c/v.npy --tensor v", folder).exit_code == 0);
  CHECK(Shell("bitflash diff a.npz a.npz --tensor k --tensor-b v", folder).exit_code == 1);
  const Finished seeds = Shell("bitflash diff a.npz d.npz --dtype bf16", folder);
  CHECK(seeds.exit_code == 1);
  CHECK(seeds.out.find("bits         ") != std::string::npos);
  CHECK(seeds.out.find("most ulps    ") != std::string::npos);
}

TEST_CASE("diff: one flipped bit is found, with its coordinates, both values and the ulps") {
  const TemporaryFolder folder;
  REQUIRE(Shell("bitflash gen --heads-q 2 --head-dim 16 --seqlen 8 --dtype fp32 --distribution constant-v -o a/ && "
                "bitflash gen --heads-q 2 --head-dim 16 --seqlen 8 --dtype fp32 --distribution constant-v -o b/",
                folder)
              .exit_code == 0);
  std::string bytes = ReadText(folder.path() + "/b/v.npy");
  const size_t element = ((0 * 2 + 1) * 8 + 3) * 16 + 5;  // (0, 1, 3, 5)
  bytes[bytes.size() - 4 * (2 * 8 * 16 - element)] ^= 1;
  WriteText(folder.path() + "/b/v.npy", bytes);
  const Finished finished = Shell("bitflash diff a/v.npy b/v.npy", folder);
  CHECK(finished.exit_code == 1);
  CHECK(finished.out.find("1 of 256 elements differ") != std::string::npos);
  CHECK(finished.out.find("(0, 1, 3, 5): A 0x3f800000 = 1, B 0x3f800001 = 1.0000001192092896") != std::string::npos);
  CHECK(finished.out.find("most ulps    1 at") != std::string::npos);
  CHECK(finished.err.empty());
  const Json json = Json::parse(Shell("bitflash diff a/v.npy b/v.npy --json", folder).out);
  CHECK(CheckSchema(json, BITFLASH_SOURCE_DIR "/verify/schemas/diff.schema.json").empty());
  CHECK(json["tensors"][0]["first"]["index"] == Json{0, 1, 3, 5});
  const Json same =
      Json::parse(Shell("bitflash diff a b/../a --json; bitflash diff a/q.npy b/q.npy --json", folder).out);
  CHECK(CheckSchema(same, BITFLASH_SOURCE_DIR "/verify/schemas/diff.schema.json").empty());
  CHECK(same["identical"] == true);
}

TEST_CASE("diff: NaN in one file only is reported before any distance") {
  const TemporaryFolder folder;
  REQUIRE(Shell("bitflash gen --heads-q 1 --head-dim 16 --seqlen 64 --distribution nan-padding -o a.safetensors && "
                "bitflash gen --heads-q 1 --head-dim 16 --seqlen 64 -o b.safetensors",
                folder)
              .exit_code == 0);
  const Finished finished = Shell("bitflash diff a.safetensors b.safetensors --tensor k", folder);
  CHECK(finished.exit_code == 1);
  const size_t kinds = finished.out.find("non-finite"), bits = finished.out.find("bits  ");
  REQUIRE(kinds != std::string::npos);
  CHECK(kinds < bits);
  CHECK(finished.out.find("= nan, B 0x") != std::string::npos);
}

TEST_CASE("gen --json is valid") {
  const Json json =
      ValidJson("bitflash gen --model llama-3-8b --phase decode --seqlen 64 -o x.safetensors --json", "gen");
  CHECK(json["tensors"].size() == 3);
  CHECK(json["tensors"][1]["shape"] == Json{1, 32, 1, 128});  // k, q, v: by name
}

}  // namespace
}  // namespace bitflash::verify
