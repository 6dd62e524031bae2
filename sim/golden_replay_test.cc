// Recorded outputs of shipped kernels, reproduced bit for bit without a GPU.
#include <doctest/doctest.h>

#include <bit>
#include <cstdio>

#include "data/convert_simd.h"
#include "data/golden.h"
#include "data/random.h"
#include "sim/count.h"
#include "sim/execute.h"

namespace bitflash::sim {
namespace {

struct Replay {
  int64_t cases = 0, skipped = 0, heads = 0, elements = 0, heads_o_differ = 0, heads_lse_differ = 0;
};

std::vector<uint16_t> Generate(const Attention& a, uint64_t seed, int64_t bytes) {
  const int64_t count = bytes / data::StorageBytes(a.format);
  std::vector<float> values(count);
  data::FillHashNormal(seed, 0, values);
  std::vector<uint16_t> bits(count);
  data::FromFloat(a.format, values.data(), bits.data(), count);
  return bits;
}

// The recipe covers the kernels that the case launched. cuDNN answers decode steps and a few small problems with sm80
// kernels, which are other recipes.
bool Covered(const data::GoldenCase& golden) {
  return golden.backend != "cudnn-9.19-sm90" ||
         golden.launches.front().kernel.find("sm90_flash_fprop_wgmma") != std::string::npos;
}

void ReplayCase(const data::GoldenCase& golden, const Gpu& gpu, Replay& replay) {
  const Attention& a = golden.attention;
  const Kernel& kernel = FindKernel(golden.backend);
  CAPTURE(golden.backend);
  CAPTURE(golden.name);
  const Tiling tiling = kernel.DefaultTiling(a, gpu);
  CAPTURE(ToString(tiling));
  const std::vector<uint16_t> q = Generate(a, golden.seed, a.q_bytes());
  const std::vector<uint16_t> k = Generate(a, golden.seed + 1, a.k_bytes());
  const std::vector<uint16_t> v = Generate(a, golden.seed + 2, a.v_bytes());
  std::vector<uint16_t> o(a.o_bytes() / 2);
  std::vector<float> lse(a.lse_bytes() / 4);
  Execute(kernel, a, tiling, gpu.arch, {q.data(), k.data(), v.data()}, {o.data(), lse.data()});

  ++replay.cases;
  const int64_t head_elements = a.seqlen_q * a.head_dim_v;
  for (size_t head = 0; head < golden.heads.size(); ++head) {
    CAPTURE(head);
    std::vector<uint32_t> lse_bits;
    for (int64_t row = 0; row < a.seqlen_q; ++row)
      lse_bits.push_back(std::bit_cast<uint32_t>(lse[head * a.seqlen_q + row]));
    const bool same_o = golden.heads[head].HasO(
        data::HashElements({o.data() + head * head_elements, static_cast<size_t>(head_elements)}));
    const bool same_lse = golden.heads[head].HasLse(data::HashElements(lse_bits));
    CHECK(same_o);
    CHECK(same_lse);
    ++replay.heads;
    replay.elements += head_elements;
    replay.heads_o_differ += !same_o;
    replay.heads_lse_differ += !same_lse;
  }
  for (const data::GoldenRow& row : golden.rows) {
    const uint16_t* mine = o.data() + (row.head * a.seqlen_q + row.row) * a.head_dim_v;
    CHECK(std::equal(row.o.begin(), row.o.end(), mine));
    CHECK(std::bit_cast<uint32_t>(lse[row.head * a.seqlen_q + row.row]) == row.lse);
  }
}

// Replays the cases of a file that take at most `most` multiply-adds.
Replay ReplayFile(const std::string& name, double most) {
  const Gpu gpu = data::LoadGpu("h200");
  Replay replay;
  for (const data::GoldenCase& golden :
       data::LoadGolden(std::string(BITFLASH_SOURCE_DIR) + "/data/golden/" + name + ".json")) {
    const Attention& a = golden.attention;
    const double work = static_cast<double>(a.batch * a.heads_q) * static_cast<double>(a.seqlen_q * a.seqlen_k) *
                        static_cast<double>(a.head_dim + a.head_dim_v);
    if (work > most) continue;
    if (!Covered(golden)) {
      ++replay.skipped;
      continue;
    }
    ReplayCase(golden, gpu, replay);
  }
  std::printf(
      "%-28s %3lld cases, %lld not covered; %lld heads, %lld elements of O; O differs in %lld heads, LSE in %lld\n",
      name.c_str(), static_cast<long long>(replay.cases), static_cast<long long>(replay.skipped),
      static_cast<long long>(replay.heads), static_cast<long long>(replay.elements),
      static_cast<long long>(replay.heads_o_differ), static_cast<long long>(replay.heads_lse_differ));
  return replay;
}

TEST_CASE("small recordings of an H200 are reproduced bit for bit") {
  CHECK(ReplayFile("pytorch-fa2", 2e8).cases >= 20);
  CHECK(ReplayFile("cudnn-9.19-sm90", 2e8).cases >= 15);
}

TEST_CASE("every recording of an H200 is reproduced bit for bit" * doctest::test_suite("slow")) {
  CHECK(ReplayFile("pytorch-fa2", 1e18).cases == 73);
  CHECK(ReplayFile("cudnn-9.19-sm90", 1e18).cases >= 50);
}

TEST_CASE("and so is every recording that no recipe was tuned on" * doctest::test_suite("slow")) {
  CHECK(ReplayFile("pytorch-fa2.held-out", 1e18).cases == 22);
  CHECK(ReplayFile("cudnn-9.19-sm90.held-out", 1e18).cases >= 14);
}

TEST_CASE("and every recording made after the code was finished" * doctest::test_suite("slow")) {
  CHECK(ReplayFile("after/pytorch-fa2.held-out", 1e18).cases == 16);
  CHECK(ReplayFile("after/cudnn-9.19-sm90.held-out", 1e18).cases == 14);
}

}  // namespace
}  // namespace bitflash::sim
