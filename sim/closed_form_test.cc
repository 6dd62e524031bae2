// The counting machine against the formulas of the papers and against arithmetic that a reader can repeat by hand.
#include <doctest/doctest.h>

#include <cmath>
#include <string>

#include "data/gpu.h"
#include "sim/count.h"
#include "sim/count_stream.h"

namespace bitflash::sim {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

Attention SelfAttention(int64_t seqlen, int64_t head_dim, int64_t heads = 1, int64_t batch = 1) {
  return {.batch = batch,
          .heads_q = heads,
          .heads_kv = heads,
          .seqlen_q = seqlen,
          .seqlen_k = seqlen,
          .head_dim = head_dim,
          .head_dim_v = head_dim};
}

std::vector<CountStream::Launched> Launches(const char* kernel, const Attention& a, const Tiling& t) {
  CountStream stream;
  const Kernel& entry = FindKernel(kernel);
  entry.Run(stream, a, t, entry.recipe);
  return stream.launched();
}

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

Traffic At16(const Ledger& ledger, TensorId tensor, const PerTensor Ledger::*level = &Ledger::l2_to_sm) {
  const Traffic& bytes = At(ledger.*level, tensor);
  return {bytes.read / 2, bytes.write / 2};  // elements of a 16-bit format
}

TEST_CASE("standard attention: the eight transfers of Algorithm 0, element by element") {
  // Dao et al. 2022 (arXiv 2205.14135), Algorithm 0. Tiles cannot change what must move, only how often it is
  // requested.
  for (const int64_t n : {1, 100, 128, 1000, 4096}) {
    for (const int64_t d : {64, 128, 80}) {
      CAPTURE(n);
      CAPTURE(d);
      const Tiling t{.Br = 128, .Bc = 64};
      const auto launches = Launches("standard", SelfAttention(n, d), t);
      const Ledger &scores = launches[0].ledger, &softmax = launches[1].ledger, &output = launches[2].ledger;
      const PerTensor Ledger::*hbm = &Ledger::hbm_compulsory;
      CHECK(At16(scores, TensorId::kQ, hbm) == Traffic{n * d, 0});
      CHECK(At16(scores, TensorId::kK, hbm) == Traffic{n * d, 0});
      CHECK(At16(scores, TensorId::kS, hbm) == Traffic{0, n * n});
      CHECK(At16(softmax, TensorId::kS, hbm) == Traffic{n * n, 0});
      CHECK(At16(softmax, TensorId::kP, hbm) == Traffic{0, n * n});
      CHECK(At16(output, TensorId::kP, hbm) == Traffic{n * n, 0});
      CHECK(At16(output, TensorId::kV, hbm) == Traffic{n * d, 0});
      CHECK(At16(output, TensorId::kO, hbm) == Traffic{0, n * d});
      // Nothing else but the row statistics: 4 N^2 + 4 N d elements and N fp32 numbers.
      Traffic all;
      for (const auto& launch : launches) all += Sum(launch.ledger.hbm_compulsory);
      CHECK(all.read + all.write == 2 * (4 * n * n + 4 * n * d) + 4 * n);
      // Requested: Q once per key tile, K and V once per query tile, S and P as above.
      CHECK(At16(scores, TensorId::kQ).read == CeilDiv(n, t.Bc) * n * d);
      CHECK(At16(scores, TensorId::kK).read == CeilDiv(n, t.Br) * n * d);
      CHECK(At16(output, TensorId::kV).read == CeilDiv(n, t.Br) * n * d);
      CHECK(At16(output, TensorId::kP).read == n * n);
    }
  }
}

TEST_CASE("standard attention with TMA: more crosses to the SMs where tiles are ragged, and nothing else changes") {
  for (const int64_t n : {1, 100, 1000, 1024}) {
    for (const int64_t d : {64, 96, 128, 192}) {
      CAPTURE(n);
      CAPTURE(d);
      Tiling t{.Br = 256, .Bc = 128, .warps = 8};
      const auto without = Launches("standard", SelfAttention(n, d), t);
      t.tma = true;
      const auto with = Launches("standard", SelfAttention(n, d), t);
      const int64_t row_tiles = CeilDiv(n, 256), key_tiles = CeilDiv(n, 128), slices = CeilDiv(d, 64);
      CHECK(Sum(with[0].ledger.l2_to_sm).read == row_tiles * key_tiles * slices * 2 * (256 + 128) * 64);
      // Steps of 64 keys and, but for head_dim 64, 128 columns; a row of P that ends inside a sector costs one more.
      const int64_t columns = d == 64 ? 64 : CeilDiv(d, 128) * 128, blocks = CeilDiv(d, 128), steps = CeilDiv(n, 64);
      const int64_t ends = CeilDiv(n, 8) % 2 * blocks * n * 32;
      CHECK(Sum(with[2].ledger.l2_to_sm).read == row_tiles * steps * 2 * 64 * (blocks * 256 + columns) + ends);
      for (size_t launch = 0; launch < with.size(); ++launch) {
        Ledger plain = without[launch].ledger, boxed = with[launch].ledger;
        const Traffic few = Sum(plain.l2_to_sm), many = Sum(boxed.l2_to_sm);
        CHECK((few.read <= many.read && few.write <= many.write));
        if (n == 1024 && d % 64 == 0 && d != 192) CHECK(few == many);
        plain.l2_to_sm = boxed.l2_to_sm;
        CHECK(plain == boxed);
      }
    }
  }
}

TEST_CASE("standard attention has TMA on sm90 and for 16-bit formats only") {
  const Kernel& kernel = FindKernel("standard");
  for (const std::string& name : data::GpuNames()) {
    const data::Gpu gpu = data::LoadGpu(name);
    for (const Format format : kernel.formats) {
      const Tiling t = kernel.DefaultTiling({.format = format}, gpu);
      CHECK(t.tma == (gpu.arch == "sm90" && data::StorageBytes(format) == 2));
    }
  }
}

TEST_CASE("FlashAttention-3 with TMA: whole tiles of Q, K and V, in boxes of 64 columns, and nothing else changes") {
  const data::Gpu gpu = data::LoadGpu("h200");
  for (const int64_t n : {1, 100, 1000, 1152, 1536}) {
    for (const int64_t d : {64, 96, 128, 192, 256}) {
      CAPTURE(n);
      CAPTURE(d);
      const Attention a = SelfAttention(n, d);
      Tiling t = FindKernel("fa3").DefaultTiling(a, gpu);
      REQUIRE(t.tma);
      Ledger boxed = Launches("fa3", a, t)[0].ledger;
      t.tma = false;
      const Ledger plain = Launches("fa3", a, t)[0].ledger;
      const int64_t row_tiles = CeilDiv(n, t.Br), key_tiles = CeilDiv(n, t.Bc), columns = CeilDiv(d, 64) * 64;
      CHECK(Sum(boxed.l2_to_sm).read == row_tiles * (t.Br + key_tiles * 2 * t.Bc) * columns * 2);
      CHECK(Sum(boxed.l2_to_sm).write == Sum(plain.l2_to_sm).write);
      if (n % t.Br == 0 && n % t.Bc == 0 && d != 96) CHECK(boxed == plain);
      boxed.l2_to_sm = plain.l2_to_sm;
      CHECK(boxed == plain);
    }
  }
}

TEST_CASE("FlashAttention-3 has TMA where the CUDA kernel takes the problem; the packed heads of one query are a box") {
  const data::Gpu gpu = data::LoadGpu("h200");
  const Kernel& kernel = FindKernel("fa3");
  const auto tma = [&](auto change) {
    Attention a = SelfAttention(100, 128);
    change(a);
    return kernel.DefaultTiling(a, gpu).tma;
  };
  CHECK(tma([](Attention&) {}));
  CHECK_FALSE(tma([](Attention& a) { a.head_dim = a.head_dim_v = 80; }));
  CHECK_FALSE(tma([](Attention& a) { a.head_dim_v = 64; }));
  CHECK_FALSE(tma([](Attention& a) { a.format = Format::kE4m3; }));
  CHECK_FALSE(tma([](Attention& a) { a.softcap = 30; }));
  Attention decode = SelfAttention(128, 128, 8);
  decode.seqlen_q = decode.heads_kv = 1;
  const Tiling t = kernel.DefaultTiling(decode, gpu);
  CHECK((t.tma && t.pack_gqa));
  CHECK(Sum(Launches("fa3", decode, t)[0].ledger.l2_to_sm).read == (128 + 2 * 128) * 128 * 2);
  decode.seqlen_q = 2;
  CHECK(Sum(Launches("fa3", decode, t)[0].ledger.l2_to_sm).read == (2 * 8 + 2 * 128) * 128 * 2);
}

TEST_CASE("FlashAttention: 2 N d + Tc (3 N d + 4 N) elements") {
  // Algorithm 1: K and V once; for every key tile Q and O are read, O is written, l and m are read and written.
  for (const int64_t n : {1, 100, 1000, 4096}) {
    for (const int64_t Bc : {16, 64, 112}) {
      for (const int64_t d : {64, 128}) {
        const Ledger ledger = Launches("fa1", SelfAttention(n, d), {.Br = 64, .Bc = Bc})[1].ledger;
        const int64_t Tc = CeilDiv(n, Bc);
        CHECK(At16(ledger, TensorId::kK).read + At16(ledger, TensorId::kV).read == 2 * n * d);
        CHECK(At16(ledger, TensorId::kQ).read == Tc * n * d);
        CHECK(At16(ledger, TensorId::kO) == Traffic{Tc * n * d, Tc * n * d});
        for (const TensorId statistic : {TensorId::kL, TensorId::kM}) {
          const Traffic& bytes = At(ledger.l2_to_sm, statistic);  // fp32
          CHECK(bytes == Traffic{4 * Tc * n, 4 * Tc * n});
        }
        const Traffic all = Sum(ledger.l2_to_sm);
        CHECK(all.read + all.write == 2 * (2 * n * d + Tc * 3 * n * d) + 4 * Tc * 4 * n);
      }
    }
  }
}

TEST_CASE("FlashAttention-2 and -3: N d + N d + 2 N d ceil(N / Br) elements requested, 4 N d compulsory") {
  for (const char* kernel : {"fa2", "fa3"}) {
    for (const int64_t n : {1, 100, 1000, 4096}) {
      for (const int64_t Br : {64, 128, 192}) {
        const int64_t d = 128;
        const Tiling t{.Br = Br, .Bc = 96, .warps = Br / 16};
        const Ledger ledger = Launches(kernel, SelfAttention(n, d), t)[0].ledger;
        const Traffic requested = Sum(ledger.l2_to_sm), compulsory = Sum(ledger.hbm_compulsory);
        CHECK(requested.read == 2 * (n * d + 2 * n * d * CeilDiv(n, Br)));
        CHECK(requested.write == 2 * n * d + 4 * n);  // O, and LSE in fp32
        CHECK(compulsory.read == 2 * 3 * n * d);
        CHECK(compulsory.write == 2 * n * d + 4 * n);
        CHECK(ledger.matrix_flops == 4 * d * CeilDiv(n, Br) * Br * CeilDiv(n, 96) * 96);
      }
    }
  }
}

TEST_CASE("causal: T (T + 1) / 2 of T^2 square tiles") {
  const int64_t d = 64, tile = 128;
  for (const int64_t T : {1, 2, 7, 64}) {
    Attention a = SelfAttention(T * tile, d);
    a.mask = data::Mask::Causal();
    for (const char* kernel : {"fa2", "fa3"}) {
      const Ledger ledger = Launches(kernel, a, {.Br = tile, .Bc = tile, .warps = 8})[0].ledger;
      CHECK(At16(ledger, TensorId::kK).read == T * (T + 1) / 2 * tile * d);
      CHECK(ledger.matrix_flops == T * (T + 1) / 2 * 4 * tile * tile * d);
    }
  }
}

TEST_CASE("FlashAttention, theorem 2: Theta(N^2 d^2 / M) accesses with the paper's tiles") {
  // Bc = ceil(M / 4d), Br = min(Bc, d), for d <= M <= N d. The constants follow from 2 N d + Tc (3 N d + 4 N) with
  // Tc = ceil(N / Bc):
  //   lower  Bc <= (M + 4d) / 4d <= 5M / 4d, so Tc >= N / Bc >= 4 N d / 5 M and accesses >= Tc 3 N d >= 2.4 N^2 d^2 /
  //   M; upper  Tc <= 4 N d / M + 1 <= 5 N d / M (because M <= N d), 3 N d + 4 N <= 3.5 N d (because d >= 8) and
  //          2 N d <= 2 N^2 d^2 / M: accesses <= (5 * 3.5 + 2) N^2 d^2 / M = 19.5 N^2 d^2 / M.
  constexpr double kLower = 2.4, kUpper = 19.5;
  int compared = 0;
  for (const int64_t d : {16, 64, 128}) {
    for (const int64_t n : {1024, 4096, 16384}) {
      for (int64_t M = d; M <= n * d; M *= 2) {
        // Tiles of the machine are multiples of 16: M is chosen so that the rule gives one, and nothing is rounded.
        const int64_t Bc = CeilDiv(M, 4 * d), Br = std::min(Bc, d);
        if (Bc % 16 != 0 || Br % 16 != 0) continue;
        CAPTURE(d);
        CAPTURE(n);
        CAPTURE(M);
        const Ledger ledger = Launches("fa1", SelfAttention(n, d), {.Br = Br, .Bc = Bc})[1].ledger;
        int64_t accesses = 0;  // elements, as the theorem counts
        for (const TensorId tensor : {TensorId::kQ, TensorId::kK, TensorId::kV, TensorId::kO})
          accesses += At16(ledger, tensor).read + At16(ledger, tensor).write;
        for (const TensorId tensor : {TensorId::kM, TensorId::kL})
          accesses += (At(ledger.l2_to_sm, tensor).read + At(ledger.l2_to_sm, tensor).write) / 4;
        const double law = static_cast<double>(n * d) * static_cast<double>(n * d) / static_cast<double>(M);
        CHECK(static_cast<double>(accesses) >= kLower * law);
        CHECK(static_cast<double>(accesses) <= kUpper * law);
        ++compared;
      }
    }
  }
  CHECK(compared >= 50);
}

TEST_CASE("FlashAttention, theorem 2: standard attention is Theta(N d + N^2)") {
  // 4 N^2 + 4 N d elements and N fp32 numbers that the paper's algorithm does not store: at most 4 (N d + N^2) + N.
  for (const int64_t d : {64, 128}) {
    for (const int64_t n : {16, 128, 1024, 65536}) {
      Traffic all;
      for (const auto& launch : Launches("standard", SelfAttention(n, d), {})) all += Sum(launch.ledger.hbm_compulsory);
      CHECK(all.read + all.write == 2 * 4 * (n * d + n * n) + 4 * n);
    }
  }
}

// Both directions of the compulsory bytes, over all launches.
int64_t HbmBytes(const Count& count, std::initializer_list<TensorId> tensors) {
  int64_t bytes = 0;
  for (const TensorId tensor : tensors) {
    const Traffic& traffic = At(count.total.hbm_compulsory, tensor);
    bytes += traffic.read + traffic.write;
  }
  return bytes;
}

TEST_CASE("Llama-3-8B, one layer, 8192 tokens on an H200") {
  const data::Gpu gpu = data::LoadGpu("h200");
  const auto count = [&](const char* name, const Attention& a) {
    const Kernel& kernel = FindKernel(name);
    return CountKernel(kernel, a, kernel.DefaultTiling(a, gpu), gpu);
  };
  const auto qkvo = {TensorId::kQ, TensorId::kK, TensorId::kV, TensorId::kO};
  Attention a{.heads_q = 32, .heads_kv = 8, .seqlen_q = 8192, .seqlen_k = 8192};
  const Count standard = count("standard", a), flash = count("fa2", a);
  CHECK(HbmBytes(standard, {TensorId::kS, TensorId::kP}) == 16384 * kMiB);
  CHECK(HbmBytes(standard, qkvo) == 160 * kMiB);
  CHECK(HbmBytes(flash, {TensorId::kS, TensorId::kP}) == 0);
  CHECK(HbmBytes(flash, qkvo) == 160 * kMiB);
  // 8.13 GiB: Q and O once, K and V once for each of the 64 tiles of 128 rows and every query head.
  const Traffic requested = Sum(flash.total.l2_to_sm);
  CHECK(requested.read == 64 * kMiB + 64 * 32 * 4 * kMiB);

  // Decode: the scores of one token are 2 MiB beside 32 MiB of K and V.
  a.seqlen_q = 1;
  const Count step = count("standard", a);
  CHECK(HbmBytes(step, {TensorId::kS, TensorId::kP}) == 2 * kMiB);
  CHECK(HbmBytes(step, {TensorId::kK, TensorId::kV}) == 32 * kMiB);
  CHECK(HbmBytes(count("split-kv", a), {TensorId::kK, TensorId::kV}) == 32 * kMiB);

  // 512 tokens: 74 against 10 MiB.
  a.seqlen_q = a.seqlen_k = 512;
  CHECK(HbmBytes(count("standard", a), {TensorId::kS, TensorId::kP}) == 64 * kMiB);
  CHECK(HbmBytes(count("fa2", a), qkvo) == 10 * kMiB);
}

TEST_CASE("the request of the worked example: 1,090,519,040 bytes") {
  const Attention a = SelfAttention(4096, 128, 16);
  const Count count = CountKernel(FindKernel("fa2"), a, {.Br = 128, .Bc = 64}, data::LoadGpu("h200"));
  CHECK(Sum(count.total.l2_to_sm).read == 1090519040);
}

TEST_CASE("FlashAttention's own example, as far as a forward pass can speak") {
  // Figure 2 of the paper (arXiv 2205.14135): GPT-2 medium on an A100, N = 1024, d = 64, 16 heads, batch 64: 40.3 GB of
  // HBM reads and writes for standard attention, 4.4 GB for FlashAttention (35.3 is quoted too).
  // Those are measured, for forward and backward together, with the mask and dropout passes of the implementation that
  // was timed. This machine counts forward passes without dropout. So nothing here reproduces 40.3; what a forward
  // count can say is that it is part of both figures: the published totals must exceed it, and the published ratio of
  // about nine lies on the same side as the counted one.
  const Attention a{.batch = 64,
                    .heads_q = 16,
                    .heads_kv = 16,
                    .seqlen_q = 1024,
                    .seqlen_k = 1024,
                    .head_dim = 64,
                    .head_dim_v = 64,
                    .format = Format::kFp16};
  const data::Gpu gpu = data::LoadGpu("a100-80gb");
  const auto count = [&](const char* name) {
    const Kernel& kernel = FindKernel(name);
    return CountKernel(kernel, a, kernel.DefaultTiling(a, gpu), gpu);
  };
  const int64_t n = 1024, d = 64, heads = 64 * 16;
  const auto qkvo = {TensorId::kQ, TensorId::kK, TensorId::kV, TensorId::kO};
  const int64_t standard =
      HbmBytes(count("standard"), {TensorId::kS, TensorId::kP}) + HbmBytes(count("standard"), qkvo);
  CHECK(standard == heads * 2 * (4 * n * n + 4 * n * d));  // 9.1 GB
  CHECK(standard < 35'300'000'000);
  const int64_t flash = HbmBytes(count("fa2"), qkvo);
  CHECK(flash == heads * 2 * 4 * n * d);  // 0.54 GB, the floor
  CHECK(flash < 4'400'000'000);
  // What the algorithm of that paper requests, with this GPU's tile.
  const Traffic requested = Sum(count("fa1").launches[1].ledger.l2_to_sm);
  CHECK(requested.read + requested.write > flash);
  CHECK(requested.read + requested.write < standard);
}

}  // namespace
}  // namespace bitflash::sim
