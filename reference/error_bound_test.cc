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

// The header's formulas, one row and one key at a time. `v_scale` and sinks aside.
ErrorBound SlowBound(const Problem& p, const Golden& golden, const Arithmetic& r) {
  const data::Attention& a = p.a;
  const std::vector<double>& V = a.v_is_in_k ? p.K : p.V;
  const auto magnitude = [&](double x) { return x == 0 ? 0 : std::max(std::abs(x), r.operand_floor); };
  const auto chain = [&](int64_t products) {
    return std::ceil(static_cast<double>(products) / r.step_products) *
           ((r.step_products + 1) * std::ldexp(1.0, -r.alignment_bits) + r.accumulator_unit);
  };
  ErrorBound bound{std::vector<double>(golden.O.size()), std::vector<double>(golden.LSE.size()), {}};
  int64_t row = 0;
  for (int64_t n = 0; n < a.batch; ++n) {
    for (int64_t h = 0; h < a.heads_q; ++h) {
      for (int64_t i = 0; i < a.seqlen_q; ++i, ++row) {
        const KeyRange keys = VisibleKeys(a.mask, a.seqlen_q, p.keys(n), i);
        if (keys.begin >= keys.end) continue;
        std::vector<double> s;
        double most = 0, largest = -INFINITY, worst = 0;
        for (int64_t j = keys.begin; j < keys.end; ++j) {
          double dot = 0, products = 0;
          for (int64_t c = 0; c < a.head_dim; ++c) {
            const double q = p.Q[p.q(n, h, i) + c], k = p.K[p.k(n, h / a.group(), j) + c];
            dot += q * k;
            products += magnitude(q) * magnitude(k);
          }
          s.push_back(a.softcap > 0 ? a.softcap * std::tanh(dot * a.scale() / a.softcap) : dot * a.scale());
          most = std::max(most, products * a.scale());
          largest = std::max(largest, s.back());
          worst = std::max(worst, std::abs(s.back()));
        }
        const double u = 0x1p-24, e = r.exponential_error;
        double ds = most * (std::expm1(chain(a.head_dim)) + 2 * r.input_unit + r.input_unit * r.input_unit) +
                    r.score_roundings * u * (worst + std::abs(largest)) + r.score_unit * (worst + 0x1p-14);
        if (a.softcap > 0) ds += 3 * u * most + r.tanh_unit * worst;
        const double R = static_cast<double>(r.rescales) * (e + 2 * u);
        const double A = static_cast<double>(r.keys_per_sum + 8) * u;
        const double lse = golden.LSE[row], l = r.p_is_normalized ? 1 : std::exp(lse - largest);
        const double g = chain(keys.end - keys.begin);
        const double relative = std::expm1(2 * ds + r.p_unit + r.input_unit + 2 * e + g + 2 * R + A + 2 * u);
        for (int64_t d = 0; d < a.head_dim_v; ++d) {
          double B = 0;
          for (int64_t j = keys.begin; j < keys.end; ++j) {
            const int64_t column = (a.v_is_in_k ? p.k(n, h / a.group(), j) : p.v(n, h / a.group(), j)) + d;
            B += magnitude(V[column]) * (std::exp(s[j - keys.begin] - lse) * relative + r.p_floor / l +
                                         std::expm1(g) * r.p_operand_floor / l + 0x1p-126);
          }
          const int64_t at = row * a.head_dim_v + d;
          bound.O[at] = B + r.output_unit * (std::abs(golden.O[at]) + B) + r.output_floor;
        }
        bound.LSE[row] = ds + e + R + A + 4 * u * (std::abs(lse) + 1);
      }
    }
  }
  return bound;
}

TEST_CASE("the bounds are those of the formulas, row by row and key by key") {
  for (uint64_t seed = 0; seed < 150; ++seed) {
    CAPTURE(seed);
    const Problem p = RandomProblem(seed);
    const data::Format formats[] = {data::Format::kBf16, data::Format::kFp16, data::Format::kFp32,
                                    data::Format::kTf32, data::Format::kE4m3, data::Format::kE5m2};
    Arithmetic arithmetic = Arithmetic::ForFormat(formats[seed % 6]);
    arithmetic.output_max = INFINITY;
    arithmetic.rescales = 3;
    arithmetic.keys_per_sum = 100;
    arithmetic.p_is_normalized = seed % 4 == 0;
    if (seed % 5 == 0) arithmetic.score_unit = 0x1p-8;
    const auto [golden, bound] = BoundAttention(p.a, p.inputs(), {}, arithmetic);
    const ErrorBound slow = SlowBound(p, golden, arithmetic);
    // The sums run in another order; tanh of the golden attention is Eigen's.
    const auto near = [](double x, double y) { return x == y || std::abs(x - y) <= 1e-9 * y; };
    for (size_t n = 0; n < slow.O.size(); ++n) {
      REQUIRE(near(bound.O[n], slow.O[n]));
      REQUIRE(bound.O_sigma[n] <= 1.01 * bound.O[n]);
    }
    for (size_t n = 0; n < slow.LSE.size(); ++n) REQUIRE(near(bound.LSE[n], slow.LSE[n]));
    const Golden alone = GoldenAttention(p.a, p.inputs());
    REQUIRE((alone.O == golden.O && alone.LSE == golden.LSE));
  }
}

TEST_CASE("a sink is a key whose value is zero") {
  Problem p =
      NormalProblem({.heads_q = 2, .heads_kv = 1, .seqlen_q = 5, .seqlen_k = 7, .head_dim = 4, .head_dim_v = 3}, 3);
  const std::vector<double> sinks = {1.5, -INFINITY};
  const auto [golden, bound] =
      BoundAttention(p.a, p.inputs(), {}, Arithmetic::ForFormat(data::Format::kBf16), {.v_scale = 2, .sinks = sinks});
  const auto [plain, plain_bound] = BoundAttention(p.a, p.inputs(), {}, Arithmetic::ForFormat(data::Format::kBf16));
  for (int64_t i = 0; i < 5; ++i) {
    const double l = std::exp(plain.LSE[i]), share = l / (l + std::exp(1.5));
    CHECK(golden.LSE[i] == doctest::Approx(std::log(l + std::exp(1.5))).epsilon(1e-12));
    CHECK(golden.O[i * 3] == doctest::Approx(2 * share * plain.O[i * 3]).epsilon(1e-12));
    CHECK(bound.O[i * 3] == doctest::Approx(2 * share * plain_bound.O[i * 3]).epsilon(0.01));
    CHECK(golden.LSE[5 + i] == plain.LSE[5 + i]);
    CHECK(golden.O[15 + i * 3] == 2 * plain.O[15 + i * 3]);
  }
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
