// The tensor core is defined twice: by the simulator (sim/tensor_core_scalar.h), and by the probe that asks a GPU
// (gpu/probes/fdpa.h). Neither includes the other; here they are held against each other.
#include <doctest/doctest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "data/strict_json.h"
#include "gpu/probes/tensor_core_rules.h"
#include "sim/tensor_core_scalar.h"

namespace bitflash::verify {
namespace {

using data::Format;
namespace probe = gpu::probe;

probe::Input InputOf(Format format) {
  switch (format) {
    case Format::kFp16:
      return probe::Input::kFp16;
    case Format::kBf16:
      return probe::Input::kBf16;
    case Format::kTf32:
      return probe::Input::kTf32;
    case Format::kE4m3:
      return probe::Input::kE4m3;
    default:
      return probe::Input::kE5m2;
  }
}

probe::Rule RuleOf(const sim::TensorCore& core) {
  probe::Rule rule;
  rule.L = core.products;
  rule.F = rule.F_c = core.alignment_bits;
  rule.result = core.rounding == sim::ResultRounding::kNearestFp16    ? probe::Result::kFp16Nearest
                : core.rounding == sim::ResultRounding::kTruncateFp32 ? probe::Result::kFp32Truncated
                                                                      : probe::Result::kFp32Truncated13;
  const bool last = core.accumulator_add == sim::AccumulatorAdd::kAfterInstruction;
  rule.add_c = last ? probe::AddC::kLastNearest : probe::AddC::kInEveryStep;
  if (core.emax_floor != sim::kNoEmaxFloor) rule.emax_floor = core.emax_floor;
  if (core.step_order == sim::StepOrder::kEvenPairsFirst) {
    for (int i = 0; i < probe::kMostK; ++i) {
      rule.order[i] = static_cast<uint8_t>(i / 2 % 8 * 4 + i / 16 * 2 + i % 2);
    }
  }
  return rule;
}

// Patterns whose exponents lie within `spread` of `middle`; spread 0: every pattern. A quarter is zero.
uint32_t Draw(std::mt19937& random, int bits, int exponent_bits, int spread, int middle = 0) {
  const uint32_t any = static_cast<uint32_t>(random()) & (bits == 32 ? ~0u : (1u << bits) - 1);
  if (spread == 0) return any;
  const uint32_t sign = any & (1u << (bits - 1));
  if (random() % 4 == 0) return sign;
  const int low_bits = bits - 1 - exponent_bits, top = (1 << exponent_bits) - 1;
  int field = top / 2 + middle + static_cast<int>(random() % static_cast<unsigned>(2 * spread + 1)) - spread;
  field = field < 0 ? 0 : field > top - 1 ? top - 1 : field;
  return sign | static_cast<uint32_t>(field) << low_bits | (any & ((1u << low_bits) - 1));
}

TEST_CASE("the probe's definition of every modelled tensor core is the simulator's") {
  std::mt19937 random(1);
  for (const sim::TensorCore& core : sim::AllTensorCores()) {
    const probe::Input input = InputOf(core.input);
    const probe::Layout layout = probe::LayoutOf(input);
    const probe::Rule rule = RuleOf(core);
    const bool fp16 = core.accumulator == Format::kFp16;
    const size_t k = 256 / static_cast<size_t>(layout.bits);
    int64_t different = 0;
    for (const int spread : {0, 2, 7, 14, 120}) {
      for (int i = 0; i < 2000; ++i) {
        std::vector<uint32_t> a(k), b(k);
        for (uint32_t& x : a) x = Draw(random, layout.bits, layout.exponent_bits, spread);
        for (uint32_t& x : b) x = Draw(random, layout.bits, layout.exponent_bits, spread);
        const uint32_t c = fp16 ? Draw(random, 16, 5, 2 * spread) : Draw(random, 32, 8, 2 * spread);
        const uint32_t simulated =
            sim::DotProductAdd(core, std::span<const uint32_t>(a), std::span<const uint32_t>(b), c);
        different += probe::Evaluate(rule, input, a.data(), b.data(), static_cast<int>(k), c) != simulated;
      }
    }
    // Around the floor of emax, with a c that is zero or subnormal.
    for (int i = 0; i < 4000 && core.emax_floor != sim::kNoEmaxFloor; ++i) {
      std::vector<uint32_t> a(k), b(k);
      for (auto* side : {&a, &b}) {
        for (uint32_t& x : *side) x = Draw(random, layout.bits, layout.exponent_bits, 5, core.emax_floor / 2);
      }
      const uint32_t c = i % 2 == 0 ? 0 : static_cast<uint32_t>(random()) % 512;
      const uint32_t simulated =
          sim::DotProductAdd(core, std::span<const uint32_t>(a), std::span<const uint32_t>(b), c);
      different += probe::Evaluate(rule, input, a.data(), b.data(), static_cast<int>(k), c) != simulated;
    }
    CAPTURE(sim::ToString(core));
    CHECK(different == 0);
  }
}

TEST_CASE(
    "the rules that the probe holds a GPU against are the rows of the simulator's table, and its experiments find "
    "them") {
  for (const sim::TensorCore& core : sim::AllTensorCores()) {
    const int capability = std::stoi(std::string(core.arch.substr(2)));
    if (capability < 80) continue;  // the probe's instructions begin there
    CAPTURE(sim::ToString(core));
    const probe::Input input = InputOf(core.input);
    const bool fp16 = core.accumulator == Format::kFp16;
    const probe::Rule rule = RuleOf(core);
    const int k = 256 / probe::LayoutOf(input).bits;
    CHECK(Text(probe::Known(capability, input, fp16, core.instruction == "wgmma"), k) == Text(rule, k));

    const probe::Structure found(input, fp16, k, [&](const auto& experiments) {
      std::vector<uint32_t> d;
      for (const auto& e : experiments) d.push_back(probe::Evaluate(rule, input, e.a.data(), e.b.data(), k, e.c));
      return d;
    });
    CHECK(found.L == rule.L);
    CHECK(found.F == rule.F);
    if (found.least_unit != 0) CHECK(found.least_unit == rule.emax_floor - rule.F);
  }
}

// "wgmma.m64n8k16.f32.bf16.bf16" of an architecture, "mma.sync.m16n8k16.f32.bf16.bf16.f32": the row of the table, if
// any.
const sim::TensorCore* RowOf(std::string_view arch, const std::string& instruction) {
  std::vector<std::string> parts;
  std::istringstream text(instruction);
  for (std::string part; std::getline(text, part, '.');) parts.push_back(part == "f16" ? "fp16" : part);
  const bool wgmma = parts[0] == "wgmma";
  const size_t d = wgmma ? 2 : 3;
  for (const sim::TensorCore& core : sim::AllTensorCores()) {
    const bool fp32 = core.accumulator == Format::kFp32;
    if (core.arch == arch && core.instruction == (wgmma ? "wgmma" : "mma.sync") &&
        data::Name(core.input) == parts[d + 1] && fp32 == (parts[d] == "f32")) {
      return &core;
    }
  }
  return nullptr;
}

TEST_CASE("what the probe recorded of a GPU is what the table says, and every measured row was recorded") {
  std::set<const sim::TensorCore*> recorded;
  for (const auto& entry : std::filesystem::directory_iterator(BITFLASH_SOURCE_DIR "/data/golden/probes")) {
    if (entry.path().filename() == "manifest.json") continue;
    CAPTURE(entry.path().string());
    const auto json = nlohmann::json::parse(data::ReadTextFile(entry.path().string()));
    const std::string arch = json["facts"]["arch"]["value"];
    for (const auto& row : json["matrix_instructions"]) {
      const std::string instruction = row["instruction"], fits = row["fits"];
      CAPTURE(instruction);
      const sim::TensorCore* core = RowOf(arch, instruction);
      if (core == nullptr) continue;
      recorded.insert(core);
      const probe::Input input = InputOf(core->input);
      const std::string rule = Text(RuleOf(*core), 256 / probe::LayoutOf(input).bits);
      if (fits == "none") {  // of all rules that the probe tried: the corner is open
        WARN(fits == rule);
      } else {
        CHECK(fits == rule);
        CHECK(row["mismatches"] == 0);
      }
    }
  }
  for (const sim::TensorCore& core : sim::AllTensorCores()) {
    CAPTURE(sim::ToString(core));
    CHECK((core.evidence != sim::Evidence::kMeasured || recorded.contains(&core)));
  }
}

}  // namespace
}  // namespace bitflash::verify
