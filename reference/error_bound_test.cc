// The bound against kernels whose roundings are known: what stays inside them, and by how much; what does not.
#include "reference/error_bound.h"

#include <doctest/doctest.h>

#include <cmath>

#include "data/error.h"
#include "reference/golden_testing.h"
#include "reference/visible.h"

namespace bitflash::reference {
namespace {

// To `bits` significant bits, nearest even.
double Round(double x, int bits) {
  if (x == 0 || !std::isfinite(x)) return x;
  const int shift = bits - 1 - std::ilogb(x);
  return std::ldexp(std::nearbyint(std::ldexp(x, shift)), -shift);
}

void RoundAll(std::vector<double>& values, int bits) {
  for (double& x : values) x = Round(x, bits);
}

// A textbook kernel: fp32 scores and sums, P and O rounded to 8 bits (bf16).
Golden RoundedKernel(const Problem& p) {
  const data::Attention& a = p.a;
  Golden result;
  for (int64_t n = 0; n < a.batch; ++n) {
    for (int64_t h = 0; h < a.heads_q; ++h) {
      for (int64_t i = 0; i < a.seqlen_q; ++i) {
        const KeyRange keys = VisibleKeys(a.mask, a.seqlen_q, p.keys(n), i);
        std::vector<float> s, O(a.head_dim_v);
        float m = -INFINITY, l = 0;
        for (int64_t j = keys.begin; j < keys.end; ++j) {
          float dot = 0;
          for (int64_t c = 0; c < a.head_dim; ++c) {
            dot += static_cast<float>(p.Q[p.q(n, h, i) + c] * p.K[p.k(n, h / a.group(), j) + c]);
          }
          s.push_back(dot * static_cast<float>(a.scale()));
          m = std::max(m, s.back());
        }
        for (int64_t j = keys.begin; j < keys.end; ++j) {
          const float weight = std::exp(s[j - keys.begin] - m);
          l += weight;
          for (int64_t d = 0; d < a.head_dim_v; ++d) {
            O[d] += static_cast<float>(Round(weight, 8) * p.V[p.v(n, h / a.group(), j) + d]);
          }
        }
        for (const float o : O) result.O.push_back(l > 0 ? Round(o / l, 8) : 0);
        result.LSE.push_back(l > 0 ? m + std::log(l) : -INFINITY);
      }
    }
  }
  return result;
}

double WorstScore(const std::vector<double>& mine, const std::vector<double>& golden,
                  const std::vector<double>& bound) {
  double worst = 0;
  for (size_t n = 0; n < mine.size(); ++n) {
    if (mine[n] != golden[n]) worst = std::max(worst, std::abs(mine[n] - golden[n]) / bound[n]);
  }
  return worst;
}

TEST_CASE("a kernel with known roundings stays inside the bound, and not far inside") {
  double worst_o = 0, worst_lse = 0;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    Problem p = RandomProblem(seed);
    if (p.a.softcap > 0 || p.a.v_is_in_k) continue;
    CAPTURE(seed);
    RoundAll(p.Q, 8), RoundAll(p.K, 8), RoundAll(p.V, 8);
    Arithmetic arithmetic;
    // An fp32 sum, step by step, is no worse than a tensor-core chain of single products.
    arithmetic.step_products = 1;
    arithmetic.keys_per_sum = p.a.seqlen_k;
    const auto [golden, bound] = BoundAttention(p.a, p.inputs(), {}, arithmetic);
    const Golden mine = RoundedKernel(p);
    const double o = WorstScore(mine.O, golden.O, bound.O), lse = WorstScore(mine.LSE, golden.LSE, bound.LSE);
    CHECK(o <= 1);
    CHECK(lse <= 1);
    worst_o = std::max(worst_o, o);
    worst_lse = std::max(worst_lse, lse);
  }
  CHECK(worst_o > 0.3);  // a bound that nothing comes near would judge nothing
  CHECK(worst_lse > 0.01);
}

TEST_CASE("mistakes are outside the bound, in late rows too") {
  Problem p = NormalProblem({.heads_q = 1,
                             .heads_kv = 1,
                             .seqlen_q = 512,
                             .seqlen_k = 512,
                             .head_dim = 64,
                             .head_dim_v = 64,
                             .mask = data::Mask::Causal()},
                            7);
  RoundAll(p.Q, 8), RoundAll(p.K, 8), RoundAll(p.V, 8);
  const GoldenPart last{.rows = Range{500, 512}};
  Arithmetic arithmetic;
  arithmetic.rescales = 8;
  arithmetic.keys_per_sum = 512;
  const auto [golden, bound] = BoundAttention(p.a, p.inputs(), last, arithmetic);
  const auto wrong_rows = [&golden = golden, &bound = bound](const Golden& mine) {
    int rows = 0;
    for (int64_t i = 0; i < 12; ++i) {
      bool outside = false;
      for (int64_t d = 0; d < 64; ++d)
        outside |= std::abs(mine.O[i * 64 + d] - golden.O[i * 64 + d]) > bound.O[i * 64 + d];
      rows += outside;
    }
    return rows;
  };
  CHECK(wrong_rows(golden) == 0);
  Golden zeros = golden;
  std::fill(zeros.O.begin(), zeros.O.end(), 0.0);
  CHECK(wrong_rows(zeros) == 12);
  data::Attention late = p.a;  // the mask one key too far to the left
  late.mask = data::Mask::Window(data::Mask::kUnlimited, 0);
  late.softmax_scale = p.a.scale() * 1.1;  // and a scale that is 10 % off
  CHECK(wrong_rows(GoldenAttention(late, p.inputs(), last)) == 12);
}

TEST_CASE("what has no bound is refused") {
  const Problem p = NormalProblem({.heads_q = 2, .heads_kv = 2}, 1);
  CHECK_THROWS_AS(Arithmetic::ForFormat(data::Format::kFp64), data::UsageError);
  const std::vector<double> sinks = {1, 2, 3};
  CHECK_THROWS_WITH_AS(BoundAttention(p.a, p.inputs(), {}, {}, {.v_scale = 1, .sinks = sinks}),
                       "sinks has 3 entries: expected heads_q, which is 2, or none", data::UsageError);
}

}  // namespace
}  // namespace bitflash::reference
