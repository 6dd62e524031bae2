// What must hold of attention whatever the numbers are: no other implementation is consulted.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "reference/golden.h"
#include "reference/golden_testing.h"

namespace bitflash::reference {
namespace {

constexpr double kU = 0x1p-53;

Golden Run(const Problem& p) { return GoldenAttention(p.a, p.inputs()); }

double LargestDifference(const std::vector<double>& x, const std::vector<double>& y) {
  REQUIRE(x.size() == y.size());
  double largest = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double difference = x[i] == y[i] ? 0 : std::fabs(x[i] - y[i]);  // equal infinities differ by 0
    if (!(difference <= largest)) largest = difference;
  }
  return largest;
}

// Several blocks of rows and of keys, neither a whole number of blocks.
data::Attention Attention(data::Mask mask) {
  return {.batch = 2,
          .heads_q = 4,
          .heads_kv = 2,
          .seqlen_q = 150,
          .seqlen_k = 603,
          .head_dim = 24,
          .head_dim_v = 20,
          .mask = mask};
}

// Two results of one problem: errors of scores are a few u times |s| < 20, and of sums at most 600 u; typically far
// less.
constexpr double kTolerance = 1000 * kU;

TEST_CASE("V = 1 gives O = 1") {
  for (const data::Mask mask : {data::Mask::Full(), data::Mask::Causal(), data::Mask::Window(40, 3)}) {
    Problem p = NormalProblem(Attention(mask), 1);
    std::fill(p.V.begin(), p.V.end(), 1.0);
    for (const double o : Run(p).O) CHECK(std::fabs(o - 1) <= kTolerance);
  }
}

TEST_CASE("the order of keys does not matter under the full mask") {
  const Problem p = NormalProblem(Attention(data::Mask::Full()), 2);
  Problem permuted = p;
  std::vector<int64_t> order(p.a.seqlen_k);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937_64(2));
  for (int64_t n = 0; n < p.a.batch; ++n) {
    for (int64_t h = 0; h < p.a.heads_kv; ++h) {
      for (int64_t j = 0; j < p.a.seqlen_k; ++j) {
        std::copy_n(&p.K[p.k(n, h, order[j])], p.a.head_dim, &permuted.K[p.k(n, h, j)]);
        std::copy_n(&p.V[p.v(n, h, order[j])], p.a.head_dim_v, &permuted.V[p.v(n, h, j)]);
      }
    }
  }
  const Golden golden = Run(p), again = Run(permuted);
  CHECK(LargestDifference(golden.O, again.O) <= kTolerance);
  CHECK(LargestDifference(golden.LSE, again.LSE) <= kTolerance);
  CHECK(LargestDifference(golden.O, again.O) > 0);  // another order of summation: equal bits would mean no permutation
}

TEST_CASE("a constant added to every score moves LSE and leaves O") {
  // One column: 1 in Q and t in every key.
  for (const double t : {-3.0, 50.0}) {
    Problem p = NormalProblem(Attention(data::Mask::Causal()), 3);
    p.a.softmax_scale = 0.25;
    for (size_t i = 0; i < p.Q.size(); i += p.a.head_dim) p.Q[i] = 1;
    for (size_t j = 0; j < p.K.size(); j += p.a.head_dim) p.K[j] = 0;
    const Golden golden = Run(p);
    for (size_t j = 0; j < p.K.size(); j += p.a.head_dim) p.K[j] = t;
    Golden shifted = Run(p);
    for (double& lse : shifted.LSE) lse -= 0.25 * t;
    CHECK(LargestDifference(golden.O, shifted.O) <= kTolerance);
    CHECK(LargestDifference(golden.LSE, shifted.LSE) <= kTolerance);
  }
}

