// bitflash verify and run --device cuda as their users see them. What needs a GPU is in device_test.cc; a machine
// without one sees exit code 5.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "data/error.h"
#include "verify/cli/device_flag.h"
#include "verify/cli/shell.h"
#include "verify/cli/verify_result.h"
#include "verify/device/device_run.h"
#include "verify/schema_check.h"

namespace bitflash::verify {
namespace {

constexpr const char* kProblem = " --device cuda --heads-q 2 --head-dim 64 --seqlen 64 --seed 3 ";

bool EndsWith(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// Without a GPU nothing can be run here, with one the commands answer: both are tested.
std::string NoDevice() try {
  CurrentCudaDevice();
  return CudaKernels().empty() ? "gpu/ of this build has no CUDA kernels" : "";
} catch (const data::UndecidedError& error) {
  return GpuIsBuilt() && CudaKernels().empty() ? "gpu/ of this build has no CUDA kernels" : error.what();
}

void CheckSchemaOf(const Json& json, const char* name) {
  for (const std::string& error :
       CheckSchema(nlohmann::json::parse(json.dump()), std::string(BITFLASH_SOURCE_DIR "/verify/schemas/") + name)) {
    FAIL_CHECK(error);
  }
}

TEST_CASE("without a GPU: exit code 5, the reason on standard error, and never a pass") {
  const std::string reason = NoDevice();
  if (reason.empty()) return;
  const TemporaryFolder folder;
  const bool kernels = GpuIsBuilt() && !CudaKernels().empty();
  const std::string first = kernels ? std::string(CudaKernels().front().name) : "fa2";
  const std::string last = kernels ? std::string(CudaKernels().back().name) : "split-kv";
  const std::string names = first == last ? first : first + "," + last;
  const Finished run = Shell("bitflash run --out o.npy --kernel " + first + kProblem, folder);
  CHECK(run.exit_code == 5);
  CHECK(run.out.empty());
  CHECK(run.err == "bitflash run: " + reason + (reason.rfind("gpu/", 0) == 0 ? ": nothing was run\n" : "\n"));

  const Finished verify = Shell("bitflash verify --json=v.json --kernel " + names + kProblem, folder);
  CHECK(verify.exit_code == 5);
  CHECK(verify.err.rfind("bitflash verify: " + first + ": undecided: " + reason, 0) == 0);
  CHECK(EndsWith(verify.out,
                 first == last ? "\nRESULT pass=0 fail=0 undecided=1\n" : "\nRESULT pass=0 fail=0 undecided=2\n"));
  CHECK(verify.out.find("to repeat    bitflash verify --kernel " + last + " --device cuda --heads-q 2 ") !=
        std::string::npos);
  const Json json = Json::parse(ReadText(folder.path() + "/v.json"));
  CheckSchemaOf(json, "verify.schema.json");
  CHECK(json["result"]["undecided"] == json["kernels"].size());
  CHECK(json["kernels"][0]["verdict"] == "undecided");
  CHECK(!json.contains("device"));
}

TEST_CASE("a build without gpu/ says how to get one") {
  if (GpuIsBuilt()) return;
  CHECK(NoDevice().find("cmake --preset gpu") != std::string::npos);
}

TEST_CASE("kernels without a CUDA twin are refused where there are CUDA kernels") {
  if (!GpuIsBuilt() || CudaKernels().empty()) return;
  const TemporaryFolder folder;
  for (const char* command : {"run", "verify"}) {
    for (const char* kernel : {"fa1", "fa3", "pytorch-fa2", "cudnn-9.19-sm90"}) {
      const Finished finished =
          Shell(std::string("bitflash ") + command + " --quiet --kernel " + kernel + kProblem, folder);
      CAPTURE(finished.err);
      CHECK(finished.exit_code == 2);
      CHECK(finished.err.find(" has no CUDA twin in gpu/ (those that have one: ") != std::string::npos);
    }
    const Finished head_dim = Shell(std::string("bitflash ") + command +
                                        " --device cuda --heads-q 1 --head-dim 80 "
                                        "--seqlen 8 --kernel " +
                                        std::string(CudaKernels().front().name),
                                    folder);
    CHECK(head_dim.exit_code == 2);
    CHECK(head_dim.err.find("head_dim 80") != std::string::npos);
  }
}

TEST_CASE("the simulated architecture is that of the device") {
  const gpu::Device h100{.name = "NVIDIA H100 80GB HBM3", .major = 9, .minor = 0};
  WorkloadFlags flags;
  flags.heads_q = "2";
  flags.head_dim = flags.seqlen = "64";
  const Workload workload = ResolveForDevice(flags, {}, h100);
  CHECK(workload.gpu.arch == "sm90");
  CHECK(workload.notes.back() == "the device, NVIDIA H100 80GB HBM3, is sm90: h200 stands for it");
  CHECK(ResolveForDevice(flags, {}, {.name = "NVIDIA A100", .major = 8, .minor = 0}).gpu.name == "a100-80gb");
  CHECK_THROWS_AS(ResolveForDevice(flags, {}, {.name = "NVIDIA A10", .major = 8, .minor = 6}), data::UndecidedError);
  flags.gpu = "h200";
  CHECK(ResolveForDevice(flags, {}, h100).gpu.name == "h200");
  flags.gpu = "a100-80gb";
  CHECK_THROWS_WITH_AS(
      ResolveForDevice(flags, {}, h100),
      "--gpu a100-80gb contradicts --device cuda: that is sm80, and the device, NVIDIA H100 80GB HBM3, is sm90",
      data::UsageError);
}

TEST_CASE("the command that repeats a kernel is what a shell takes and what this kernel takes") {
  const sim::Kernel &fa2 = sim::FindKernel("fa2"), &split = sim::FindKernel("split-kv");
  CHECK(RepeatCommand({"--kernel", "fa2,standard", "--device", "cuda", "--mask", "window(3,0)", "--json=x y"}, fa2) ==
        "bitflash verify --kernel fa2 --device cuda --mask 'window(3,0)'");
  CHECK(RepeatCommand({"--kernel=fa2", "--in", "it's.npz", "--json", ""}, fa2) ==
        "bitflash verify --kernel fa2 --in 'it'\\''s.npz' ''");
  const std::vector<std::string> both = {"--splits", "3", "--device", "cuda", "--page-size=16", "--fp32-scores"};
  CHECK(RepeatCommand(both, fa2) == "bitflash verify --kernel fa2 --device cuda");
  CHECK(RepeatCommand(both, split) == "bitflash verify --kernel split-kv --splits 3 --device cuda --page-size=16");
}

// A verdict as the device would give it, without one.
struct Made {
  Workload workload;
  gpu::Kernel kernel{.name = "fa2", .title = "made", .launches = {"made_forward"}};
  gpu::Device device{
      .name = "NVIDIA H200", .major = 9, .driver = "580.1", .driver_cuda = "13.0", .runtime_cuda = "12.8"};

  VerifyResult Result(OutputPair device_outputs, const OutputPair& twin) {
    WorkloadFlags flags;
    flags.heads_q = "40";
    flags.head_dim = "64";
    flags.seqlen = "8";
    flags.arch = "sm90";
    workload = ResolveWorkload(flags, {});
    const data::Attention& a = workload.attention();
    VerifyResult result{.workload = workload, .heads = SelectHeads(a, 2, 22), .inputs = "hash-normal, seed 0"};
    result.device = device;
    KernelVerdict v{.kernel = workload.kernels.front(), .command = "bitflash verify --kernel fa2"};
    v.plan = DevicePlan{.kernel = &kernel, .attention = a, .tiling = ChooseTiling(workload, *v.kernel, a)};
    v.runs = 2;
    v.agreement = CompareOutputs(device_outputs, twin, a.format, 2, true);
    v.verdict = v.agreement->identical() ? Verdict::kPass : Verdict::kFail;
    result.kernels.push_back(std::move(v));
    return result;
  }
};

OutputPair Zeros() {
  return {data::Tensor::Zeros(data::ElementType::Unsigned(2), {1, 20, 8, 64}),
          data::Tensor::Zeros(data::Format::kFp32, {1, 20, 8})};
}

TEST_CASE("the report: one screen, whatever differs") {
  Made made;
  const VerifyResult pass = made.Result(Zeros(), Zeros());
  const std::string text = VerifyText(pass, false);
  CAPTURE(text);
  CHECK(text.rfind("fa2, the CUDA kernel against its simulated twin: pass\n", 0) == 0);
  CHECK(text.find("device       NVIDIA H200 (sm90, driver 580.1, CUDA 13.0)\n") != std::string::npos);
  CHECK(text.find("heads        2:22 of 40 simulated; the device ran all\n") != std::string::npos);
  CHECK(text.find("compared     10,400 elements of 20 heads: 0 differ\n") != std::string::npos);
  CHECK(EndsWith(text, "\nRESULT pass=1 fail=0 undecided=0\n"));
  CheckSchemaOf(VerifyJson(pass), "verify.schema.json");

  OutputPair device = Zeros();
  for (uint16_t& bits : device.o.Elements<uint16_t>()) bits = 0xFFFF;
  const VerifyResult fail = made.Result(device, Zeros());
  const std::string worse = VerifyText(fail, false);
  CAPTURE(worse);
  CHECK(worse.find("heads        20 of 20 differ\n             batch 0, head 2: 512 elements of O, 0 of LSE\n") !=
        std::string::npos);
  CHECK(worse.find("             and 12 more\n") != std::string::npos);
  CHECK(worse.find("first (0, 2, 0, 0): device 0xffff = -nan, simulated 0x0000 = 0") != std::string::npos);
  CHECK(worse.find("not written  10,240 elements still hold") != std::string::npos);
  CHECK(EndsWith(worse, "\nRESULT pass=0 fail=1 undecided=0\n"));
  CHECK(std::count(worse.begin(), worse.end(), '\n') < 40);
  CheckSchemaOf(VerifyJson(fail), "verify.schema.json");
  CHECK(VerifyJson(fail)["kernels"][0]["heads_differ"].size() == 20);
}

}  // namespace
}  // namespace bitflash::verify
