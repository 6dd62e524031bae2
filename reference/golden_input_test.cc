// What goes in: special values, parts of a problem, strides, fp32, and what is refused.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "data/error.h"
#include "reference/golden.h"
#include "reference/golden_testing.h"
#include "reference/visible.h"

namespace bitflash::reference {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
const double kNaN = std::nan("");

data::Attention OneHead(int64_t seqlen_q, int64_t seqlen_k, data::Mask mask = data::Mask::Full()) {
  return {.seqlen_q = seqlen_q, .seqlen_k = seqlen_k, .head_dim = 16, .head_dim_v = 16, .mask = mask};
}

TEST_CASE("what a row does not see cannot reach it, what it sees does") {
  for (const data::Mask mask : {data::Mask::Causal(), data::Mask::CausalTopLeft(), data::Mask::Window(30, 5)}) {
    const Problem clean = NormalProblem(OneHead(150, 300, mask), 1);
    const Golden expected = GoldenAttention(clean.a, clean.inputs());
    for (const double poison : {kNaN, kInfinity, -kInfinity}) {
      for (const int64_t key : {0, 130, 200, 299}) {
        for (const bool in_k : {true, false}) {
          INFO(ToString(mask) << ", " << poison << " in key " << key << (in_k ? " of K" : " of V"));
          Problem p = clean;
          (in_k ? p.K[p.k(0, 0, key) + 3] : p.V[p.v(0, 0, key) + 3]) = poison;
          const Golden golden = GoldenAttention(p.a, p.inputs());
          bool untouched = true, reached = true;
          double largest = 0;
          for (int64_t i = 0; i < p.a.seqlen_q; ++i) {
            const bool seen = Visible(mask, p.a.seqlen_q, p.a.seqlen_k, i, key);
            for (int64_t c = 0; c < p.a.head_dim_v; ++c) {
              const double o = golden.O[i * p.a.head_dim_v + c], e = expected.O[i * p.a.head_dim_v + c];
              if (!seen || (!in_k && c != 3)) {
                untouched = untouched && std::isfinite(o);
                largest = std::max(largest, std::fabs(o - e));
              } else if (!in_k) {
                reached = reached && (std::isnan(poison) ? std::isnan(o) : o == poison);
              } else if (std::isnan(poison)) {
                reached = reached && std::isnan(o);
              }
            }
            if (seen && in_k && std::isnan(poison)) reached = reached && std::isnan(golden.LSE[i]);
            if (!seen || !in_k) untouched = untouched && golden.LSE[i] == expected.LSE[i];
          }
          CHECK(untouched);
          CHECK(reached);
          CHECK(largest <= 1e-14);  // beside an infinite V the sum runs in another order
        }
      }
    }
  }
}

TEST_CASE("keys that nobody may see are as good as absent") {
  Problem p = NormalProblem(OneHead(70, 300), 2);
  p.seqlens_k = {261};
  const Golden expected = GoldenAttention(p.a, p.inputs());
  std::fill(p.K.begin() + p.k(0, 0, 261), p.K.end(), kNaN);
  std::fill(p.V.begin() + p.v(0, 0, 261), p.V.end(), kNaN);
  const Golden golden = GoldenAttention(p.a, p.inputs());
  CHECK(golden.O == expected.O);
  CHECK(golden.LSE == expected.LSE);
}

TEST_CASE("infinite and vanishing scores act as the formulas say") {
  // Q is 1 in its first column and 0 elsewhere, so that a key's score is a quarter of its first column; V is 1, 2, 3...
  Problem p = NormalProblem(OneHead(1, 400), 3);
  std::fill(p.Q.begin(), p.Q.end(), 0.0);
  p.Q[0] = 1;
  std::fill(p.K.begin(), p.K.end(), 0.0);
  for (int64_t j = 0; j < p.a.seqlen_k; ++j) std::fill_n(&p.V[p.v(0, 0, j)], p.a.head_dim_v, j + 1.0);
  const auto score = [&](int64_t j) -> double& { return p.K[p.k(0, 0, j)]; };
  const auto run = [&] { return GoldenAttention(p.a, p.inputs()); };

  for (const int64_t j : {5, 390}) {  // in the first and in the last block of keys
    p.K.assign(p.K.size(), 0.0);
    score(j) = kInfinity;
    CHECK(std::isnan(run().O[0]));
    CHECK(run().LSE[0] == kInfinity);
    score(7) = kNaN;
    CHECK(std::isnan(run().O[0]));
    CHECK(std::isnan(run().LSE[0]));
    p.K.assign(p.K.size(), 0.0);
    for (int64_t other = 0; other < p.a.seqlen_k; ++other) score(other) = other == j ? 1 : -kInfinity;
    CHECK(run().O[0] == j + 1.0);  // the others weigh exactly 0
    CHECK(run().LSE[0] == 0.25);
    for (int64_t other = 0; other < p.a.seqlen_k; ++other) score(other) = other == j ? 0 : -4 * 750.0;
    CHECK(run().O[0] == j + 1.0);
    CHECK(run().LSE[0] == 0);
  }
  for (int64_t j = 0; j < p.a.seqlen_k; ++j) score(j) = -kInfinity;
  CHECK(std::isnan(run().O[0]));
  CHECK(run().LSE[0] == -kInfinity);
  for (int64_t j = 0; j < p.a.seqlen_k; ++j) score(j) = 4e300;  // exp would overflow without the maximum
  CHECK(run().O[0] == doctest::Approx(200.5).epsilon(1e-13));
  CHECK(run().LSE[0] == 1e300);
}

TEST_CASE("a part has the whole's values, and its bits where it consists of whole blocks") {
  data::Attention a = OneHead(300, 400, data::Mask::Causal());
  a.batch = 2, a.heads_q = 3, a.heads_kv = 3;
  const Problem p = NormalProblem(a, 4);
  const Golden whole = GoldenAttention(p.a, p.inputs());
  const auto compare = [&](Range heads, Range rows, double tolerance) {
    const Golden part = GoldenAttention(p.a, p.inputs(), {.heads = heads, .rows = rows});
    REQUIRE(part.LSE.size() == static_cast<size_t>(heads.size() * rows.size()));
    REQUIRE(part.O.size() == part.LSE.size() * a.head_dim_v);
    double largest = 0;
    for (size_t x = 0; x < part.O.size(); ++x) {
      const int64_t row = x / a.head_dim_v, h = heads.begin + row / rows.size(), i = rows.begin + row % rows.size();
      const double difference = std::fabs(part.O[x] - whole.O[(h * a.seqlen_q + i) * a.head_dim_v + x % a.head_dim_v]);
      const double lse = std::fabs(part.LSE[row] - whole.LSE[h * a.seqlen_q + i]);
      largest = std::max({largest, difference, lse});
    }
    CHECK(largest <= tolerance);
  };
  compare({0, 6}, {0, 300}, 0);
  compare({4, 5}, {64, 192}, 0);
  compare({2, 6}, {256, 300}, 0);
  compare({1, 4}, {77, 78}, 1e-14);
  compare({5, 6}, {60, 140}, 1e-14);
  CHECK(GoldenAttention(p.a, p.inputs(), {.rows = Range{7, 7}}).O.empty());
}

TEST_CASE("strides and fp32 change where numbers are read, not what they are") {
  data::Attention a = OneHead(20, 30);
  a.batch = 2, a.heads_q = 4, a.heads_kv = 2;
  Problem p = NormalProblem(a, 5);
  for (std::vector<double>* x : {&p.Q, &p.K, &p.V}) {
    for (double& value : *x) value = static_cast<float>(value);
  }
  // The other usual order, [batch, seqlen, heads, head_dim], in fp32.
  const auto transposed = [&](const std::vector<double>& x, int64_t heads, int64_t rows) {
    std::vector<float> y(x.size());
    for (size_t e = 0; e < x.size(); ++e) {
      const int64_t c = e % 16, i = e / 16 % rows, h = e / 16 / rows % heads, n = e / 16 / rows / heads;
      y[((n * rows + i) * heads + h) * 16 + c] = static_cast<float>(x[e]);
    }
    return y;
  };
  const std::vector<float> Q = transposed(p.Q, 4, 20), K = transposed(p.K, 2, 30), V = transposed(p.V, 2, 30);
  const auto view = [](const std::vector<float>& x, int64_t heads, int64_t rows) {
    return Operand{.elements = std::span<const float>(x), .strides = Strides{rows * heads * 16, 16, heads * 16}};
  };
  const GoldenInputs inputs = {.Q = view(Q, 4, 20), .K = view(K, 2, 30), .V = view(V, 2, 30)};
  CHECK(GoldenAttention(a, inputs).O == GoldenAttention(a, p.inputs()).O);
}

TEST_CASE("bad input is refused by name and value") {
  Problem p = NormalProblem(OneHead(4, 6), 6);
  const auto refused = [&](const char* what, const GoldenInputs& inputs, const GoldenPart& part = {},
                           const GoldenExecution& execution = {}) {
    CHECK_THROWS_WITH_AS(GoldenAttention(p.a, inputs, part, execution), doctest::Contains(what), data::UsageError);
  };
  GoldenInputs inputs = p.inputs();
  inputs.K.elements = std::span<const double>(p.K).first(95);
  refused("tensor K has 95 elements", inputs);
  inputs = p.inputs();
  inputs.V.strides = Strides{0, 0, 17};
  refused("tensor V has 96 elements and strides 0, 0, 17, 1", inputs);
  inputs.V.strides = Strides{0, 0, -16};
  refused("strides of 0 or more", inputs);
  inputs.V.strides = Strides{0, 0, std::numeric_limits<int64_t>::max()};
  refused("inside the elements", inputs);
  refused("rows are [3, 5): expected a range inside [0, 4)", p.inputs(), {.rows = Range{3, 5}});
  refused("heads are [1, 0)", p.inputs(), {.heads = Range{1, 0}});
  refused("instruction set 'mmx': expected one that this machine has, baseline", p.inputs(), {}, {.isa = "mmx"});
  refused("threads is -1", p.inputs(), {}, {.threads = -1});
  p.seqlens_k = {3, 4};
  refused("seqlens_k has 2 entries: expected batch, which is 1", p.inputs());
  p.seqlens_k = {7};
  refused("seqlens_k has an entry 7: expected 0 to seqlen_k, which is 6", p.inputs());
  p.seqlens_k = {};
  p.a.softmax_scale = -1;
  refused("softmax_scale", p.inputs());
}

TEST_CASE("without a key every row is empty") {
  const Problem p = NormalProblem(OneHead(3, 0), 7);
  const Golden golden = GoldenAttention(p.a, p.inputs());
  CHECK(golden.O == std::vector<double>(3 * 16, 0.0));
  CHECK(golden.LSE == std::vector<double>(3, -kInfinity));
}

}  // namespace
}  // namespace bitflash::reference