TEST_CASE("halves of the keys merge through LSE into the whole") {
  const Problem p = NormalProblem(Attention(data::Mask::Full()), 4);
  const Golden whole = Run(p);
  constexpr int64_t kSplit = 257;
  // Views, not copies: the second half starts kSplit rows into each head.
  const auto part = [&](int64_t begin, int64_t end) {
    data::Attention a = p.a;
    a.seqlen_k = end - begin;
    const auto rows = [&](const std::vector<double>& x, int64_t columns) {
      const int64_t head = p.a.seqlen_k * columns;
      return Operand{.elements = std::span<const double>(x).subspan(begin * columns),
                     .strides = Strides{p.a.heads_kv * head, head, columns}};
    };
    GoldenInputs inputs = p.inputs();
    inputs.K = rows(p.K, a.head_dim);
    inputs.V = rows(p.V, a.head_dim_v);
    return GoldenAttention(a, inputs);
  };
  const Golden first = part(0, kSplit), second = part(kSplit, p.a.seqlen_k);
  Golden merged = whole;
  for (size_t row = 0; row < whole.LSE.size(); ++row) {
    const double m = std::max(first.LSE[row], second.LSE[row]);
    const double w1 = std::exp(first.LSE[row] - m), w2 = std::exp(second.LSE[row] - m);
    merged.LSE[row] = m + std::log(w1 + w2);
    for (int64_t c = 0; c < p.a.head_dim_v; ++c) {
      const size_t o = row * p.a.head_dim_v + c;
      merged.O[o] = (w1 * first.O[o] + w2 * second.O[o]) / (w1 + w2);
    }
  }
  CHECK(LargestDifference(whole.O, merged.O) <= kTolerance);
  CHECK(LargestDifference(whole.LSE, merged.LSE) <= kTolerance);
  CHECK(LargestDifference(first.O, second.O) > 0.01);
}

TEST_CASE("a sequence's bits depend on nothing but the sequence") {
  Problem p = NormalProblem(Attention(data::Mask::Causal()), 5);
  std::copy_n(p.Q.begin(), p.Q.size() / 2, p.Q.begin() + p.Q.size() / 2);
  std::copy_n(p.K.begin(), p.K.size() / 2, p.K.begin() + p.K.size() / 2);
  std::copy_n(p.V.begin(), p.V.size() / 2, p.V.begin() + p.V.size() / 2);
  const Golden golden = Run(p);
  CHECK(std::equal(golden.O.begin(), golden.O.begin() + golden.O.size() / 2, golden.O.begin() + golden.O.size() / 2));
  CHECK(std::equal(golden.LSE.begin(), golden.LSE.begin() + golden.LSE.size() / 2,
                   golden.LSE.begin() + golden.LSE.size() / 2));
}

TEST_CASE("query heads of a group are the heads of a problem with repeated keys") {
  const Problem p = NormalProblem(Attention(data::Mask::Causal()), 6);
  Problem repeated = p;
  repeated.a.heads_kv = p.a.heads_q;
  repeated.K.clear(), repeated.V.clear();
  for (int64_t n = 0; n < p.a.batch; ++n) {
    for (int64_t h = 0; h < p.a.heads_q; ++h) {
      const int64_t k = p.k(n, h / 2, 0), v = p.v(n, h / 2, 0);
      repeated.K.insert(repeated.K.end(), &p.K[k], &p.K[k] + p.a.seqlen_k * p.a.head_dim);
      repeated.V.insert(repeated.V.end(), &p.V[v], &p.V[v] + p.a.seqlen_k * p.a.head_dim_v);
    }
  }
  CHECK(Run(p).O == Run(repeated).O);
}

TEST_CASE("the same bits for every number of threads, on every instruction set") {
  for (const data::Mask mask : {data::Mask::Full(), data::Mask::Window(100, 7)}) {
    const Problem p = NormalProblem(Attention(mask), 7);
    for (const std::string_view isa : GoldenIsas()) {
      const Golden golden = GoldenAttention(p.a, p.inputs(), {}, {.threads = 1, .isa = isa});
      for (const int threads : {2, 3, 16}) {
        const Golden again = GoldenAttention(p.a, p.inputs(), {}, {.threads = threads, .isa = isa});
        CHECK(again.O == golden.O);
        CHECK(again.LSE == golden.LSE);
      }
    }
  }
}

TEST_CASE("instruction sets differ by rounding only") {
  const Problem p = NormalProblem(Attention(data::Mask::Causal()), 8);
  const Golden baseline = GoldenAttention(p.a, p.inputs(), {}, {.isa = "baseline"});
  for (const std::string_view isa : GoldenIsas()) {
    const Golden other = GoldenAttention(p.a, p.inputs(), {}, {.isa = isa});
    CHECK(LargestDifference(baseline.O, other.O) <= kTolerance);
    CHECK(LargestDifference(baseline.LSE, other.LSE) <= kTolerance);
  }
}

}  // namespace
}  // namespace bitflash::reference
