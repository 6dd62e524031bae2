#include "verify/device/device_plan.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "data/error.h"
#include "data/gpu.h"

namespace bitflash::verify {
namespace {

using data::Attention;

// A kernel that is built for one tile and takes head_dim 64 and parts of at most 512 keys.
gpu::Kernel Fake(std::string_view name) {
  return {.name = name,
          .title = "fake",
          .launches = {"fake_kernel"},
          .TileOf = [](const Attention&) { return gpu::Tile{.Br = 64, .Bc = 64, .warps = 4, .stages = 2}; },
          .Refusal =
              [](const Attention& a, const gpu::Options& options) {
                if (a.head_dim != 64) return std::string("head_dim: the fake takes 64");
                return std::string(options.chunk > 2048 ? "chunk: the fake takes 2048" : "");
              },
          .WorkspaceBytes = [](const Attention&, const gpu::Options&) { return int64_t{0}; },
          .Launch = nullptr};
}

Attention Problem() {
  return {.batch = 2, .heads_q = 4, .heads_kv = 2, .seqlen_q = 1, .seqlen_k = 700, .head_dim = 64, .head_dim_v = 64};
}

DevicePlan Plan(const gpu::Kernel& kernel, const Attention& a, const sim::TilingChoice& choice) {
  return PlanDevice(kernel, sim::FindKernel(kernel.name), a, data::LoadGpu("h200"), choice);
}

std::string Message(const gpu::Kernel& kernel, const Attention& a, const sim::TilingChoice& choice) try {
  Plan(kernel, a, choice);
  return "";
} catch (const data::UsageError& error) {
  return error.what();
}

TEST_CASE("a kernel without a twin is refused with the names of those that have one; no kernels decide nothing") {
  const std::vector<gpu::Kernel> kernels = {Fake("fa2"), Fake("split-kv")};
  CHECK(&FindTwin(kernels, "split-kv") == &kernels[1]);
  CHECK_THROWS_WITH_AS(FindTwin(kernels, "fa3"),
                       "kernel fa3 has no CUDA twin in gpu/ (those that have one: fa2, split-kv)", data::UsageError);
  CHECK_THROWS_AS(FindTwin({}, "fa2"), data::UndecidedError);
}

TEST_CASE("the twin runs with the tile that the CUDA kernel is built for") {
  const gpu::Kernel fa2 = Fake("fa2");
  const DevicePlan plan = Plan(fa2, Problem(), {});
  CHECK(plan.kernel == &fa2);
  CHECK(plan.tiling.Br == 64);
  CHECK(plan.tiling.Bc == 64);
  CHECK(plan.tiling.warps == 4);
  CHECK(plan.tiling.stages == 2);
  CHECK(plan.options.chunk == gpu::Options().chunk);  // nothing is split
  CHECK(Plan(fa2, Problem(), {.Br = 64, .Bc = 64, .warps = 4}).tiling == plan.tiling);
  CHECK(Message(fa2, Problem(), {.Br = 128, .Bc = 64}) ==
        "Br is 128: the CUDA kernel fa2 is built for tiles of 64x64, 4 warps, 2 stages at head_dim 64");
  CHECK(Message(fa2, Problem(), {.Br = 64, .Bc = 32}).rfind("Bc is 32: ", 0) == 0);
  CHECK(Message(fa2, Problem(), {.warps = 8}).rfind("warps is 8: ", 0) == 0);
  CHECK(Message(fa2, Problem(), {.stages = 1}).rfind("stages is 1: ", 0) == 0);
  CHECK(Message(fa2, Problem(), {.pack_gqa = true}).find("changes no bit") != std::string::npos);
  Attention wide = Problem();
  wide.head_dim = 80;
  CHECK(Message(fa2, wide, {}) == "CUDA kernel fa2: head_dim: the fake takes 64");
  CHECK_THROWS_AS(RequireTaken(fa2, wide), data::UsageError);
}

TEST_CASE("splits become the keys of a part, in whole tiles") {
  const gpu::Kernel split = Fake("split-kv");
  const Attention a = Problem();  // 700 keys: 11 tiles of 64
  for (const auto& row : {std::pair{1, 704}, {2, 384}, {3, 256}, {10, 128}, {11, 64}, {50, 64}}) {
    const auto splits = row.first, keys = row.second;  // clang 14 captures no structured bindings
    CAPTURE(splits);
    const DevicePlan plan = Plan(split, a, {.splits = splits});
    CHECK(plan.options.chunk == keys);
    CHECK(PartKeysOf(a, plan.tiling) == keys);
  }
  Attention none = a;
  none.seqlen_k = 0;
  CHECK(Plan(split, none, {}).options.chunk > 0);
  Attention longer = a;
  longer.seqlen_k = 9000;
  CHECK(Message(split, longer, {.splits = 2}) == "CUDA kernel split-kv: chunk: the fake takes 2048");
  const DevicePlan paged = Plan(split, a, {.page_size = 16});
  CHECK(paged.options.page_size == 16);
  CHECK(paged.tiling.page_size == 16);
  CHECK(Plan(Fake("standard"), a, {.fp32_scores = true}).options.fp32_scores);
}

TEST_CASE("packed sequences lie one behind another, and come back with zeros where a sequence has no row") {
  const std::vector<int64_t> lengths = {2, 0, 3};
  data::Tensor padded = data::Tensor::Zeros(data::ElementType::Unsigned(2), {3, 2, 4, 5});
  auto* const bits = reinterpret_cast<uint16_t*>(padded.ContiguousBytes().data());
  for (int n = 0; n < 3 * 2 * 4 * 5; ++n) bits[n] = static_cast<uint16_t>(n + 1);
  const data::Tensor packed = Pack(padded, lengths);
  CHECK(packed.shape() == std::vector<int64_t>{5, 2, 5});
  const auto at = [&](int64_t row, int64_t head, int64_t column) {
    return packed.Elements<uint16_t>()[(row * 2 + head) * 5 + column];
  };
  CHECK(at(0, 0, 0) == bits[0]);
  CHECK(at(1, 1, 4) == bits[(1 * 4 + 1) * 5 + 4]);            // sequence 0, head 1, row 1
  CHECK(at(4, 0, 2) == bits[((2 * 2 + 0) * 4 + 2) * 5 + 2]);  // sequence 2, head 0, row 2
  const data::Tensor back = Unpack(packed, lengths, 4);
  CHECK(back.shape() == padded.shape());
  for (int64_t n = 0; n < 3 * 2 * 4; ++n) {
    const bool own = n % 4 < lengths[static_cast<size_t>(n / 8)];
    for (int64_t c = 0; c < 5; ++c)
      CHECK(back.Elements<uint16_t>()[n * 5 + c] == (own ? padded.Elements<uint16_t>()[n * 5 + c] : 0));
  }
}

TEST_CASE("sequences of several lengths are packed for fa3, padded for split-kv if only keys differ, else refused") {
  gpu::Kernel kernel = Fake("fa3");
  kernel.packs_sequences = true;
  DevicePlan plan{.kernel = &kernel, .attention = Problem()};
  SetLengths(plan, {}, {700, 3});
  CHECK(plan.packed());
  CHECK(plan.queries == std::vector<int64_t>{1, 1});
  CHECK(plan.keys == std::vector<int64_t>{700, 3});
  plan.queries.clear();
  SetLengths(plan, {1, 0}, {});
  CHECK(plan.queries == std::vector<int64_t>{1, 0});
  CHECK(plan.keys == std::vector<int64_t>{700, 700});

  gpu::Kernel split = Fake("split-kv");
  split.takes_key_lengths = true;
  plan = Plan(split, Problem(), {.splits = 3});
  SetLengths(plan, {1, 1}, {700, 3});
  CHECK(!plan.packed());
  CHECK(plan.keys == std::vector<int64_t>{700, 3});
  CHECK(plan.tiling.splits == 1);  // 700 keys in three parts are 256 a part, of the short sequence too
  CHECK(plan.tiling.part_keys == 256);
  CHECK(plan.options.chunk == 256);
  const auto message = [](const gpu::Kernel& of, const std::vector<int64_t>& queries) -> std::string {
    try {
      RequireRaggedTaken(of, Problem(), queries);
    } catch (const data::UsageError& error) {
      return error.what();
    }
    return "";
  };
  CHECK(message(split, {}).empty());
  CHECK(message(split, {1, 0}) ==
        "CUDA kernel split-kv: sequences of several lengths are taken by fa3, and where only their keys differ by "
        "split-kv");
  CHECK(message(Fake("fa2"), {}).find("CUDA kernel fa2: sequences of several lengths") == 0);
}

TEST_CASE("what lies behind a sequence's keys is NaN, contiguous or in pages") {
  Attention a = Problem();
  a.seqlen_k = 37;
  const KernelInputs inputs =
      GenerateInputs(a, SelectHeads(a, 0, a.heads_q), data::ParseDistribution("hash-normal"), 1);
  const std::vector<int64_t> lengths = {37, 9};
  const data::Tensor k = PoisonPadding(inputs.k, lengths);
  const PagedCache cache = Paginate(a, inputs, 8, lengths);
  CHECK(cache.pages_per_sequence == 5);
  CHECK(cache.k.shape()[0] == 5 + 2);
  int64_t wrong = 0;
  for (int64_t b = 0; b < 2; ++b) {
    for (int64_t key = 0; key < 37; ++key) {
      const bool own = key < lengths[static_cast<size_t>(b)];
      for (int64_t head = 0; head < 2; ++head) {
        const uint64_t expected = own ? inputs.k.Bits({b, head, key, 5}) : 0xFFFF;
        wrong += k.Bits({b, head, key, 5}) != expected;
        const int32_t page = cache.block_table[b * 5 + key / 8];
        if (page == INT32_MAX) {
          wrong += own;
        } else {
          wrong += cache.k.Bits({page, head, key % 8, 5}) != expected;
        }
      }
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("a paged cache holds every row once, on scattered pages, and NaNs behind the last key") {
  Attention a = Problem();
  a.seqlen_k = 37;
  const HeadSubset all = SelectHeads(a, 0, a.heads_q);
  const KernelInputs inputs = GenerateInputs(a, all, data::ParseDistribution("hash-normal"), 1);
  const PagedCache cache = Paginate(a, inputs, 8);
  CHECK(cache.pages_per_sequence == 5);
  REQUIRE(cache.block_table.size() == 10);
  CHECK(std::set<int32_t>(cache.block_table.begin(), cache.block_table.end()).size() == 10);
  CHECK(!std::is_sorted(cache.block_table.begin(), cache.block_table.end()));
  CHECK(*std::max_element(cache.block_table.begin(), cache.block_table.end()) == 9);
  CHECK(cache.k.shape() == std::vector<int64_t>{10, 2, 8, 64});
  int64_t wrong = 0;
  for (int64_t b = 0; b < 2; ++b) {
    for (int64_t key = 0; key < 40; ++key) {
      const int64_t page = cache.block_table[b * 5 + key / 8];
      for (int64_t head = 0; head < 2; ++head) {
        for (const int64_t column : {0, 63}) {
          const uint64_t k = cache.k.Bits({page, head, key % 8, column});
          const uint64_t v = cache.v.Bits({page, head, key % 8, column});
          wrong += k != (key < 37 ? inputs.k.Bits({b, head, key, column}) : 0xFFFF);
          wrong += v != (key < 37 ? inputs.v.Bits({b, head, key, column}) : 0xFFFF);
        }
      }
    }
  }
  CHECK(wrong == 0);
  a.seqlen_k = 0;
  CHECK(Paginate(a, GenerateInputs(a, all, data::ParseDistribution("hash-normal"), 1), 8).block_table.empty());
}

}  // namespace
}  // namespace bitflash::verify
