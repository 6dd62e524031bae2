#include "sim/occupancy.h"

#include <doctest/doctest.h>

#include <string>

#include "data/error.h"
#include "sim/count.h"

namespace bitflash::sim {
namespace {

Resources Block(int64_t threads, int64_t registers, int64_t shared_bytes) {
  return {.threads = threads,
          .registers_per_thread = registers,
          .registers_needed = registers,
          .shared_bytes = shared_bytes};
}

void CheckOccupancy(const data::Gpu& gpu, const Resources& r, int64_t blocks, const std::string& limit) {
  CAPTURE(gpu.name);
  CAPTURE(r.threads);
  CAPTURE(r.registers_per_thread);
  CAPTURE(r.shared_bytes);
  CHECK(Occupy(r, gpu).blocks_per_sm == blocks);
  CHECK(Occupy(r, gpu).limit == limit);
}

TEST_CASE("blocks per SM follow the CUDA occupancy rules") {
  const data::Gpu h200 = data::LoadGpu("h200"), a100 = data::LoadGpu("a100-80gb"), t4 = data::LoadGpu("t4");
  const data::Gpu ada = data::LoadGpu("rtx-4090");
  CheckOccupancy(h200, Block(1024, 32, 0), 2, "registers");  // 65536 / 32768; the 2048 threads agree
  CheckOccupancy(h200, Block(256, 16, 0), 8, "threads");     // 2048 / 256
  CheckOccupancy(h200, Block(32, 16, 0), 32, "blocks");
  CheckOccupancy(t4, Block(32, 16, 0), 16, "blocks");    // no shared memory, no reserve
  CheckOccupancy(t4, Block(256, 16, 0), 4, "threads");   // 1024 / 256
  CheckOccupancy(ada, Block(512, 16, 0), 3, "threads");  // 1536 / 512
  CheckOccupancy(h200, Block(128, 32, 232448), 1, "shared memory");
  CheckOccupancy(h200, Block(128, 32, 115712), 2, "shared memory");  // 2 * (113 KiB + 1 KiB) = 228 KiB
  CheckOccupancy(h200, Block(128, 32, 115713), 1, "shared memory");  // allocated in units of 128 bytes
  CheckOccupancy(a100, Block(128, 32, 81920), 2, "shared memory");   // 164 KiB / 81 KiB
  CheckOccupancy(a100, Block(128, 32, 166912), 1, "shared memory");
  // 168 registers: 5376 a warp, three warps in each quarter of the register file.
  CheckOccupancy(h200, Block(384, 168, 1024), 1, "registers");
  // 169 are allocated as 176 (units of 256 a warp), which leaves two warps a quarter: eight are fewer than twelve.
  CheckOccupancy(h200, Block(384, 169, 1024), 0, "registers");
  // Five warps of 200 registers: the file holds 10, its quarters only 4 * 2.
  CheckOccupancy(h200, Block(160, 200, 1024), 1, "registers");
  CheckOccupancy(h200, Block(160, 168, 1024), 2, "registers");  // decode of 160 threads, two blocks an SM
  // FlashAttention-2 as measured on an H200: 128 threads, 255 registers, 64 or 48 KiB: two blocks an SM.
  CheckOccupancy(h200, Block(128, 255, 65536), 2, "registers");
  CheckOccupancy(h200, Block(128, 255, 49152), 2, "registers");
  CheckOccupancy(ada, Block(128, 255, 65536), 1, "shared memory");
}

TEST_CASE("the register pool of warp-specialised kernels") {
  CHECK(RegistersAtEntry(384) == 168);
  CHECK(RegistersAtEntry(512) == 128);
  CHECK(RegistersAtEntry(640) == 96);
  CHECK(ConsumerRegisters(2) == 232);
  CHECK(ConsumerRegisters(3) == 160);
  // 24 + 4 * 120 = 504 is more than the pool of 5 * 96 = 480 and hung on an H200; 112 is what fits.
  CHECK(ConsumerRegisters(4) == 112);
  for (int64_t consumers = 1; consumers <= 7; ++consumers) {
    const int64_t producer = consumers <= 2 ? 40 : consumers == 3 ? 32 : 24;
    const int64_t registers = ConsumerRegisters(consumers);
    CHECK(producer + consumers * registers <= (consumers + 1) * RegistersAtEntry(128 * (consumers + 1)));
    CHECK(registers % 8 == 0);
    CHECK(registers <= 240);
    CHECK(registers >= 24);
  }
}

Attention Heads16(int64_t head_dim, int64_t head_dim_v) {
  return {.heads_q = 16,
          .heads_kv = 16,
          .seqlen_q = 4096,
          .seqlen_k = 4096,
          .head_dim = head_dim,
          .head_dim_v = head_dim_v};
}

TEST_CASE("fa3 tiles: those that compiled without spills on sm90 fit, the one that is too wide does not") {
  // Builds with nvcc 13.0, setmaxnreg 232 (two consumers) and 160 (three). Q stays in shared memory where it does not
  // fit beside S, P and O, so 128 x 160 and 128 x 176 are the builds without Q in registers.
  const data::Gpu h200 = data::LoadGpu("h200");
  const auto reason = [&](int64_t head_dim, int64_t Br, int64_t Bc, int64_t stages) {
    const Tiling t{.Br = Br, .Bc = Bc, .warps = Br / 16, .stages = stages};
    return Infeasible(FindKernel("fa3"), Heads16(head_dim, head_dim), t, h200);
  };
  CHECK(reason(128, 128, 128, 2) == "");
  CHECK(reason(128, 128, 144, 2) == "");
  CHECK(reason(128, 128, 160, 2) == "");
  CHECK(reason(128, 128, 176, 2) == "");
  CHECK(reason(64, 192, 128, 4) == "");
  CHECK(reason(128, 192, 128, 1).find("registers") != std::string::npos);
  CHECK(reason(128, 128, 256, 1).find("registers") != std::string::npos);

  const auto resources = [&](int64_t head_dim, int64_t Br, int64_t Bc, int64_t stages) {
    const Tiling t{.Br = Br, .Bc = Bc, .warps = Br / 16, .stages = stages};
    return CountKernel(FindKernel("fa3"), Heads16(head_dim, head_dim), t, h200).launches[0].resources;
  };
  // Words of S, P, O and Q where it is in registers, plus 28, and the shared memory: KiB of Q, K, V and O.
  CHECK(resources(128, 128, 128, 2) == Resources{384, 168, 192 + 28, 232, (32 + 64 + 64 + 32) * 1024});
  CHECK(resources(128, 128, 144, 2) == Resources{384, 168, 204 + 28, 232, (32 + 72 + 72 + 32) * 1024});
  CHECK(resources(128, 128, 160, 2).registers_needed == 184 + 28);
  CHECK(resources(128, 128, 176, 2).registers_needed == 196 + 28);
  CHECK(resources(64, 192, 128, 4) == Resources{512, 128, 128 + 28, 160, (24 + 64 + 64 + 24) * 1024});
}

TEST_CASE("an infeasible tile is refused with the limit it breaks") {
  const data::Gpu h200 = data::LoadGpu("h200"), ada = data::LoadGpu("l40s"), t4 = data::LoadGpu("t4");
  const auto refused = [](const char* kernel, const Attention& a, const Tiling& t, const data::Gpu& gpu,
                          const std::string& because) {
    CAPTURE(because);
    const std::string reason = Infeasible(FindKernel(kernel), a, t, gpu);
    CAPTURE(reason);
    CHECK(reason.find(because) != std::string::npos);
    CHECK_THROWS_WITH_AS(CountKernel(FindKernel(kernel), a, t, gpu), reason.c_str(), data::UsageError);
  };
  const Attention a = Heads16(128, 128);
  refused("fa2", a, {.Br = 128, .Bc = 512, .warps = 8}, h200, "294912 bytes of shared memory, the limit is 232448");
  refused("fa2", a, {.Br = 128, .Bc = 512, .warps = 8}, ada, "the limit is 101376");
  refused("fa2", a, {.Br = 128, .Bc = 128, .warps = 4}, h200, "284 registers (tiles and 28 more), the limit is 255");
  refused("fa3", a, {.Br = 512, .Bc = 16, .warps = 32}, h200, "1152 threads, the limit is 1024");
  refused("fa2", a, {.Br = 100, .Bc = 64}, h200, "Br is 100: expected a multiple of 16");
  refused("fa3", a, {.Br = 96, .Bc = 64, .warps = 6}, h200, "Br is 96: expected a multiple of 64");
  refused("fa3", a, {.Br = 128, .Bc = 64, .warps = 4}, h200, "warps is 4: expected 8");
  refused("fa2", a, {.Br = 128, .Bc = 40}, h200, "Bc is 40: expected a multiple of 16");
  refused("fa2", a, {.Br = 0, .Bc = 64}, h200, "Br is 0");
  refused("fa2", a, {.Br = 64, .Bc = -16}, h200, "Bc is -16");
  refused("fa2", a, {.Br = 64, .Bc = 64, .warps = 0}, h200, "warps is 0");
  refused("fa2", a, {.Br = 64, .Bc = 64, .stages = 17}, h200, "stages is 17");
  refused("fa2", a, {.Br = 64, .Bc = 64, .splits = 2}, h200, "splits is 2: expected 1");
  refused("fa2", a, {.Br = 64, .Bc = 64, .part_keys = 64}, h200, "part_keys is 64: expected 0");
  refused("split-kv", a, {.Br = 64, .Bc = 64, .part_keys = 1000}, h200, "part_keys is 1000: expected 0 (equal parts)");
  refused("split-kv", a, {.Br = 64, .Bc = 64, .splits = 2, .part_keys = 64}, h200, "splits is 2: expected 1");
  refused("split-kv", a, {.Br = 64, .Bc = 0, .part_keys = 64}, h200, "Bc is 0");
  refused("fa2", a, {.Br = 64, .Bc = 64, .page_size = 16}, h200, "page_size is 16: expected 0");
  refused("split-kv", a, {.Br = 64, .Bc = 64, .page_size = 48}, h200, "page_size is 48: expected a divisor");
  refused("fa1", a, {.Br = 64, .Bc = 64, .pack_gqa = true}, h200, "pack_gqa is 1");
  refused("fa2", a, {.Br = 64, .Bc = 64, .fp32_scores = true}, h200, "fp32_scores is 1");
  refused("fa3", a, {.Br = 128, .Bc = 128, .warps = 8}, data::LoadGpu("b200"), "only sm90");
  refused("fa3", a, {.Br = 128, .Bc = 128, .warps = 8}, ada, "needs sm90 or newer");
  refused("fa2", a, {.Br = 64, .Bc = 64}, t4, "needs sm80 or newer");
  refused("fa1", a, {.Br = 64, .Bc = 64}, t4, "no bf16 tensor cores");
  Attention fp8 = a;
  fp8.format = Format::kE4m3;
  refused("fa2", fp8, {.Br = 64, .Bc = 64}, h200, "does not take e4m3");
  refused("standard", fp8, {.Br = 64, .Bc = 64}, data::LoadGpu("a100-80gb"), "no 8-bit");
  refused("fa3", fp8, {.Br = 128, .Bc = 48, .warps = 8}, h200, "Bc is 48: expected a multiple of 32");
}

TEST_CASE("the default tiling is feasible for every GPU, kernel, format, head_dim and length that the kernel takes") {
  int feasible = 0;
  for (const std::string& name : data::GpuNames()) {
    const data::Gpu gpu = data::LoadGpu(name);
    for (const Kernel& kernel : Kernels()) {
      for (const Format format : kernel.formats) {
        const auto check = [&](Attention a) {
          a.format = format;
          CAPTURE(name);
          CAPTURE(kernel.name);
          CAPTURE(data::ToString(a));
          const Tiling t = kernel.DefaultTiling(a, gpu);
          CAPTURE(ToString(t));
          const std::string reason = Infeasible(kernel, a, t, gpu);
          // What no tile can change: the architecture and its formats.
          const bool takes =
              reason.find(" or newer") == std::string::npos && reason.find("tensor cores") == std::string::npos &&
              reason.find("only sm90") == std::string::npos && reason.find("takes head_dim up to") == std::string::npos;
          if (!takes) return false;
          CHECK(reason == "");
          ++feasible;
          return true;
        };
        Attention a = Heads16(64, 64);
        a.seqlen_q = a.seqlen_k = 300;
        if (!check(a)) continue;
        std::vector<int64_t> dims{512, 576};
        for (int64_t d = 16; d <= 256; d += 8) dims.push_back(d);
        for (const int64_t d : dims) {
          for (const bool causal : {false, true}) {
            a.mask = causal ? data::Mask::Causal() : data::Mask::Full();
            a.head_dim = a.head_dim_v = d;
            check(a);
            for (const int64_t dv : {d - 8, d + 8, int64_t{64}, int64_t{128}, int64_t{256}}) {
              a.head_dim_v = dv;
              check(a);
            }
          }
        }
        // Latent attention, and long sequences: rows of scores and parts of the keys must fit as well.
        a = {.heads_q = 128, .seqlen_q = 1, .seqlen_k = 8192, .head_dim = 576, .head_dim_v = 512, .v_is_in_k = true};
        check(a);
        for (int64_t seqlen_k = 0; seqlen_k <= int64_t{1} << 26; seqlen_k = seqlen_k * 8 + 7) {
          check({.heads_q = 32, .heads_kv = 8, .seqlen_q = 1, .seqlen_k = seqlen_k});
        }
      }
    }
  }
  CHECK(feasible > 20000);
}

}  // namespace
}  // namespace bitflash::sim
