// Problems for the tests of the golden attention.
#ifndef BITFLASH_REFERENCE_GOLDEN_TESTING_H_
#define BITFLASH_REFERENCE_GOLDEN_TESTING_H_

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "reference/golden.h"

namespace bitflash::reference {

struct Problem {
  data::Attention a;
  std::vector<double> Q, K, V;
  std::vector<int64_t> seqlens_k;

  GoldenInputs inputs() const { return {.Q = View(Q), .K = View(K), .V = View(V), .seqlens_k = seqlens_k}; }
  int64_t keys(int64_t n) const { return seqlens_k.empty() ? a.seqlen_k : seqlens_k[n]; }

  // Index of the first column of a row.
  int64_t q(int64_t n, int64_t h, int64_t i) const { return Row(n, a.heads_q, h, a.seqlen_q, i) * a.head_dim; }
  int64_t k(int64_t n, int64_t h, int64_t j) const { return Row(n, a.heads_kv, h, a.seqlen_k, j) * a.head_dim; }
  int64_t v(int64_t n, int64_t h, int64_t j) const { return Row(n, a.heads_kv, h, a.seqlen_k, j) * a.head_dim_v; }

 private:
  static Operand View(const std::vector<double>& x) { return {.elements = std::span<const double>(x)}; }
  static int64_t Row(int64_t n, int64_t heads, int64_t h, int64_t rows, int64_t i) {
    return (n * heads + h) * rows + i;
  }
};

// Standard normal values, those of Q times `spread`.
inline Problem NormalProblem(const data::Attention& a, uint64_t seed, double spread = 1) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  const auto fill = [&](int64_t count, double factor) {
    std::vector<double> x(count);
    for (double& value : x) value = factor * normal(random);
    return x;
  };
  Problem p = {.a = a};
  p.Q = fill(a.batch * a.heads_q * a.seqlen_q * a.head_dim, spread);
  p.K = fill(a.batch * a.heads_kv * a.seqlen_k * a.head_dim, 1);
  if (!a.v_is_in_k) p.V = fill(a.batch * a.heads_kv * a.seqlen_k * a.head_dim_v, 1);
  return p;
}

// A small problem of any kind: every mask, grouped heads, ragged lengths, rows that see nothing, softcap, V inside K.
inline Problem RandomProblem(uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto draw = [&](int64_t least, int64_t most) {
    return std::uniform_int_distribution<int64_t>(least, most)(random);
  };
  data::Attention a;
  a.batch = draw(1, 2);
  a.heads_kv = draw(1, 2);
  a.heads_q = a.heads_kv * draw(1, 3);
  a.seqlen_q = draw(0, 3) == 0 ? draw(1, 150) : draw(1, 20);  // blocks have 64 rows
  a.seqlen_k = draw(0, 3) == 0 ? draw(1, 600) : draw(0, 40);  // and 256 keys
  a.head_dim = draw(1, 40);
  a.head_dim_v = draw(0, 1) == 0 ? a.head_dim : draw(1, 40);
  const int64_t left = draw(-1, 30), right = draw(-1, 30);
  const data::Mask masks[] = {data::Mask::Full(), data::Mask::Causal(), data::Mask::CausalTopLeft(),
                              data::Mask::Window(left, right)};
  a.mask = masks[draw(0, 3)];
  if (draw(0, 2) == 0) a.softmax_scale = 0.01 * static_cast<double>(draw(1, 100));
  if (draw(0, 2) == 0) a.softcap = static_cast<double>(draw(1, 50));
  if (draw(0, 3) == 0) {
    a.v_is_in_k = true;
    a.head_dim_v = std::min(a.head_dim, a.head_dim_v);
  }
  Problem p = NormalProblem(a, seed, draw(0, 2) == 0 ? 10 : 1);
  if (draw(0, 2) == 0) {
    for (int64_t n = 0; n < a.batch; ++n) p.seqlens_k.push_back(draw(0, a.seqlen_k));
  }
  return p;
}

}  // namespace bitflash::reference

#endif  // BITFLASH_REFERENCE_GOLDEN_TESTING_H_
