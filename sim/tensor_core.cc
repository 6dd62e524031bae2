#include "sim/tensor_core.h"

#include <algorithm>
#include <vector>

#include "data/error.h"

namespace bitflash::sim {
namespace {

using data::Format;
using enum ResultRounding;
using enum AccumulatorAdd;
using enum Evidence;

constexpr std::string_view kThreeModels =
    "arXiv 2511.10909 (github.com/microsoft/MMA-Sim), arXiv 2512.07004 "
    "(github.com/north-numerical-computing/MATLAB-tensor-core; it alone has the floor of emax), arXiv 2603.20421";
constexpr std::string_view kOneModel = "arXiv 2511.10909 (github.com/microsoft/MMA-Sim) alone";
// The recording is in data/golden/probes.
constexpr std::string_view kProbe =
    "gpu/probes/tensor_core_probe, NVIDIA H100 80GB HBM3, driver 580.159.04, CUDA 13.0, 2026-11-25: 18 or 19 settings "
    "of "
    "33.6 million outputs, 0 mismatches";
constexpr std::string_view kProbeAndH200 =
    "gpu/probes/tensor_core_probe, NVIDIA H100 80GB HBM3, driver 580.159.04, CUDA 13.0, 2026-11-25: 18 or 19 settings "
    "of "
    "33.6 million outputs, 0 mismatches; on an H200 random patterns through mma.sync.m16n8k16 and wgmma.m64n8k16, 34 "
    "to "
    "41 million outputs per setting, 0 mismatches";

// Where emax_floor is, by accumulator. Of fp16 operands no fp32 accumulator shows one.
struct EmaxFloors {
  int fp32 = kNoEmaxFloor, fp16 = kNoEmaxFloor;
};
// MATLAB-tensor-core, models/{V100,A100,Ada,B200}TC.m, min_exp_limit.
constexpr EmaxFloors kVoltaFloors = {kNoEmaxFloor, -19}, kAmpereFloors = {-132, -20}, kBlackwellFloors = {-133, -21};
// Measured, and the same in H100TC.m.
constexpr EmaxFloors kHopperFloors = {-133, -21};

// The rows of one instruction whose two accumulators differ in the rounding and the floor alone.
void AddBoth(std::vector<TensorCore>& rows, TensorCore core, int fp16_emax_floor = kNoEmaxFloor) {
  rows.push_back(core);
  core.accumulator = Format::kFp16, core.rounding = kNearestFp16, core.emax_floor = fp16_emax_floor;
  if (core.evidence == kMeasured) core.source = kProbe;
  rows.push_back(core);
}

// fp16 (both accumulators), bf16 and tf32 of an architecture whose 4-byte inputs take half the products per step.
void Add16BitAndTf32(std::vector<TensorCore>& rows, std::string_view arch, std::string_view instruction, int products,
                     int alignment_bits, EmaxFloors floors, Evidence evidence, std::string_view source,
                     std::string_view tf32_source) {
  const TensorCore core{.arch = arch,
                        .instruction = instruction,
                        .input = Format::kFp16,
                        .accumulator = Format::kFp32,
                        .products = products,
                        .alignment_bits = alignment_bits,
                        .rounding = kTruncateFp32,
                        .accumulator_add = kInEveryStep,
                        .instruction_k = 16,
                        .evidence = evidence,
                        .source = source};
  AddBoth(rows, core, floors.fp16);
  TensorCore bf16 = core;
  bf16.input = Format::kBf16, bf16.emax_floor = floors.fp32;
  rows.push_back(bf16);
  TensorCore tf32 = bf16;
  tf32.input = Format::kTf32, tf32.products = products / 2, tf32.instruction_k = 8;
  tf32.source = tf32_source;
  rows.push_back(tf32);
}

void AddFp8(std::vector<TensorCore>& rows, TensorCore core) {
  for (const Format input : {Format::kE4m3, Format::kE5m2}) {
    core.input = input;
    AddBoth(rows, core);
  }
}

std::vector<TensorCore> MakeRows() {
  std::vector<TensorCore> rows;
  AddBoth(rows,
          {"sm70", "mma.sync", Format::kFp16, Format::kFp32, 4, 23, kTruncateFp32, kInEveryStep, 4, kPublished,
           kThreeModels},
          kVoltaFloors.fp16);
  AddBoth(rows, {"sm75", "mma.sync", Format::kFp16, Format::kFp32, 8, 24, kTruncateFp32, kInEveryStep, 8, kPublished,
                 kOneModel});
  for (const std::string_view arch : {"sm80", "sm86", "sm89"}) {
    Add16BitAndTf32(rows, arch, "mma.sync", 8, 24, kAmpereFloors, kPublished, kThreeModels, kThreeModels);
  }
  AddFp8(
      rows,
      {"sm89", "mma.sync", {}, Format::kFp32, 16, 13, kTruncateFp32To13, kInEveryStep, 32, kPublished, kThreeModels});
  Add16BitAndTf32(rows, "sm90", "wgmma", 16, 25, kHopperFloors, kMeasured, kProbeAndH200, kProbe);
  AddFp8(rows, {"sm90", "wgmma", {}, Format::kFp32, 32, 13, kTruncateFp32To13, kInEveryStep, 32, kMeasured, kProbe});
  Add16BitAndTf32(rows, "sm90", "mma.sync", 16, 25, kHopperFloors, kMeasured, kProbeAndH200, kProbe);
  // There is no such instruction on sm90: ptxas converts to fp16 (github.com/NVIDIA/cutlass issue 1986).
  for (const Format input : {Format::kE4m3, Format::kE5m2}) {
    rows.push_back({"sm90", "mma.sync", input, Format::kFp32, 16, 25, kTruncateFp32, kAfterInstruction, 32, kMeasured,
                    kProbe, kNoEmaxFloor, StepOrder::kEvenPairsFirst});
  }
  for (const std::string_view instruction : {"tcgen05.mma", "mma.sync"}) {
    Add16BitAndTf32(rows, "sm100", instruction, 16, 25, kBlackwellFloors, kPublished, kThreeModels, kThreeModels);
    AddFp8(rows,
           {"sm100", instruction, {}, Format::kFp32, 32, 25, kTruncateFp32, kInEveryStep, 32, kPublished, kOneModel});
  }
  return rows;
}

// "a, b, c" of what `field` takes over the rows that `matches`, each value once.
template <typename Matches, typename Field>
std::string Accepted(Matches matches, Field field) {
  std::vector<std::string_view> values;
  for (const TensorCore& core : AllTensorCores()) {
    if (matches(core) && std::ranges::find(values, field(core)) == values.end()) values.push_back(field(core));
  }
  std::string text;
  for (const std::string_view value : values) text.append(text.empty() ? "" : ", ").append(value);
  return text;
}

}  // namespace

std::span<const TensorCore> AllTensorCores() {
  static const std::vector<TensorCore> rows = MakeRows();
  return rows;
}

const TensorCore& FindTensorCore(std::string_view arch, Format input, Format accumulator,
                                 std::string_view instruction) {
  // Each key narrows the rows; the first that leaves none is the one to complain about.
  const auto of_arch = [&](const TensorCore& core) { return core.arch == arch; };
  const auto of_instruction = [&](const TensorCore& core) {
    return of_arch(core) && (instruction.empty() || core.instruction == instruction);
  };
  const auto of_input = [&](const TensorCore& core) { return of_instruction(core) && core.input == input; };
  const auto of_all = [&](const TensorCore& core) { return of_input(core) && core.accumulator == accumulator; };
  const auto rows = AllTensorCores();
  if (const auto found = std::ranges::find_if(rows, of_all); found != rows.end()) return *found;

  const auto refuse = [](std::string_view what, std::string_view value, const std::string& accepted) {
    throw data::UsageError("no tensor core is modelled for " + std::string(what) + " '" + std::string(value) +
                           "': expected one of " + accepted);
  };
  const auto instruction_of = [](const TensorCore& core) { return core.instruction; };
  const auto input_of = [](const TensorCore& core) { return data::Name(core.input); };
  const auto accumulator_of = [](const TensorCore& core) { return data::Name(core.accumulator); };
  std::string where(arch);
  if (!instruction.empty()) where.append(" ").append(instruction);
  if (std::ranges::none_of(rows, of_arch)) {
    refuse("the architecture", arch,
           Accepted([](const TensorCore&) { return true; }, [](const TensorCore& core) { return core.arch; }));
  }
  if (std::ranges::none_of(rows, of_instruction)) {
    refuse(std::string(arch) + " and the instruction", instruction, Accepted(of_arch, instruction_of));
  }
  if (std::ranges::none_of(rows, of_input)) {
    refuse(where + " and the input format", data::Name(input), Accepted(of_instruction, input_of));
  }
  refuse(where + " " + std::string(data::Name(input)) + " and the accumulator format", data::Name(accumulator),
         Accepted(of_input, accumulator_of));
  return rows.front();  // not reached: refuse throws
}

std::string ToString(const TensorCore& core) {
  std::string text = std::string(core.arch) + " " + std::string(core.instruction) + " " +
                     std::string(data::Name(core.input)) + " -> " + std::string(data::Name(core.accumulator)) + ": L " +
                     std::to_string(core.products) + ", F " + std::to_string(core.alignment_bits);
  if (core.emax_floor != kNoEmaxFloor) text += ", emax >= " + std::to_string(core.emax_floor);
  return text;
}

}  // namespace bitflash::sim
