// The second witness, held against fp64 on everything it may be asked.
#include "verify/judge/witness.h"

#include <doctest/doctest.h>

#include <cmath>
#include <random>

#include "data/convert.h"
#include "verify/judge/judge.h"
#include "verify/judge/truth_testing.h"
#include "verify/judge/witness_parts.h"

namespace bitflash::verify {
namespace {

using data::Attention;
using data::Format;
using data::Mask;

const CpuKernel& Simd() { return *FindCpuKernel("cpu-simd"); }

// Both witnesses of one sequence.
struct Pair {
  Truth truth;
  Witness witness;
  WitnessCheck check;
};

Pair Both(const Problem& p, int64_t sequence = 0) {
  const Part part = WholeSequence(p, sequence);
  const Problem cut = Extract(p, part);
  const reference::Arithmetic subject = ArithmeticOf(cut, cut.attention.format);
  Pair both{ComputeTruth(cut, subject), ComputeWitness(cut, subject, Simd()), {}};
  AddCheck(part, p.attention.head_dim_v, both.witness, both.truth, &both.check);
  return both;
}

// The bounds hold the subject's and the witness's error, so they are never tighter than those of fp64; and where both
// witnesses speak they say the same kind of number.
void CheckAgainstTruth(const Pair& both) {
  CHECK(both.check.beyond == 0);
  const auto check = [](const std::vector<double>& mine, const std::vector<double>& bound,
                        const std::vector<double>& error, const std::vector<double>& exact,
                        const std::vector<double>& exact_bound) {
    int64_t tighter = 0, other_kind = 0;
    for (size_t n = 0; n < mine.size(); ++n) {
      if (std::isinf(error[n])) continue;
      other_kind += std::isfinite(exact[n]) ? !std::isfinite(mine[n])
                                            : !(std::isnan(mine[n]) && std::isnan(exact[n])) && mine[n] != exact[n];
      if (std::isfinite(exact[n])) tighter += bound[n] < exact_bound[n];
    }
    CHECK(tighter == 0);
    CHECK(other_kind == 0);
  };
  const Witness& w = both.witness;
  check(w.truth.o, w.truth.o_bound, w.o_error, both.truth.o, both.truth.o_bound);
  check(w.truth.lse, w.truth.lse_bound, w.lse_error, both.truth.lse, both.truth.lse_bound);
}

void Random(uint64_t seed, int problems, bool special) {
  std::mt19937_64 rng(seed);
  int judged = 0;
  double worst = 0;
  for (int trial = 0; trial < problems; ++trial) {
    Problem p = RandomTruthProblem(rng, 90);
    if (!WhyNoWitness(Simd(), p).empty()) continue;
    if (special) {
      // A few values that are not finite, in one tensor or in several.
      const auto spoil = [&](data::Tensor& tensor) {
        if (tensor.shape()[2] == 0) return;
        for (int64_t n = static_cast<int64_t>(rng() % 3); n > 0; --n) {
          std::vector<int64_t> at;
          for (const int64_t extent : tensor.shape())
            at.push_back(static_cast<int64_t>(rng() % static_cast<uint64_t>(extent)));
          const float values[] = {NAN, INFINITY, -INFINITY};
          tensor.SetBits(at, data::Encode(p.attention.format, values[rng() % 3]));
        }
      };
      spoil(p.q), spoil(p.k);
      if (!p.attention.v_is_in_k) spoil(p.v);
    }
    CAPTURE(trial);
    CAPTURE(data::ToString(p.attention));
    CAPTURE(p.attention.softcap);
    for (int64_t n = 0; n < p.attention.batch; ++n) {
      if (p.queries(n) == 0) continue;
      const Pair both = Both(p, n);
      CheckAgainstTruth(both);
      worst = std::max(worst, both.check.worst);
      judged += both.check.elements > 0;
    }
  }
  MESSAGE("largest error of the witness in units of its own bound: ", worst);
  CHECK(judged > problems / 8);
  CHECK(worst > 0.01);  // a bound that nothing comes near would check nothing
}

TEST_CASE("witness: agrees with fp64 on random problems, and its bounds are never tighter") { Random(1, 250, false); }

TEST_CASE("witness: NaN and infinities are those of fp64, by position") { Random(2, 400, true); }

// One head of three keys with the scores 1, a and b, that a kernel reaches through Q = (1, 0, ...).
Problem Scores(float a, float b, Format format = Format::kFp32) {
  Problem p;
  p.attention = {.seqlen_q = 1, .seqlen_k = 3, .head_dim = 1, .head_dim_v = 1, .softmax_scale = 1.0, .format = format};
  const auto tensor = [&](std::vector<float> values) {
    data::Tensor t = data::Tensor::Zeros(format, {1, 1, static_cast<int64_t>(values.size()), 1});
    for (size_t n = 0; n < values.size(); ++n)
      t.SetBits({0, 0, static_cast<int64_t>(n), 0}, data::Encode(format, values[n]));
    return t;
  };
  p.q = tensor({1});
  p.k = tensor({1, a, b});
  p.v = tensor({1, 2, 3});
  return p;
}

TEST_CASE("witness: a NaN score decides O and LSE, also beside scores of +inf and -inf") {
  for (const float other : {INFINITY, -INFINITY, 2.0F}) {
    for (const bool first : {false, true}) {
      CAPTURE(other);
      const Pair both = Both(first ? Scores(NAN, other) : Scores(other, NAN));
      CHECK(std::isnan(both.truth.lse[0]));
      CHECK(std::isnan(both.witness.truth.lse[0]));
      CHECK(std::isnan(both.witness.truth.o[0]));
      CheckAgainstTruth(both);
    }
  }
  // The same where the NaN comes from infinities: a product of +inf and 0 beside one of +inf and 1.
  Problem p = Scores(1, 0);
  p.q.SetBits({0, 0, 0, 0}, data::Encode(Format::kFp32, INFINITY));
  const Pair both = Both(p);
  CHECK(std::isnan(both.truth.lse[0]));
  CHECK(std::isnan(both.witness.truth.lse[0]));
  // Infinities alone: O is inf / inf, LSE infinite.
  const Pair plus = Both(Scores(INFINITY, 2));
  CHECK(plus.truth.lse[0] == INFINITY);
  CHECK(plus.witness.truth.lse[0] == INFINITY);
  CHECK(std::isnan(plus.witness.truth.o[0]));
}

TEST_CASE("witness: where it may overflow it says nothing") {
  Problem p = Scores(2, 3);
  p.q.SetBits({0, 0, 0, 0}, data::Encode(Format::kFp32, 3e38F));
  const Pair overflow = Both(p);
  CHECK(overflow.witness.open == 2);
  CHECK(std::isfinite(overflow.witness.truth.lse[0]));
}

TEST_CASE("witness: bounds are near those of fp64 for ordinary inputs") {
  const Attention a{.heads_q = 4,
                    .heads_kv = 2,
                    .seqlen_q = 64,
                    .seqlen_k = 200,
                    .head_dim = 64,
                    .head_dim_v = 64,
                    .mask = Mask::Causal(),
                    .format = Format::kBf16};
  for (const auto& [format, most] : {std::pair{Format::kBf16, 1.3}, {Format::kFp16, 2.0}, {Format::kFp32, 4.0}}) {
    Attention of_format = a;
    of_format.format = format;
    const Pair both = Both(GenerateProblem(of_format, data::Distribution::kHashNormal, 3));
    double ratio = 0;
    for (size_t n = 0; n < both.truth.o.size(); ++n) {
      ratio = std::max(ratio, both.witness.truth.o_bound[n] / both.truth.o_bound[n]);
    }
    CAPTURE(data::Name(of_format.format));
    CAPTURE(ratio);
    CHECK(ratio < most);
    CHECK(both.witness.open == 0);
  }
}

TEST_CASE("witness: formats and sinks that it does not take") {
  Problem p = Scores(1, 2);
  CHECK(WhyNoWitness(Simd(), p).empty());
  p.sinks = {1};
  CHECK(WhyNoWitness(Simd(), p).find("sinks") != std::string::npos);
  CHECK(WhyNoWitness(Simd(), Scores(1, 2, Format::kE4m3)).find("e4m3") != std::string::npos);
}

TEST_CASE("witness: every row is seen by fp64 or by it, never by both") {
  std::mt19937_64 rng(5);
  for (int trial = 0; trial < 60; ++trial) {
    const Attention a{.batch = 1 + static_cast<int64_t>(rng() % 3),
                      .heads_q = 6,
                      .heads_kv = 3,
                      .seqlen_q = 1 + static_cast<int64_t>(rng() % 300),
                      .seqlen_k = 64,
                      .head_dim = 8,
                      .head_dim_v = 8,
                      .format = Format::kBf16};
    Problem p = GenerateProblem(a, data::Distribution::kHashNormal, 1);
    if (trial % 2 == 0) {
      for (int64_t n = 0; n < a.batch; ++n) p.seqlens_q.push_back(static_cast<int64_t>(rng() % (a.seqlen_q + 1)));
      p.seqlens_k.assign(a.batch, 50);
    }
    const std::vector<Part> parts = ChooseParts(p, 1 + static_cast<int64_t>(rng() % 200000));
    std::vector<int> seen(a.batch * a.heads_q * a.seqlen_q);
    const auto mark = [&](const Part& part) {
      for (int64_t h = part.heads.begin; h < part.heads.end; ++h) {
        for (int64_t row = part.rows.begin; row < part.rows.end; ++row) {
          ++seen[(part.sequence * a.heads_q + h) * a.seqlen_q + row];
        }
      }
    };
    for (const Part& part : parts) mark(part);
    for (const Part& chunk : WitnessChunks(p)) {
      for (const Part& part : Unseen(chunk, parts)) mark(part);
    }
    for (int64_t n = 0; n < a.batch * a.heads_q * a.seqlen_q; ++n) {
      REQUIRE(seen[n] == (n % a.seqlen_q < p.queries(n / a.seqlen_q / a.heads_q) ? 1 : 0));
    }
  }
}

}  // namespace
}  // namespace bitflash::verify
