// Kernels of the CPU in run, verify and list, and the second witness in verify, as their users see them.
#include <doctest/doctest.h>

#include <string>

#include "data/convert.h"
#include "data/tensor_file.h"
#include "verify/cli/command_testing.h"
#include "verify/cli/verdict_testing.h"

namespace bitflash::verify {
namespace {

using data::Format;
using data::Tensor;

constexpr const char* kProblem = " --batch 2 --heads-q 6 --heads-kv 3 --head-dim 64 --seqlen-q 70 --seqlen-k 133 ";

TEST_CASE("run --kernel cpu-simd: bits do not depend on threads nor on heads; files and hashes as of other kernels") {
  const TemporaryFolder folder;
  const auto run = [&](const std::string& options) {
    return ValidJson("bitflash run --json --kernel cpu-simd --causal" + std::string(kProblem) + options, "run", folder);
  };
  const Json whole = run("--out whole.npy --lse lse.npy -j 1");
  CHECK(whole["device"]["kind"] == "cpu");
  CHECK(whole["gpu"].is_null());
  CHECK(whole["tiling"].is_null());
  CHECK(whole["seconds"] > 0);
  CHECK(whole["threads"] == 1);
  // Row i sees 64 + i keys.
  CHECK(whole["multiply_adds"] == 2 * 6 * (70 * 64 + 70 * 69 / 2) * 128);
  CHECK(run("-j 2")["hashes"] == whole["hashes"]);
  const Json part = run("--out part.npy --heads 1:4");
  CHECK(part["hashes"][0] == whole["hashes"][1]);
  CHECK(part["hashes"][5] == whole["hashes"][9]);
  const Tensor all = data::ReadTensor(folder.path() + "/whole.npy");
  CHECK(Name(all.type()) == "u16");
  CHECK(all.shape() == std::vector<int64_t>{2, 6, 70, 64});
  CHECK(data::ReadTensor(folder.path() + "/part.npy") == all.Slice(1, 1, 4));
  CHECK(data::ReadTensor(folder.path() + "/lse.npy").shape() == std::vector<int64_t>{2, 6, 70});

  const Json single = run("--dtype fp32 --out fp32.npy");
  CHECK(single["files"][0]["dtype"] == "fp32");
  CHECK(data::ReadTensor(folder.path() + "/fp32.npy").type() == data::ElementType(Format::kFp32));
  const std::string text = Shell("bitflash run --kernel cpu-simd --heads-q 1 --head-dim 16 --seqlen 8", folder).out;
  CHECK(text.find("on the CPU of this machine, not simulated") != std::string::npos);
  CHECK(text.find("GFLOP/s") != std::string::npos);
  CHECK(text.find("K and V") == std::string::npos);
}

TEST_CASE("run --kernel cpu-simd: decode says how fast it reads K and V") {
  const TemporaryFolder folder;
  const std::string decode =
      "bitflash run --kernel cpu-simd --heads-q 4 --heads-kv 2 --head-dim 32 --seqlens-k 100,28 --seqlen-q 1";
  const Finished text = Shell(decode, folder);
  CAPTURE(text.err);
  CHECK(text.out.find("K and V, 32.0 KiB, once in that time: ") != std::string::npos);  // 2 x 128 x 64 x 2 bytes
  CHECK(Json::parse(Shell(decode + " --json", folder).out)["kv_bytes"] == 32768);
}

TEST_CASE("--softcap: by run, verify and gen as by a model; a file of gen keeps it") {
  const TemporaryFolder folder;
  const std::string shape = " --heads-q 2 --head-dim 16 --seqlen 24 --causal --dtype fp32";
  const auto json = [&](const std::string& command) {
    const Finished finished = Shell("bitflash " + command + " --json", folder);
    CAPTURE(finished.err);
    REQUIRE(finished.exit_code == 0);
    return Json::parse(finished.out);
  };
  const std::string run = "run --kernel cpu-simd";
  const Json capped = json(run + shape + " --softcap 0.5 --out o.npy --lse lse.npy");
  CHECK(capped["problem"]["softcap"] == 0.5);
  CHECK(capped["hashes"] != json(run + shape)["hashes"]);
  json("gen" + shape + " --softcap 0.5 -o capped.safetensors");
  CHECK(json(run + " --in capped.safetensors")["hashes"] == capped["hashes"]);
  CHECK(Shell("bitflash verify --in capped.safetensors --o o.npy --lse lse.npy", folder).exit_code == 0);
  CHECK(Shell("bitflash verify --in capped.safetensors --o o.npy --lse lse.npy --softcap 40", folder).exit_code == 1);
  CHECK(Shell("bitflash verify --kernel cpu-simd --softcap 0.5" + shape, folder).out.find("softcap 0.5: bounded") !=
        std::string::npos);
}

TEST_CASE("kernels of the CPU: what they cannot honour is refused with what is accepted") {
  const TemporaryFolder folder;
  const auto refused = [&](const std::string& command, int exit_code, const char* words) {
    const Finished finished = Shell("bitflash " + command, folder);
    CAPTURE(command);
    CAPTURE(finished.err);
    CHECK(finished.exit_code == exit_code);
    CHECK(finished.err.find(words) != std::string::npos);
  };
  const std::string run = "run --kernel cpu-simd --heads-q 1 --head-dim 16 --seqlen 8 ";
  for (const char* flag : {"--gpu h100", "--arch sm80", "--tile 64x64", "--warps 4", "--stages 2", "--splits 2",
                           "--chunk 64", "--page-size 16", "--pack-gqa", "--fp32-scores"}) {
    refused(run + flag, 2, "contradicts --kernel cpu-simd, which runs on the CPU");
    refused(std::string("verify --kernel cpu-simd --heads-q 1 --head-dim 16 --seqlen 8 ") + flag, 2, "expected only");
  }
  refused(run + "--device cuda", 2, "expected --device cpu");
  refused(run + "--recipe found.json", 2, "a recipe is of a simulated kernel");
  refused(run + "--dtype e4m3", 5, "cpu-simd takes fp32, fp16, bf16, not e4m3");
  refused("run --kernel cpu-simd,fa2 --heads-q 1 --head-dim 16 --seqlen 8", 2, "expected it alone");
  refused("run --kernel cpu-simt --heads-q 1 --head-dim 16 --seqlen 8", 2, "did you mean 'cpu-simd'");
  refused("traffic --kernel cpu-simd --heads-q 1 --head-dim 16 --seqlen 8", 2, "expected a simulated one");
  refused("verify --kernel cpu-simd --witness simd --heads-q 1 --head-dim 16 --seqlen 8", 2, "its own witness");
  refused("verify --kernel cpu-simd --o o.npy --q q.npy --k k.npy --v v.npy", 3, "q.npy");
}

TEST_CASE("list kernels: those of the CPU as well, and that they are not simulated") {
  const TemporaryFolder folder;
  const Json json = ValidJson("bitflash list kernels --json", "list", folder);
  REQUIRE(json["cpu_kernels"].size() >= 1);
  CHECK(json["cpu_kernels"][0]["name"] == "cpu-simd");
  const std::string text = Shell("bitflash list kernels", folder).out;
  CHECK(text.find("cpu-simd") != std::string::npos);
  CHECK(text.find("not a simulation") != std::string::npos);
}

TEST_CASE("verify --kernel cpu-simd: judged by the bound, in every format, with and without a shape") {
  const TemporaryFolder folder;
  for (const char* dtype : {"bf16", "fp16", "fp32"}) {
    const Judged judged =
        RunVerify(std::string("--kernel cpu-simd --heads-q 2 --heads-kv 1 --head-dim 16 --seqlen-q 30 --seqlen-k 50 "
                              "--mask 'window(20,3)' --dtype ") +
                      dtype,
                  folder);
    CAPTURE(judged.text);
    CHECK(judged.exit_code == 0);
    CHECK(judged.rung() == "bounded");
    CHECK(judged.json["subject"] == "cpu-simd");
    CHECK(judged.only()["judgement"]["named_kernel"].is_null());
    CHECK(judged.only()["relations"].size() > 3);
  }
  const Judged cases = RunVerify("--kernel cpu-simd --cases 3", folder);
  CHECK(cases.exit_code == 0);
  CHECK(cases.json["cases"].size() == 3);
}

TEST_CASE("cpu-amx-bf16 runs and is judged where the CPU has AMX, and says what is missing elsewhere") {
  const TemporaryFolder folder;
  const Json doctor = ValidJson("bitflash doctor --json", "doctor", folder);
  REQUIRE(doctor["cpu_kernels"].size() == 2);
  CHECK(doctor["cpu_kernels"][0]["unavailable"].is_null());
  const Json& missing = doctor["cpu_kernels"][1]["unavailable"];
  const std::string problem = " --kernel cpu-amx-bf16 --causal" + std::string(kProblem);
  const Finished run = Shell("bitflash run" + problem, folder);
  if (missing.is_null()) {
    CHECK(run.exit_code == 0);
    CHECK(RunVerify(problem, folder).rung() == "bounded");
    const Finished fp16 = Shell("bitflash run --dtype fp16" + problem, folder);
    CHECK(fp16.exit_code == 5);
    CHECK(fp16.err.find("cpu-amx-bf16 takes") != std::string::npos);
  } else {
    CHECK(run.exit_code == 5);
    CHECK(run.err.find(missing.get<std::string>()) != std::string::npos);
  }
}

TEST_CASE("verify: a wrong row that the sample misses is found by the second witness, and --witness chooses it") {
  const TemporaryFolder folder;
  REQUIRE(
      Shell("bitflash gen --quiet --heads-q 2 --heads-kv 1 --head-dim 16 --seqlen 150 --causal -o in.safetensors && "
            "bitflash run --quiet --kernel cpu-simd --in in.safetensors --out o.npy --lse lse.npy",
            folder)
          .exit_code == 0);
  const std::string outputs = "--in in.safetensors --lse lse.npy --dtype bf16 --layout bhsd --pairs 10000 ";
  const Judged good = RunVerify(outputs + "--o o.npy", folder);
  CHECK(good.exit_code == 0);
  const Json& judgement = good.only()["judgement"];
  REQUIRE(!judgement["witness"].is_null());
  CHECK(judgement["sampled"] == true);
  CHECK(judgement["witness"]["kernel"] == "cpu-simd");
  CHECK(judgement["witness"]["used"] == true);
  CHECK(judgement["witness"]["check"]["rows"] > 0);
  CHECK(judgement["fp64_rows"].get<int64_t>() + judgement["witness"]["rows"].get<int64_t>() == 2 * 150);
  CHECK(good.text.find("judged by fp64") != std::string::npos);
  CHECK(good.text.find("agrees with fp64 on") != std::string::npos);

  // A row that fp64 does not see: of 150 rows it takes slices at both ends and between.
  Tensor o = data::ReadTensor(folder.path() + "/o.npy").View(Format::kBf16).Clone();
  const int64_t row = 60;
  for (int64_t d = 0; d < 16; ++d) o.SetBits({0, 1, row, d}, o.Bits({0, 1, row - 1, d}));
  data::WriteTensors(folder.path() + "/wrong.npy", {{{"o", o}}, {}});
  const Judged sample = RunVerify(outputs + "--o wrong.npy --witness fp64", folder);
  CHECK(sample.exit_code == 0);
  CHECK(sample.only()["judgement"]["witness"].is_null());
  CHECK(sample.text.find("sample") != std::string::npos);
  for (const char* choice : {"", "--witness simd"}) {
    const Judged found = RunVerify(outputs + "--no-diagnosis --o wrong.npy " + choice, folder);
    CHECK(found.exit_code == 1);
    CHECK(found.rung() == "wrong");
    const Json& first = found.only()["judgement"]["tensors"][0]["first_beyond"]["index"];
    CHECK(first[1] == 1);
    CHECK(first[2] == row);
    CHECK(found.text.find("none of them in the rows that fp64 judged") != std::string::npos);
    CHECK(found.text.find("map") != std::string::npos);
  }
  const auto error = [&](const std::string& flags) { return Shell("bitflash verify " + outputs + flags, folder).err; };
  CHECK(error("--o o.npy --witness sims").find("did you mean 'simd'") != std::string::npos);
  CHECK(Shell("bitflash verify --in in.safetensors --o o.npy --pairs all --witness simd", folder).exit_code == 2);
}

}  // namespace
}  // namespace bitflash::verify
