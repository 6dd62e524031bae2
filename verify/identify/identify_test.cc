#include "verify/identify/identify.h"

#include <doctest/doctest.h>
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <random>

#include "data/error.h"
#include "data/gpu.h"
#include "data/tensor_file.h"
#include "verify/identify/identify_testing.h"

namespace bitflash::verify {
namespace {

using data::Attention;
using Verdict = Identification::Verdict;

const ChoiceEvidence& Choice(const Identification& found, std::string_view name) {
  const auto choice = std::ranges::find(found.choices, name, &ChoiceEvidence::choice);
  REQUIRE(choice != found.choices.end());
  return *choice;
}

bool Accepts(const ChoiceEvidence& evidence, std::string_view value) {
  return evidence.value == value || std::ranges::find(evidence.same, value) != evidence.same.end();
}

// The recipe that made the bits is what was found, or cannot be told from it on these data.
void CheckFound(const Identification& found, const sim::Recipe& recipe) {
  for (const sim::RecipeChoice& choice : sim::Describe(recipe)) {
    const ChoiceEvidence& evidence = Choice(found, choice.field);
    CAPTURE(evidence.choice);
    CAPTURE(evidence.value);
    CAPTURE(std::string(choice.value));
    CHECK(Accepts(evidence, choice.value));
  }
}

void CheckExact(const Identification& found) {
  CHECK(found.verdict == Verdict::kExact);
  CHECK(found.equal == found.elements);
  CHECK(found.lse_equal == found.lse_rows);
  CHECK(found.lse_modelled);
  CHECK(found.unexplained.empty());
  CHECK(found.rows == found.all_rows);
  for (const ChoiceEvidence& evidence : found.choices) CHECK(evidence.against == 0);
}

// The file replays what was observed.
void CheckReplay(const Identification& found, const Problem& problem, const Outputs& observed) {
  const RecipeFile recipe = ParseRecipe(RecipeJson(found.recipe).dump(), "test");
  const Outputs replayed = SimulateOutputs(problem, recipe.kernel, recipe.tiling, recipe.arch);
  CHECK(replayed.o == observed.o);
  if (observed.lse) CHECK(*replayed.lse == *observed.lse);
}

double Seconds(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

constexpr int64_t kHeads = 2;

Attention Small(data::Mask mask, data::Format format = data::Format::kBf16) {
  return {.heads_q = kHeads,
          .heads_kv = kHeads,
          .seqlen_q = 200,
          .seqlen_k = 200,
          .head_dim = 40,
          .head_dim_v = 40,
          .mask = mask,
          .format = format};
}

TEST_CASE("the recipe of every simulated kernel is found from its outputs") {
  const data::Gpu gpu = data::LoadGpu("h200");
  uint64_t seed = 1;
  for (const sim::Kernel& kernel : sim::Kernels()) {
    CAPTURE(std::string(kernel.name));
    const Problem problem = MakeProblem(Small(data::Mask::Causal()), seed++);
    sim::Tiling tiling = kernel.DefaultTiling(problem.attention, gpu);
    if (kernel.fixed_parts) tiling.part_keys = tiling.Bc;
    const bool reports_lse = kernel.name != "fa1";  // it keeps m and l instead
    Outputs outputs = SimulateOutputs(problem, kernel, tiling, gpu.arch);
    if (!reports_lse) outputs.lse.reset();
    const auto begin = std::chrono::steady_clock::now();
    const Identification found = Identify(problem, outputs);
    std::printf("%-18s %lld simulations, %.2f s\n", std::string(kernel.name).c_str(),
                static_cast<long long>(found.simulations), Seconds(begin));
    CheckExact(found);
    CheckFound(found, kernel.recipe);
    CheckReplay(found, problem, outputs);
    CHECK(Accepts(Choice(found, "arch"), "sm90"));
    if (kernel.name != "standard") CHECK(Accepts(Choice(found, "tile_keys"), std::to_string(tiling.Bc)));
  }
}

TEST_CASE("random recipes are found: any combination of choices, tile and tensor core") {
  std::mt19937_64 rng(7);
  const auto pick = [&](int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(rng); };
  const char* const kArchitectures[] = {"sm80", "sm90", "sm70"};
  for (int round = 0; round < 4; ++round) {
    const bool fp16 = round % 2 == 0;
    sim::Kernel kernel = sim::FindKernel("fa2");
    for (const sim::RecipeField& field : sim::RecipeFields()) {
      field.Set(kernel.recipe, static_cast<int>(pick(0, static_cast<int64_t>(field.values.size()) - 1)));
    }
    const sim::Tiling tiling{.Br = 64, .Bc = 32 * pick(1, 4), .warps = 4};
    const std::string arch = kArchitectures[pick(0, fp16 ? 2 : 1)];
    const Attention a =
        Small(pick(0, 1) ? data::Mask::Full() : data::Mask::Causal(), fp16 ? data::Format::kFp16 : data::Format::kBf16);
    const Problem problem = MakeProblem(a, 100 + round);
    const Outputs outputs = SimulateOutputs(problem, kernel, tiling, arch);
    CAPTURE(round);
    const Identification found = Identify(problem, outputs);
    CheckExact(found);
    CheckFound(found, kernel.recipe);
    CheckReplay(found, problem, outputs);
    CHECK(Accepts(Choice(found, "arch"), arch));
    CHECK(Choice(found, "tile_keys").value == std::to_string(tiling.Bc));
    CHECK(Choice(found, "tile_keys").decided_by >= kEnoughElements);
  }
}

TEST_CASE("elements that were changed are found, and everything else is explained") {
  const Problem problem = MakeProblem(Small(data::Mask::Causal()), 3);
  const sim::Kernel& kernel = sim::FindKernel("cudnn-9.19-sm90");
  const sim::Tiling tiling = kernel.DefaultTiling(problem.attention, data::LoadGpu("h200"));
  Outputs outputs = SimulateOutputs(problem, kernel, tiling, "sm90");
  outputs.o.SetBits({0, 1, 150, 7}, outputs.o.Bits({0, 1, 150, 7}) ^ 0x0400);
  outputs.o.SetBits({0, 0, 33, 39}, outputs.o.Bits({0, 0, 33, 39}) ^ 0x0001);
  const Identification found = Identify(problem, outputs);
  CHECK(found.verdict == Verdict::kPartial);
  CHECK(found.elements - found.equal == 2);
  CHECK(found.rows_differ == 2);
  CHECK(found.rows_one_or_two == 2);
  REQUIRE(found.unexplained.size() == 2);
  CHECK(found.unexplained[0].head == 0);
  CHECK(found.unexplained[0].row == 33);
  CHECK(found.unexplained[0].column == 39);
  CHECK(found.unexplained[0].ulps == 1);
  CHECK(found.unexplained[1].head == 1);
  CHECK(found.unexplained[1].row == 150);
  CHECK(found.unexplained[1].ulps > 4);
  CHECK(found.suggestions.size() >= 1);
  CheckFound(found, kernel.recipe);
}

TEST_CASE("a key whose P was rounded the other way is named") {
  // The recipe's own outputs, but of a problem whose key 20 has a V of half its size in one row of the outputs.
  Attention a = Small(data::Mask::Full());
  a.seqlen_q = 64, a.seqlen_k = 64;
  const Problem problem = MakeProblem(a, 5);
  const sim::Kernel& kernel = sim::FindKernel("fa2");
  const sim::Tiling tiling{.Br = 64, .Bc = 32, .warps = 4};
  Outputs outputs = SimulateOutputs(problem, kernel, tiling, "sm90");
  Problem other = problem;
  other.v = problem.v.Clone();
  for (int64_t c = 0; c < a.head_dim_v; ++c) other.v.SetBits({0, 0, 20, c}, other.v.Bits({0, 0, 20, c}) - 0x80);
  const Outputs changed = SimulateOutputs(other, kernel, tiling, "sm90");
  // The row in which key 20 weighs most.
  int64_t row = 0, most = 0;
  for (int64_t r = 0; r < a.seqlen_q; ++r) {
    int64_t differ = 0;
    for (int64_t c = 0; c < a.head_dim_v; ++c) differ += outputs.o.Bits({0, 0, r, c}) != changed.o.Bits({0, 0, r, c});
    if (differ > most) row = r, most = differ;
  }
  for (int64_t c = 0; c < a.head_dim_v; ++c) outputs.o.SetBits({0, 0, row, c}, changed.o.Bits({0, 0, row, c}));
  const Identification found = Identify(problem, outputs);
  CHECK(found.verdict == Verdict::kPartial);
  REQUIRE(found.hints.size() == 1);
  CHECK(found.hints[0].row == row);
  CHECK(found.hints[0].key == 20);
  CHECK(found.hints[0].tile == 0);
}

TEST_CASE("an LSE of an unknown form takes no part") {
  const Problem problem = MakeProblem(Small(data::Mask::Causal()), 11);
  const sim::Kernel& kernel = sim::FindKernel("fa2");
  Outputs outputs = SimulateOutputs(problem, kernel, {.Br = 64, .Bc = 64, .warps = 4}, "sm90");
  for (float& lse : outputs.lse->Elements<float>()) lse *= 1.4426950408889634f;
  const Identification found = Identify(problem, outputs);
  CHECK(found.verdict == Verdict::kPartial);
  CHECK_FALSE(found.lse_modelled);
  CHECK(found.equal == found.elements);
  CheckFound(found, kernel.recipe);
}

TEST_CASE("the same result for every number of threads") {
  const Problem problem = MakeProblem(Small(data::Mask::Full()), 9);
  const sim::Kernel& kernel = sim::FindKernel("pytorch-fa2");
  const Outputs outputs = SimulateOutputs(problem, kernel, {.Br = 64, .Bc = 32, .warps = 4, .splits = 3}, "sm90");
  const int threads = omp_get_max_threads();
  std::vector<std::string> results;
  for (const int n : {1, 3}) {
    omp_set_num_threads(n);
    const Identification found = Identify(problem, outputs);
    CheckExact(found);
    std::string text = RecipeJson(found.recipe).dump();
    for (const ChoiceEvidence& e : found.choices) {
      text += "\n" + e.choice + " " + e.value + " " + e.nearest + " " + std::to_string(e.decided_by);
    }
    results.push_back(text + std::to_string(found.simulations));
  }
  omp_set_num_threads(threads);
  CHECK(results[0] == results[1]);
}

TEST_CASE("what is not modelled is refused, not guessed") {
  Problem problem = MakeProblem(Small(data::Mask::Full()), 1);
  const Outputs outputs = SimulateOutputs(problem, sim::FindKernel("fa2"), {.Br = 64, .Bc = 64, .warps = 4}, "sm90");
  CHECK_THROWS_AS(Identify(problem, outputs, {.arch = "sm60"}), data::UsageError);
  Outputs other = outputs;
  other.o = data::Tensor::Zeros(data::Format::kFp32, outputs.o.shape());
  CHECK_THROWS_AS(Identify(problem, other), data::UndecidedError);
  other = outputs;
  other.o = outputs.o.Slice(2, 0, 100).Contiguous();
  CHECK_THROWS_AS(Identify(problem, other), data::UsageError);
  problem.sinks = {0, 0};
  CHECK_THROWS_AS(Identify(problem, outputs), data::UndecidedError);
  problem.sinks.clear();
  problem.attention.softcap = 30;
  CHECK_THROWS_AS(Identify(problem, outputs), data::UndecidedError);
}

// Outputs that an H200 gave (data/golden). The search knows neither the kernel nor its tile.
struct Recorded {
  const char *file, *name;
  int64_t tile_keys;
};

void CheckRecorded(const Recorded& recorded) {
  CAPTURE(recorded.file);
  CAPTURE(recorded.name);
  const std::string path = std::string(BITFLASH_SOURCE_DIR) + "/data/golden/" + recorded.file;
  const std::vector<data::GoldenCase> cases = data::LoadGolden(path + ".json");
  const auto golden = std::ranges::find(cases, std::string(recorded.name), &data::GoldenCase::name);
  REQUIRE(golden != cases.end());
  const Problem problem = MakeProblem(golden->attention, golden->seed);
  const data::GoldenBits bits = data::FullBits(*golden, data::ReadTensors(path + ".npz").tensors, path);
  const auto begin = std::chrono::steady_clock::now();
  const Identification found = Identify(problem, {bits.o, bits.lse});
  std::printf("%-16s %-38s %6lld simulations, %.1f s, like %s\n", recorded.file, recorded.name,
              static_cast<long long>(found.simulations), Seconds(begin),
              found.named.empty() ? "none" : found.named.front().c_str());
  CheckExact(found);
  CheckFound(found, sim::FindKernel(recorded.file).recipe);
  CHECK(Accepts(Choice(found, "arch"), "sm90"));
  CHECK(Accepts(Choice(found, "tile_keys"), std::to_string(recorded.tile_keys)));
  CHECK(std::ranges::find(found.named, recorded.file) != found.named.end());
}

TEST_CASE("recorded on an H200: one pass of PyTorch's FlashAttention-2, split keys, cuDNN") {
  CheckRecorded({"pytorch-fa2", "b1_h2-2_s250x250_d64_fp16_causal", 128});
  CheckRecorded({"pytorch-fa2", "b1_h2-1_s33x250_d96_bf16_full", 128});
  CheckRecorded({"cudnn-9.19-sm90", "b1_h2-2_s250x250_d64_fp16_causal", 128});
}

TEST_CASE("recorded on an H200: every case with all bits" * doctest::test_suite("slow")) {
  for (const char* file : {"pytorch-fa2", "cudnn-9.19-sm90"}) {
    for (const data::GoldenCase& golden :
         data::LoadGolden(std::string(BITFLASH_SOURCE_DIR) + "/data/golden/" + file + ".json")) {
      // cuDNN answers one query row with another kernel.
      if (!golden.full_bits || golden.attention.seqlen_q < sim::FindKernel(file).min_seqlen_q) continue;
      const sim::Tiling tiling = sim::FindKernel(file).DefaultTiling(golden.attention, data::LoadGpu("h200"));
      CheckRecorded({file, golden.name.c_str(), tiling.Bc});
    }
  }
}

}  // namespace
}  // namespace bitflash::verify
