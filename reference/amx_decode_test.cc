// AmxAttention of few queries, which reads K and V where they are: against the golden attention within the bound, on
// the model of the tile unit and, where there is one, on the unit.
#include <cmath>
#include <limits>
#include <tuple>
#include <vector>

#include "data/error.h"
#include "doctest/doctest.h"
#include "reference/amx_attention_testing.h"

namespace bitflash::reference {
namespace {

using data::Format;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TEST_CASE("amx decode: queries, groups, head dimensions and masks") {
  double worst = 0;
  for (const int64_t head_dim : {32, 40, 64, 96, 128, 192}) {
    for (const auto& [queries, group] : {std::tuple{1, 1}, {1, 4}, {2, 3}, {4, 5}, {3, 13}}) {  // 39 rows: three tiles
      for (const data::Mask& mask :
           {data::Mask::Full(), data::Mask::Causal(), data::Mask::CausalTopLeft(), data::Mask::Window(70, 1)}) {
        const Verdict verdict = Check(Bf16Problem({.heads_q = group,
                                                   .heads_kv = 1,
                                                   .seqlen_q = queries,
                                                   .seqlen_k = 203,
                                                   .head_dim = head_dim,
                                                   .head_dim_v = head_dim == 192 ? 128 : head_dim,
                                                   .mask = mask},
                                                  head_dim));
        worst = std::max(worst, verdict.worst_O);
      }
    }
  }
  MESSAGE("largest error / bound: " << worst);
  CHECK(worst > 0.05);
}

TEST_CASE("amx decode: every number of keys around tiles and blocks") {
  for (int64_t keys = 0; keys <= 140; ++keys) {
    Check(Bf16Problem({.heads_q = 2, .heads_kv = 1, .seqlen_k = keys, .head_dim = 32, .head_dim_v = 64}, 1 + keys));
  }
}

// Three parts, the last a ragged one.
CpuProblem LongProblem(const data::Mask& mask, int layout = 0) {
  const data::Attention a = {.batch = 2,
                             .heads_q = 8,
                             .heads_kv = 2,
                             .seqlen_q = 2,
                             .seqlen_k = 2 * kDecodePartKeys + 333,
                             .head_dim = 64,
                             .head_dim_v = 64,
                             .mask = mask};
  CpuProblem p = FromProblem(NormalProblem(a, 7), Format::kBf16, Format::kBf16, Format::kFp32, layout);
  p.seqlens_k = {a.seqlen_k, kDecodePartKeys + 17};
  return p;
}

TEST_CASE("amx decode: parts, layouts, lengths, and a window that begins inside a part; the same bits by any threads") {
  for (const data::Mask& mask : {data::Mask::Full(), data::Mask::Causal(), data::Mask::Window(400, 0)}) {
    const CpuProblem p = LongProblem(mask);
    Check(p);
    const CpuResult one = RunModel(p);
    CHECK(SameBits(one, RunModel(p, {.threads = 2})));
    CHECK(SameBits(one, RunModel(p, {.threads = 5})));
    for (const int layout : {1, 2}) CHECK(SameBits(one, RunModel(LongProblem(mask, layout))));
  }
}

TEST_CASE("amx decode: heads that share keys have the bits of heads with keys of their own") {
  const CpuProblem shared = LongProblem(data::Mask::Full());
  CpuProblem own = shared;
  own.a.heads_kv = 8;
  const auto repeat = [](const CpuTensorData& t) {
    std::vector<double> values;
    for (int64_t head = 0; head < 16; ++head) {  // of both sequences
      const auto from = t.values.begin() + head / 4 * t.rows * t.columns;
      values.insert(values.end(), from, from + t.rows * t.columns);
    }
    return MakeTensor(Format::kBf16, 2, 8, t.rows, t.columns, 0, values);
  };
  own.K = repeat(shared.K);
  own.V = repeat(shared.V);
  CHECK(SameBits(RunModel(shared), RunModel(own)));
}

TEST_CASE("amx decode: pages give the bits of contiguous keys") {
  const CpuProblem p = LongProblem(data::Mask::Causal());
  const CpuResult contiguous = RunModel(p);
  for (const int64_t page_size : {1, 16, 24, 64, 256}) {
    CAPTURE(page_size);
    const PagedKeys paged(p, page_size);
    CHECK(SameBits(contiguous, RunModel(p, paged.inputs(p))));
    CHECK(SameBits(contiguous, RunModel(p, paged.inputs(p), {.threads = 3})));
    if (!AmxSupport().empty()) continue;
    const CpuResult machine =
        Collect(p, paged.inputs(p), [](const auto&... problem) { AmxAttention(problem..., {.threads = 2}); });
    CHECK(SameBits(machine, RunMachine(p)));
  }
}

TEST_CASE("amx decode: softcap, a maximum that keeps growing, and one that lags") {
  for (const double slope : {0.0, 0.01, 0.08, 0.5, -0.08}) {  // per key
    for (const double softcap : {0.0, 30.0}) {
      CAPTURE(slope);
      const data::Attention a = {.heads_q = 3,
                                 .heads_kv = 1,
                                 .seqlen_q = 1,
                                 .seqlen_k = 1500,
                                 .head_dim = 32,
                                 .head_dim_v = 32,
                                 .softmax_scale = 1,
                                 .softcap = softcap};
      CpuProblem p = Bf16Problem(a, 1, 0.1);
      for (int64_t h = 0; h < 3; ++h) p.Q.row(0, h, 0)[0] = static_cast<float>(h);
      for (int64_t j = 0; j < a.seqlen_k; ++j) p.K.row(0, 0, j)[0] = static_cast<float>(slope * static_cast<double>(j));
      p.Q.Encode();
      p.K.Encode();
      Check(p);
    }
  }
}

TEST_CASE("amx decode: what a row does not see never reaches it, nor its neighbours' columns") {
  for (const float poison : {kNan, kInfinity, -kInfinity}) {
    for (const data::Mask& mask : {data::Mask::Full(), data::Mask::Causal(), data::Mask::Window(3, 0)}) {
      for (const int64_t group : {1, 6}) {
        CAPTURE(poison);
        CpuProblem p = Bf16Problem({.heads_q = 2 * group,
                                    .heads_kv = 2,
                                    .seqlen_q = 3,
                                    .seqlen_k = 150,
                                    .head_dim = 32,
                                    .head_dim_v = 48,
                                    .mask = mask},
                                   3);
        p.seqlens_k = {131};
        for (const int64_t j : {80, 127, 129, 131, 140, 149}) {
          p.V.row(0, 0, j)[5] = poison;
          p.V.row(0, 1, j)[40] = poison;
          if (j > 129) std::fill_n(p.K.row(0, 0, j), 32, poison);
        }
        p.V.Encode();
        p.K.Encode();
        Check(p);
        const CpuResult result = RunModel(p);
        for (int64_t row = 0; row < 2 * group * 3; ++row) {
          for (const int64_t column : {0, 4, 6, 41, 47}) CHECK(std::isfinite(result.O[row * 48 + column]));
        }
      }
    }
  }
}

TEST_CASE("amx decode: special scores, large and tiny numbers") {
  const data::Attention a = {.heads_q = 4, .heads_kv = 2, .seqlen_k = 1100, .head_dim = 64, .head_dim_v = 64};
  for (const double spread : {1e-42, 30.0, 1e4, 1e20}) Check(Bf16Problem(a, 1, spread));
  for (const float factor : {1e-41f, 1e-25f, 1e30f}) {
    CpuProblem p = Bf16Problem(a, 5);
    for (float& v : p.V.values) v *= factor;
    p.V.Encode();
    Check(p);
  }
  for (const float score : {kInfinity, -kInfinity, kNan}) {
    for (const bool all : {false, true}) {
      CpuProblem p = Bf16Problem(a, 6);
      for (float& q : p.Q.values) q = std::abs(q);
      for (int64_t j = all ? 0 : 70; j < (all ? 1100 : 71); ++j) p.K.row(0, 0, j)[3] = score;
      p.Q.Encode();
      p.K.Encode();
      Check(p);
    }
  }
}

TEST_CASE("amx decode: inputs are rounded only when asked") {
  const Problem problem = NormalProblem({.heads_q = 2, .heads_kv = 1, .seqlen_k = 1040, .head_dim = 32}, 1);
  const CpuProblem exact = FromProblem(problem, Format::kBf16, Format::kBf16, Format::kFp32, 0);
  const CpuProblem fp32 = FromProblem(problem, Format::kFp32, Format::kFp32, Format::kFp32, 2);
  CHECK(SameBits(RunModel(fp32, {.threads = 1, .round_inputs = true}), RunModel(exact)));
  CHECK_THROWS_WITH_AS(RunModel(fp32), doctest::Contains("round_inputs"), data::UsageError);
}

}  // namespace
}  // namespace bitflash::reference
