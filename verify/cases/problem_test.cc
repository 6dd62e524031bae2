#include "verify/cases/problem.h"

#include <doctest/doctest.h>

#include <random>

#include "data/error.h"
#include "reference/visible.h"

namespace bitflash::verify {
namespace {

using data::Attention;
using data::Mask;
using data::Tensor;

// Every element is its own row-major index, so that a slice tells where it came from.
Tensor Numbered(std::vector<int64_t> shape) {
  Tensor tensor = Tensor::Zeros(data::Format::kFp32, std::move(shape));
  for (int64_t i = 0; i < tensor.count(); ++i) tensor.Elements<uint32_t>()[i] = static_cast<uint32_t>(i);
  return tensor;
}

Problem MakeProblem(const Attention& a) {
  Problem p;
  p.attention = a;
  p.q = Numbered({a.batch, a.heads_q, a.seqlen_q, a.head_dim});
  p.k = Numbered({a.batch, a.heads_kv, a.seqlen_k, a.head_dim});
  p.v = Numbered({a.batch, a.heads_kv, a.seqlen_k, a.head_dim_v});
  return p;
}

Attention Small(int64_t queries, int64_t keys, const Mask& mask) {
  return {.batch = 2,
          .heads_q = 6,
          .heads_kv = 2,
          .seqlen_q = queries,
          .seqlen_k = keys,
          .head_dim = 2,
          .head_dim_v = 3,
          .mask = mask,
          .format = data::Format::kFp32};
}

TEST_CASE("an extracted part sees the keys that its rows saw, under every mask") {
  std::mt19937_64 rng(1);
  const auto pick = [&](int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(rng); };
  for (int round = 0; round < 3000; ++round) {
    const int64_t queries = pick(1, 12), keys = pick(0, 12);
    const Mask masks[] = {Mask::Full(), Mask::Causal(), Mask::CausalTopLeft(), Mask::Window(pick(-1, 5), pick(-1, 5))};
    Problem p = MakeProblem(Small(queries, keys, masks[pick(0, 3)]));
    const int64_t own_queries = pick(1, queries), own_keys = pick(0, keys);
    p.seqlens_q = {own_queries, queries};
    p.seqlens_k = {own_keys, keys};
    Part part{0, {0, 0}, {0, 0}};
    part.heads.begin = pick(0, 5);
    part.heads.end = pick(part.heads.begin + 1, 6);
    part.rows.begin = pick(0, own_queries - 1);
    part.rows.end = pick(part.rows.begin + 1, own_queries);
    const Problem cut = Extract(p, part);
    Validate(cut);
    CAPTURE(ToString(p.attention));
    CAPTURE(ToString(cut.attention));
    REQUIRE(cut.attention.seqlen_k <= own_keys);
    for (int64_t row = 0; row < part.rows.size(); ++row) {
      for (int64_t key = 0; key < own_keys; ++key) {
        const bool was = reference::Visible(p.attention.mask, own_queries, own_keys, part.rows.begin + row, key);
        const bool is = key < cut.attention.seqlen_k && reference::Visible(cut.attention.mask, cut.attention.seqlen_q,
                                                                           cut.attention.seqlen_k, row, key);
        REQUIRE(was == is);
      }
    }
    // The first head's first row of Q, and the first key of its KV head.
    CHECK(cut.q.Bits({0, part.heads.begin - FirstHead(p, part), 0, 0}) ==
          p.q.Bits({0, part.heads.begin, part.rows.begin, 0}));
    if (cut.attention.seqlen_k > 0) CHECK(cut.k.Bits({0, 0, 0, 1}) == p.k.Bits({0, part.heads.begin / 3, 0, 1}));
  }
}

TEST_CASE("the default scale of a part is the whole problem's") {
  const Problem p = MakeProblem(Small(4, 4, Mask::Full()));
  CHECK(Extract(p, WholeSequence(p, 1)).attention.scale() == p.attention.scale());
  CHECK(Extract(p, WholeSequence(p, 1)).q.Bits({0, 0, 0, 0}) == p.q.Bits({1, 0, 0, 0}));
}

TEST_CASE("outputs are cut as their problem is") {
  const Outputs outputs{Numbered({2, 6, 4, 3}), Numbered({2, 6, 4})};
  const Outputs cut = Extract(outputs, {1, {2, 4}, {1, 3}});
  CHECK(cut.o.shape() == std::vector<int64_t>{1, 2, 2, 3});
  CHECK(cut.o.Bits({0, 1, 1, 2}) == outputs.o.Bits({1, 3, 2, 2}));
  CHECK(cut.lse->Bits({0, 0, 1}) == outputs.lse->Bits({1, 2, 2}));
}

TEST_CASE("what does not fit together is refused with the value and what was expected") {
  Problem p = MakeProblem(Small(4, 5, Mask::Full()));
  p.seqlens_k = {5, 6};
  CHECK_THROWS_WITH_AS(Validate(p), "seqlens_k has an entry 6: expected 0 to 5", data::UsageError);
  p.seqlens_k = {};
  p.k = Numbered({2, 2, 4, 2});
  CHECK_THROWS_WITH_AS(Validate(p), "k has the shape (2, 2, 4, 2): expected (2, 2, 5, 2)", data::UsageError);
  CHECK_THROWS_AS(Extract(MakeProblem(Small(4, 5, Mask::Full())), {0, {0, 1}, {2, 2}}), data::UsageError);
}

}  // namespace
}  // namespace bitflash::verify
