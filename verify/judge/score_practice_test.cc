// Kernels that round their scores to 16 bits, written out step by step: each passes, by the name of what it does, and
// none of them with a mistake in it.
#include "verify/judge/score_practice.h"

#include <doctest/doctest.h>

#include <cmath>
#include <numbers>
#include <string>

#include "data/convert.h"
#include "verify/judge/criteria.h"
#include "verify/judge/judge.h"
#include "verify/judge/tensor_values.h"
#include "verify/judge/truth_testing.h"
#include "verify/subjects/simulated_subject.h"

namespace bitflash::verify {
namespace {

using data::Attention;
using data::Format;
using data::Mask;

Problem Normal(Attention a, uint64_t seed = 1, data::Distribution distribution = data::Distribution::kHashNormal) {
  Problem p;
  p.attention = a;
  GenerateTensors(distribution, seed, &p);
  return p;
}

Attention Shape(Format format, const Mask& mask = Mask::Causal()) {
  return {.heads_q = 4,
          .heads_kv = 2,
          .seqlen_q = 96,
          .seqlen_k = 150,
          .head_dim = 72,
          .head_dim_v = 40,
          .mask = mask,
          .format = format};
}

// Unfused attention, fp32 between the roundings of the practice.
Outputs Eager(const Problem& p, std::string_view practice) {
  const Attention& a = p.attention;
  const auto R = [&](float x) { return static_cast<float>(data::Decode(a.format, data::Encode(a.format, x))); };
  const std::vector<double> Q = ToDoubles(p.q), K = ToDoubles(p.k), V = ToDoubles(p.v);
  const bool scaled_query = practice.starts_with("scaled-query");
  const float log2e = practice == "scaled-query-log2" ? std::numbers::log2e_v<float> : 1;
  const auto scale = static_cast<float>(a.scale());
  Outputs out{data::Tensor::Zeros(a.format, {a.batch, a.heads_q, a.seqlen_q, a.head_dim_v}),
              data::Tensor::Zeros(Format::kFp32, {a.batch, a.heads_q, a.seqlen_q})};
  for (int64_t h = 0; h < a.heads_q; ++h) {
    for (int64_t i = 0; i < a.seqlen_q; ++i) {
      const reference::KeyRange keys = reference::VisibleKeys(a.mask, a.seqlen_q, a.seqlen_k, i);
      std::vector<float> q(Q.begin() + (h * a.seqlen_q + i) * a.head_dim,
                           Q.begin() + (h * a.seqlen_q + i + 1) * a.head_dim);
      for (float& x : q) x = scaled_query ? R(x * (scale * log2e)) : x;
      std::vector<float> s;
      float m = -INFINITY, sum = 0;
      for (int64_t j = keys.begin; j < keys.end; ++j) {
        float dot = 0;
        for (int64_t c = 0; c < a.head_dim; ++c) {
          dot += q[c] * static_cast<float>(K[(h / a.group() * a.seqlen_k + j) * a.head_dim + c]);
        }
        if (practice == "product" || practice == "every-step" || practice == "scaled-query") dot = R(dot);
        dot *= scaled_query ? 1 / log2e : scale;
        if (practice == "scaled" || practice == "every-step") dot = R(dot);
        s.push_back(dot);
        m = std::max(m, dot);
      }
      for (float& x : s) sum += x = std::exp(x - m);
      for (float& x : s) x = R(x / sum);
      for (int64_t d = 0; d < a.head_dim_v && sum > 0; ++d) {
        float o = 0;
        for (size_t j = 0; j < s.size(); ++j) {
          o += s[j] * static_cast<float>(
                          V[(h / a.group() * a.seqlen_k + keys.begin + static_cast<int64_t>(j)) * a.head_dim_v + d]);
        }
        out.o.SetBits({0, h, i, d}, data::Encode(a.format, o));
      }
      out.lse->SetBits({0, h, i}, std::bit_cast<uint32_t>(sum > 0 ? m + std::log(sum) : -INFINITY));
    }
  }
  return out;
}

JudgeOptions NoSearch() { return {.variant_work = 0}; }

TEST_CASE("every practice passes by its own name") {
  for (const Format format : {Format::kBf16, Format::kFp16}) {
    for (const ScorePractice& practice : ScorePractices()) {
      CAPTURE(practice.id);
      const Problem p = Normal(Shape(format));
      const Judgement j = Judge(p, Eager(p, practice.id), NoSearch());
      CHECK(j.rung == Rung::kBounded);
      REQUIRE(j.practice);
      CHECK(j.practice->practice->id == practice.id);
      CHECK(j.practice->examined == j.practice->rows);
      CHECK(j.evidence.beyond() > 0);
      CHECK(j.reason.find(Text(practice, format)) != std::string::npos);
    }
  }
}

TEST_CASE("the simulated standard kernel and FlashAttention's reference are among them") {
  const Problem p = Normal(Shape(Format::kBf16));
  const sim::Kernel& standard = sim::FindKernel("standard");
  const SimulatedKernel kernel = PublishedTilings(standard, data::LoadGpu("h200"))(p.attention);
  CHECK(Judge(p, RunSimulated(kernel, p), NoSearch()).practice->practice->id == "product");

  const std::vector<float> o = LowPrecisionAttention(p);
  Outputs outputs{data::Tensor::Zeros(Format::kBf16, {1, 4, 96, 40}), {}};
  for (size_t i = 0; i < o.size(); ++i) {
    outputs.o.Elements<uint16_t>()[i] = static_cast<uint16_t>(data::Encode(Format::kBf16, o[i]));
  }
  const Judgement j = Judge(p, outputs, NoSearch());
  CHECK(j.rung == Rung::kBounded);
  REQUIRE(j.practice);
  CHECK(j.practice->practice->id == "scaled-query");
}

TEST_CASE("a mistake in such a kernel is found: an element, an LSE, a mask, a scale") {
  for (const ScorePractice& practice : ScorePractices()) {
    CAPTURE(practice.id);
    const Problem p = Normal(Shape(Format::kBf16));
    const Outputs right = Eager(p, practice.id);
    Outputs zero = {right.o.Clone(), right.lse};
    zero.o.SetBits({0, 3, 95, 7}, 0);
    CHECK(Judge(p, zero, NoSearch()).rung == Rung::kWrong);
    Outputs lse = {right.o, right.lse->Clone()};
    lse.lse->Elements<float>()[17] += 0.01F;
    CHECK(Judge(p, lse, NoSearch()).rung == Rung::kWrong);
    Problem other = p;
    other.attention.mask = Mask::CausalTopLeft();
    CHECK(Judge(p, Eager(other, practice.id), NoSearch()).rung == Rung::kWrong);
    other = p;
    other.attention.softmax_scale = p.attention.scale() * 1.01;
    CHECK(Judge(p, Eager(other, practice.id), NoSearch()).rung == Rung::kWrong);
  }
}

TEST_CASE("no practice excuses a fused kernel's mistake") {
  const Problem p = Normal(Shape(Format::kBf16));
  const SimulatedKernel fa2 = PublishedTilings(sim::FindKernel("fa2"), data::LoadGpu("h200"))(p.attention);
  const Outputs right = RunSimulated(fa2, p);
  CHECK(!FindScorePractice(p, right));  // nothing to explain
  Outputs wrong = {right.o.Clone(), right.lse};
  const int64_t at = ((3 * 96) + 90) * 40 + 7;  // of a row that sees many keys
  wrong.o.Elements<uint16_t>()[at] = 0;
  CHECK(!FindScorePractice(p, wrong));
}

TEST_CASE("scores that overflow fp16 are a mistake") {
  const Problem p = Normal(Shape(Format::kFp16, Mask::Full()), 1, data::Distribution::kExtreme);
  const SimulatedKernel standard = PublishedTilings(sim::FindKernel("standard"), data::LoadGpu("h200"))(p.attention);
  CHECK(Judge(p, RunSimulated(standard, p), NoSearch()).rung == Rung::kWrong);
}

}  // namespace
}  // namespace bitflash::verify
