// What every launch checks first, without a GPU or a CUDA compiler: made-up kernels, addresses that nobody follows.
#include "gpu/check.h"

#include <doctest/doctest.h>

#include <array>
#include <functional>
#include <string>

#include "data/error.h"

namespace bitflash::gpu {
namespace {

using data::Attention;

// A kernel that takes whatever CommonRefusal lets pass.
Kernel Fake() {
  return {.name = "fake",
          .TileOf = nullptr,
          .Refusal = [](const Attention& a, const Options&) { return CommonRefusal(a); },
          .WorkspaceBytes = nullptr,
          .Launch = nullptr};
}

Kernel Packing() {
  Kernel kernel = Fake();
  kernel.packs_sequences = true;
  return kernel;
}

Kernel Decoding() {
  Kernel kernel = Fake();
  kernel.takes_key_lengths = kernel.takes_pages = true;
  return kernel;
}

const Attention kProblem = {
    .batch = 2, .heads_q = 4, .heads_kv = 2, .seqlen_q = 3, .seqlen_k = 40, .head_dim = 64, .head_dim_v = 64};

alignas(16) std::array<char, 32> memory;
std::array<int32_t, 4> numbers;

// Contiguous.
Tensors Good() {
  const auto strides = [](int64_t heads, int64_t rows) { return Strides{heads * rows * 64, rows * 64, 64}; };
  return {.q = memory.data(),
          .k = memory.data(),
          .v = memory.data(),
          .o = memory.data(),
          .q_strides = strides(4, 3),
          .k_strides = strides(2, 40),
          .v_strides = strides(2, 40),
          .o_strides = strides(4, 3)};
}

// Why a launch is refused; empty when it is not.
std::string Why(const Kernel& kernel, const std::function<void(Tensors&)>& change, const Options& options = {},
                const Attention& a = kProblem) {
  Tensors t = Good();
  change(t);
  try {
    Validate(kernel, a, options, t);
  } catch (const data::UsageError& error) {
    return error.what();
  }
  return "";
}

// `text` with the address in place of %.
std::string With(std::string text, const void* address) {
  std::array<char, 32> hex;
  std::snprintf(hex.data(), hex.size(), "%p", address);
  return text.replace(text.find('%'), 1, hex.data());
}

TEST_CASE("key lengths that a kernel would ignore are refused with their address and the kernel that takes them") {
  const auto lengths = [](Tensors& t) { t.seqlens_k = numbers.data(); };
  const std::string refusal =
      With("fake: seqlens_k is at %: padded sequences of fewer keys are taken by split-kv only", numbers.data());
  CHECK(Why(Fake(), lengths) == refusal);
  CHECK(Why(Packing(), lengths) == refusal + ", packed ones by cu_seqlens_q and cu_seqlens_k");
  CHECK(Why(Decoding(), lengths) == "");
}

TEST_CASE("starts of packed sequences are refused where they would be ignored, and one without the other") {
  const auto packed = [](Tensors& t) { t.cu_seqlens_q = t.cu_seqlens_k = numbers.data(); };
  const auto half = [](Tensors& t) { t.cu_seqlens_k = numbers.data(); };
  CHECK(Why(Packing(), packed) == "");
  CHECK(Why(Packing(), half) == "fake: cu_seqlens_q and cu_seqlens_k are needed together");
  for (const auto& change : {std::function<void(Tensors&)>(packed), std::function<void(Tensors&)>(half)}) {
    CHECK(Why(Fake(), change) == "fake: cu_seqlens: sequences of several lengths in one tensor are taken by fa3 only");
  }
  Kernel both = Decoding();
  both.packs_sequences = true;
  CHECK(Why(both, [&](Tensors& t) { packed(t), t.seqlens_k = numbers.data(); }) ==
        "fake: seqlens_k and cu_seqlens_k contradict each other");
}

TEST_CASE("pages are refused where they would be ignored, without a table, and where the keys do not fit") {
  const auto pages_of = [](int64_t pages) {
    return [pages](Tensors& t) { t.block_table = numbers.data(), t.pages_per_sequence = pages; };
  };
  const auto nothing = [](Tensors&) {};
  CHECK(Why(Decoding(), pages_of(3), {.page_size = 16}) == "");
  CHECK(Why(Fake(), pages_of(3), {.page_size = 16}) ==
        "fake: page_size is 16: pages of keys are taken by split-kv only");
  CHECK(Why(Fake(), nothing, {.page_size = 16}) == "fake: page_size is 16: pages of keys are taken by split-kv only");
  for (const Kernel& kernel : {Fake(), Decoding()}) {
    CHECK(Why(kernel, pages_of(3)) ==
          With("fake: block_table is at %, but page_size is 0: expected the keys of a page", numbers.data()));
  }
  CHECK(Why(Decoding(), nothing, {.page_size = 16}) == "fake: pages of 16 keys, but no block table");
  CHECK(Why(Decoding(), pages_of(2), {.page_size = 16}) == "fake: 2 pages of 16 keys a sequence: 40 keys do not fit");
}

TEST_CASE("addresses and strides: missing, not aligned, what is written overlapping") {
  CHECK(Why(Fake(), [](Tensors&) {}) == "");
  CHECK(Why(Fake(), [](Tensors& t) { t.v = nullptr; }) == "fake: V has no address");
  CHECK(Why(Fake(), [](Tensors& t) { t.q = memory.data() + 8; }) ==
        With("fake: Q is at %: a multiple of 16 bytes is needed", memory.data() + 8));
  CHECK(Why(Fake(), [](Tensors& t) { t.k_strides.row = 65; }) ==
        "fake: K has a stride of 65 elements from one row to the next: a multiple of 8 (16 bytes) is needed");
  CHECK(Why(Fake(), [](Tensors& t) { t.k_strides.head = 0; }) == "");
  CHECK(Why(Fake(), [](Tensors& t) { t.o_strides.head = 0; }) ==
        "fake: O has a stride of 0 elements from one head to the next: what is written may not overlap");
  Attention single = kProblem;
  single.batch = 1;
  const auto odd = [](Tensors& t) { t.k_strides.batch = 65; };
  CHECK(Why(Fake(), odd).find("fake: K has a stride of 65 elements from one sequence") == 0);
  CHECK(Why(Fake(), odd, {}, single) == "");  // nobody steps to a second sequence
}

TEST_CASE("a problem that no kernel takes is refused whatever the tensors; without keys, K and V need not be there") {
  Attention none = kProblem;
  none.seqlen_k = 0;
  CHECK(Why(
            Fake(), [](Tensors& t) { t.k = t.v = nullptr; }, {}, none) == "");
  Attention odd = kProblem;
  odd.head_dim = odd.head_dim_v = 80;
  CHECK(Why(
            Fake(), [](Tensors&) {}, {}, odd) == "fake: head_dim 80: the CUDA kernels take 64, 96, 128, 192 and 256");
  odd = kProblem;
  odd.seqlen_k = (int64_t{1} << 30) + 1;
  CHECK(LengthRefusal(odd) == "seqlen 3 x 1073741825: at most 2^30 each");
  CHECK(LengthRefusal(kProblem) == "");
}

}  // namespace
}  // namespace bitflash::gpu
