// Problems at the edges: as large as the vocabulary allows, and as small.
#include <doctest/doctest.h>

#include <chrono>
#include <random>
#include <string>

#include "data/error.h"
#include "sim/count.h"
#include "sim/random_problem.h"

namespace bitflash::sim {
namespace {

// The count, or nothing when it is refused. Anything but UsageError fails the test.
std::optional<Count> TryCount(const Kernel& kernel, const Attention& a, const Tiling& t, const data::Gpu& gpu) {
  try {
    return CountKernel(kernel, a, t, gpu);
  } catch (const data::UsageError& error) {
    CHECK(std::string(error.what()).size() > 20);
    return std::nullopt;
  }
}

// Sums of counts that wrapped around would be negative or below one of their terms.
void CheckSound(const Count& count, const Attention& a) {
  const auto check = [&](const Ledger& ledger) {
    for (const PerTensor* level : {&ledger.hbm_compulsory, &ledger.l2_to_sm, &ledger.shared, &ledger.registers}) {
      const Traffic sum = Sum(*level);
      for (const Traffic& traffic : *level) {
        CHECK((traffic.read >= 0 && traffic.write >= 0 && sum.read >= traffic.read && sum.write >= traffic.write));
      }
    }
    for (int tensor = 0; tensor < kTensorCount; ++tensor) {
      CHECK(ledger.hbm_compulsory[tensor].read <= ledger.l2_to_sm[tensor].read);
      CHECK(ledger.hbm_compulsory[tensor].write <= ledger.l2_to_sm[tensor].write);
    }
    CHECK((ledger.matrix_flops >= 0 && ledger.special_ops >= 0 && ledger.fp32_ops >= 0));
  };
  for (const LaunchCount& launch : count.launches) check(launch.ledger);
  check(count.total);
  // In doubles nothing wraps: every score that is computed takes 2 (d + d_v) operations at least.
  const double pairs = static_cast<double>(a.batch) * a.heads_q * a.seqlen_q * a.seqlen_k;
  if (a.mask.kind == data::Mask::Kind::kFull)
    CHECK(static_cast<double>(count.total.matrix_flops) >= 0.999 * 2 * pairs * (a.head_dim + a.head_dim_v));
  CHECK(At(count.total.hbm_compulsory, TensorId::kO).write >= a.o_bytes());
}

TEST_CASE("problems of any size are counted soundly or refused, never wrapped around and never slow") {
  std::mt19937_64 rng(21);
  const data::Gpu h200 = data::LoadGpu("h200");
  const auto pick = [&](int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(rng); };
  const auto size = [&] { return std::max<int64_t>(1, (int64_t{1} << pick(0, 40)) - pick(0, 1)); };
  int counted = 0, refused = 0;
  for (int trial = 0; trial < 1500; ++trial) {
    const Kernel& kernel = Kernels()[trial % Kernels().size()];
    RandomProblem p = MakeRandomProblem(rng, kernel, 400);
    Attention& a = p.attention;
    // One to three extents become huge, often as large as the others allow.
    for (int n = pick(1, 3); n > 0; --n) {
      int64_t* const extents[] = {&a.batch, &a.heads_kv, &a.seqlen_q, &a.seqlen_k, &a.head_dim, &a.head_dim_v};
      *extents[pick(0, 5)] = size();
    }
    a.heads_q = a.heads_kv * (pick(0, 1) ? 1 : pick(1, 64));
    if (a.mask.kind == data::Mask::Kind::kWindow && pick(0, 1)) a.mask = data::Mask::Window(INT64_MAX, INT64_MAX);
    // Few tiles in most trials: a million of them is a second of counting.
    if (a.seqlen_q > (int64_t{1} << 24) && a.seqlen_q < (int64_t{1} << 28)) a.seqlen_q = 1;
    if (a.seqlen_k > (int64_t{1} << 24) && a.seqlen_k < (int64_t{1} << 28)) a.seqlen_k = 1;
    CAPTURE(kernel.name);
    CAPTURE(data::ToString(a));
    CAPTURE(ToString(p.tiling));
    const auto start = std::chrono::steady_clock::now();
    const std::optional<Count> count = TryCount(kernel, a, p.tiling, h200);
    CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(20));
    if (count) CheckSound(*count, a);
    (count ? counted : refused)++;
  }
  CHECK(counted > 200);
  CHECK(refused > 200);
}

TEST_CASE("the refusal of a problem that is too large says what would do") {
  const data::Gpu h200 = data::LoadGpu("h200");
  const auto message = [&](const char* kernel, const Attention& a, const Tiling& t) -> std::string {
    try {
      CountKernel(FindKernel(kernel), a, t, h200);
    } catch (const data::UsageError& error) {
      return error.what();
    }
    return "";
  };
  const Tiling t{.Br = 64, .Bc = 64};
  CHECK(message("fa2", {.seqlen_q = int64_t{1} << 40, .seqlen_k = 1}, t).find("expected at most 1048576") !=
        std::string::npos);
  CHECK(message("fa1", {.seqlen_q = 1, .seqlen_k = int64_t{1} << 40}, t).find("the keys would be cut into") !=
        std::string::npos);
  CHECK(message("split-kv", {.seqlen_k = int64_t{1} << 40}, {.Br = 16, .Bc = 64, .warps = 1, .part_keys = 1024})
            .find("cut into 1073741824 parts") != std::string::npos);
  const Attention many{
      .batch = int64_t{1} << 24, .heads_q = 1 << 10, .heads_kv = 1 << 10, .seqlen_q = 1 << 12, .seqlen_k = 1 << 12};
  CHECK(message("fa2", many, t).find("passes 2^62") != std::string::npos);
  // head_dim 2^32 + 128 must not be taken for 128.
  CHECK(
      message("fa2", {.head_dim = (int64_t{1} << 32) + 128}, t).find("head_dim is 4294967424: expected at most 4096") !=
      std::string::npos);
}

TEST_CASE("GPUs with hardly any shared memory: every kernel finds a tile or says what does not fit") {
  int counted = 0, refused = 0;
  for (const char* name : {"t4", "a100-80gb", "h200"}) {
    for (const int64_t bytes : {1024, 4096, 16384, 49152}) {
      data::Gpu gpu = data::LoadGpu(name);
      gpu.shared_bytes_per_block = gpu.shared_bytes_per_sm = bytes;
      for (const Kernel& kernel : Kernels()) {
        for (const data::Format format : {data::Format::kFp16, data::Format::kFp32}) {
          for (const int64_t head_dim : {16, 128, 512}) {
            CAPTURE(name);
            CAPTURE(bytes);
            CAPTURE(kernel.name);
            const Attention a{.heads_q = 2,
                              .heads_kv = 2,
                              .seqlen_q = 300,
                              .seqlen_k = 300,
                              .head_dim = head_dim,
                              .head_dim_v = head_dim,
                              .format = format};
            const std::optional<Count> count = TryCount(kernel, a, kernel.DefaultTiling(a, gpu), gpu);
            if (count) CheckSound(*count, a);
            (count ? counted : refused)++;
          }
        }
      }
    }
  }
  CHECK(counted > 50);
  CHECK(refused > 50);
}

TEST_CASE("no keys: O and LSE are written, nothing else moves") {
  const data::Gpu h200 = data::LoadGpu("h200");
  for (const Kernel& kernel : Kernels()) {
    for (const int64_t seqlen_q : {1, 100}) {
      CAPTURE(kernel.name);
      const Attention a{.heads_q = 8, .heads_kv = 2, .seqlen_q = seqlen_q, .seqlen_k = 0};
      const Count count = CountKernel(kernel, a, kernel.DefaultTiling(a, h200), h200);
      CHECK(count.total.matrix_flops == 0);
      const PerTensor& hbm = count.total.hbm_compulsory;
      CHECK(At(hbm, TensorId::kO).write == a.o_bytes());
      if (kernel.name != "fa1") CHECK(At(hbm, TensorId::kLse).write == a.lse_bytes());
      for (const TensorId tensor : {TensorId::kK, TensorId::kV, TensorId::kS, TensorId::kP, TensorId::kOPartial})
        CHECK(At(hbm, tensor) == Traffic{});
    }
  }
}

TEST_CASE("one query and one key") {
  const data::Gpu h200 = data::LoadGpu("h200");
  for (const Kernel& kernel : Kernels()) {
    CAPTURE(kernel.name);
    const Attention a;
    const Count count = CountKernel(kernel, a, kernel.DefaultTiling(a, h200), h200);
    const PerTensor& hbm = count.total.hbm_compulsory;
    CHECK(At(hbm, TensorId::kQ).read == 256);
    CHECK(At(hbm, TensorId::kK).read == 256);
    CHECK(At(hbm, TensorId::kV).read == 256);
    CHECK(At(hbm, TensorId::kO).write == (kernel.name == "fa1" ? 2 : 1) * 256);  // fa1 clears it first
  }
}

}  // namespace
}  // namespace bitflash::sim
