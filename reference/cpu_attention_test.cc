// CpuAttention against the golden attention, element by element within the bound of its arithmetic, on every SIMD
// target; and what must hold whatever the numbers: bits, invisible keys, refusals.
#include "reference/cpu_attention.h"

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "data/error.h"
#include "data/simd_targets.h"
#include "doctest/doctest.h"
#include "hwy/targets.h"
#include "reference/cpu_attention_testing.h"

namespace bitflash::reference {
namespace {

using data::Format;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// A random problem in random formats and layouts, ragged in both lengths.
CpuProblem RandomCpuProblem(uint64_t seed) {
  std::mt19937_64 random(seed * 7919 + 1);
  const auto draw = [&](int64_t least, int64_t most) {
    return std::uniform_int_distribution<int64_t>(least, most)(random);
  };
  const Format formats[] = {Format::kFp32, Format::kFp16, Format::kBf16};
  const Format q = formats[draw(0, 2)], kv = formats[draw(0, 2)], output = formats[draw(0, 2)];
  CpuProblem p = FromProblem(RandomProblem(seed), q, kv, output, static_cast<int>(draw(0, 2)));
  if (draw(0, 2) == 0) {
    for (int64_t n = 0; n < p.a.batch; ++n) p.seqlens_q.push_back(draw(0, p.a.seqlen_q));
  }
  return p;
}

TEST_CASE("random problems are within the bound on every target") {
  Verdict worst;
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    CAPTURE(seed);
    const CpuProblem p = RandomCpuProblem(seed);
    const std::vector<BoundedGolden> golden = GoldenOf(p);
    for (const int64_t target : data::UsableTargets()) {
      const data::UseTarget use(target);
      CAPTURE(std::string(hwy::TargetName(target)));
      const Verdict verdict = Judge(p, golden, RunCpu(p, 1));
      CHECK(verdict.wrong == 0);
      if (p.output == Format::kFp32) worst.worst_O = std::max(worst.worst_O, verdict.worst_O);
      worst.worst_LSE = std::max(worst.worst_LSE, verdict.worst_LSE);
    }
  }
  MESSAGE("largest error / bound: O " << worst.worst_O << ", LSE " << worst.worst_LSE);
  CHECK(worst.worst_O > 0.01);  // a bound that nothing comes near would judge nothing
}

TEST_CASE("head dimensions and masks across tiles") {
  for (const int64_t head_dim : {32, 40, 64, 80, 96, 128, 192, 256}) {
    for (const data::Mask& mask : {data::Mask::Full(), data::Mask::Causal(), data::Mask::Window(70, 5)}) {
      CAPTURE(head_dim);
      CAPTURE(data::ToString(mask));
      CheckOnEveryTarget(ShapedProblem({.heads_q = 2,
                                        .seqlen_q = 101,
                                        .seqlen_k = 203,
                                        .head_dim = head_dim,
                                        .head_dim_v = head_dim == 192 ? 128 : head_dim,
                                        .mask = mask},
                                       head_dim));
    }
  }
}

TEST_CASE("decode: groups, several queries, many parts") {
  for (const int64_t group : {1, 2, 3, 4, 7, 8}) {
    for (const int64_t queries : {1, 3}) {
      for (const Format format : {Format::kFp32, group % 2 == 0 ? Format::kBf16 : Format::kFp16}) {
        CAPTURE(group);
        CAPTURE(queries);
        CheckOnEveryTarget(ShapedProblem({.heads_q = 2 * group,
                                          .heads_kv = 2,
                                          .seqlen_q = queries,
                                          .seqlen_k = 2 * kDecodePartKeys + 77,
                                          .head_dim = 64,
                                          .head_dim_v = 64,
                                          .mask = data::Mask::Window(kDecodePartKeys + 100, 0)},
                                         group, format));
      }
    }
  }
}

TEST_CASE("bits depend neither on the number of threads nor on the width of the vectors") {
  std::vector<CpuProblem> problems;
  for (uint64_t seed = 200; seed < 230; ++seed) problems.push_back(RandomCpuProblem(seed));
  problems.push_back(ShapedProblem({.batch = 2, .heads_q = 6, .heads_kv = 2, .seqlen_q = 130, .seqlen_k = 300}, 1));
  problems.push_back(ShapedProblem({.batch = 3, .heads_q = 7, .heads_kv = 7, .seqlen_q = 40, .seqlen_k = 270}, 3));
  problems.push_back(ShapedProblem({.heads_q = 4, .heads_kv = 2, .seqlen_k = 5 * kDecodePartKeys + 3}, 2));
  problems.push_back(TiledProblem(data::Mask::Window(400, 30), 1, 1, 1));
  for (const int64_t group : {2, 3, 4, 5}) {  // scores with keys as lanes
    problems.push_back(ShapedProblem({.heads_q = 2 * group, .heads_kv = 2, .seqlen_k = 300, .head_dim = 80}, 3 + group,
                                     Format::kBf16));
  }
  for (const CpuProblem& p : problems) {
    CAPTURE(data::ToString(p.a));
    std::vector<CpuResult> fused;  // of targets with fused multiply-add
    for (const int64_t target : data::UsableTargets()) {
      const data::UseTarget use(target);
      CAPTURE(std::string(hwy::TargetName(target)));
      const CpuResult one = RunCpu(p, 1);
      CHECK(SameBits(one, RunCpu(p, 2)));
      CHECK(SameBits(one, RunCpu(p, 5)));
      if ((target & (HWY_AVX2 | HWY_AVX3 | HWY_AVX3_DL)) != 0) fused.push_back(one);
    }
    for (const CpuResult& result : fused) CHECK(SameBits(result, fused.front()));
  }
}

TEST_CASE("pages give the bits of contiguous keys") {
  for (const int64_t queries : {1, 4, 30}) {
    for (const int64_t page_size : {1, 16, 48}) {
      const data::Attention a = {.batch = 2,
                                 .heads_q = 4,
                                 .heads_kv = 2,
                                 .seqlen_q = queries,
                                 .seqlen_k = 100,
                                 .head_dim = 64,
                                 .head_dim_v = 64,
                                 .mask = data::Mask::Causal()};
      CpuProblem p = ShapedProblem(a, 5, Format::kBf16);
      p.seqlens_k = {100, 61};
      PagedKeys paged(p, page_size);
      CHECK(SameBits(RunCpu(p), RunCpu(p, paged.inputs(p))));
      CHECK(Judge(p, RunCpu(p, paged.inputs(p))).wrong == 0);
      paged.table[0] = paged.cache.pages;
      CHECK_THROWS_AS(RunCpu(p, paged.inputs(p)), data::UsageError);
    }
  }
}

TEST_CASE("what a row does not see never reaches it; what it sees acts as IEEE 754 says") {
  for (const int64_t queries : {2, 4, 90}) {
    for (const float poison : {kNan, kInfinity, -kInfinity}) {
      for (const data::Mask& mask : {data::Mask::Causal(), data::Mask::CausalTopLeft(), data::Mask::Window(3, 2)}) {
        CAPTURE(queries);
        CAPTURE(poison);
        CAPTURE(data::ToString(mask));
        CpuProblem p = ShapedProblem(
            {.heads_q = 2, .seqlen_q = queries, .seqlen_k = 150, .head_dim = 32, .head_dim_v = 48, .mask = mask}, 3);
        p.seqlens_k = {131};
        for (const int64_t j : {80, 129, 131, 140, 149}) {
          p.V.row(0, 0, j)[5] = poison;
          if (j > 129) std::fill_n(p.K.row(0, 0, j), 32, poison);
        }
        p.V.Encode();
        p.K.Encode();
        CheckOnEveryTarget(p);
        const CpuResult result = RunCpu(p);
        // The first column is finite whenever its row saw no poisoned K.
        for (int64_t row = 0; row < 2 * queries; ++row) CHECK(std::isfinite(result.O[row * 48]));
      }
    }
  }
}

TEST_CASE("no keys, one key, rows without keys") {
  for (const int64_t queries : {1, 5}) {
    const data::Attention a = {.heads_q = 2, .seqlen_q = queries, .seqlen_k = 0, .head_dim = 32, .head_dim_v = 32};
    const CpuResult none = RunCpu(ShapedProblem(a, 1));
    for (const float o : none.O) CHECK(o == 0);
    for (const float lse : none.LSE) CHECK(lse == -kInfinity);
    data::Attention one = a;
    one.seqlen_k = 1;
    CpuProblem p = ShapedProblem(one, 2);
    const CpuResult result = RunCpu(p);
    for (int64_t i = 0; i < queries; ++i) {
      for (int64_t c = 0; c < 32; ++c) CHECK(result.O[i * 32 + c] == p.V.row(0, 0, 0)[c]);  // weight exactly 1
    }
    one.mask = data::Mask::Causal();  // all rows but the last see nothing
    CheckOnEveryTarget(ShapedProblem(one, 3));
  }
}

TEST_CASE("large scores, special scores and subnormal numbers") {
  for (const int64_t queries : {3, 20}) {
    const data::Attention a = {.heads_q = 2, .seqlen_q = queries, .seqlen_k = 200, .head_dim = 64, .head_dim_v = 64};
    CheckOnEveryTarget(ShapedProblem(a, 1, Format::kFp32, 1e4));
    CheckOnEveryTarget(ShapedProblem(a, 2, Format::kFp32, 1e20));
    CheckOnEveryTarget(ShapedProblem(a, 3, Format::kFp32, 1e-42));
    CheckOnEveryTarget(ShapedProblem(a, 4, Format::kFp32, 30));  // weights down to 2^-125 and below
    CpuProblem tiny = ShapedProblem(a, 5);
    for (float& v : tiny.V.values) v *= 1e-41f;
    tiny.V.Encode();
    CheckOnEveryTarget(tiny);
    for (const float score : {kInfinity, -kInfinity, kNan}) {
      CpuProblem p = ShapedProblem(a, 6);
      for (float& q : p.Q.values) q = std::abs(q);
      p.K.row(0, 0, 70)[3] = score;
      p.Q.Encode();
      p.K.Encode();
      CheckOnEveryTarget(p);
    }
  }
}

TEST_CASE("output strides, no LSE, and refusals") {
  const data::Attention a = {
      .heads_q = 2, .heads_kv = 2, .seqlen_q = 7, .seqlen_k = 9, .head_dim = 32, .head_dim_v = 24};
  const CpuProblem p = ShapedProblem(a, 1);
  const CpuResult row_major = RunCpu(p);
  std::vector<float> O(7 * 2 * 24);  // [rows, heads, columns]
  const auto write = [&](int64_t row_stride) {
    CpuAttention(a, p.inputs(),
                 {.format = Format::kFp32,
                  .O = std::as_writable_bytes(std::span(O)),
                  .strides = Strides{0, 24, row_stride},
                  .LSE = {}});
  };
  write(48);
  for (int64_t h = 0; h < 2; ++h) {
    for (int64_t i = 0; i < 7; ++i) {
      for (int64_t c = 0; c < 24; ++c) CHECK(O[i * 48 + h * 24 + c] == row_major.O[(h * 7 + i) * 24 + c]);
    }
  }
  CHECK_THROWS_AS(write(49), data::UsageError);
  CHECK_THROWS_AS(write(23), data::UsageError);
  CHECK_THROWS_AS(RunCpu(p, -1), data::UsageError);
  CpuAttentionInputs inputs = p.inputs();
  inputs.K.format = Format::kE4m3;
  CHECK_THROWS_AS(RunCpu(p, inputs), data::UsageError);
  inputs = p.inputs();
  inputs.V.bytes = inputs.V.bytes.subspan(4);
  CHECK_THROWS_AS(RunCpu(p, inputs), data::UsageError);
  inputs = p.inputs();
  inputs.Q.bytes = inputs.Q.bytes.subspan(1);
  CHECK_THROWS_AS(RunCpu(p, inputs), data::UsageError);
  inputs = p.inputs();
  const std::vector<int64_t> too_many = {10};
  inputs.seqlens_k = too_many;
  CHECK_THROWS_AS(RunCpu(p, inputs), data::UsageError);
}

}  // namespace
}  // namespace bitflash::reference
