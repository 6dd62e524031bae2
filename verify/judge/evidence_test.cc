#include "verify/judge/evidence.h"

#include <doctest/doctest.h>

#include <cmath>

#include "data/convert.h"
#include "verify/diagnose/locality.h"

namespace bitflash::verify {
namespace {

using data::Tensor;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// A problem of the shape alone: the evidence looks at nothing else.
Problem Shape(int64_t batch, int64_t heads_q, int64_t heads_kv, int64_t rows, int64_t columns) {
  Problem p;
  p.attention = {.batch = batch,
                 .heads_q = heads_q,
                 .heads_kv = heads_kv,
                 .seqlen_q = rows,
                 .seqlen_k = 8,
                 .head_dim = columns,
                 .head_dim_v = columns};
  return p;
}

// Truth 1 with bound 0.25 everywhere, and a kernel that agrees.
struct Setting {
  Problem problem;
  Outputs outputs;
  Truth truth;

  explicit Setting(Problem p) : problem(std::move(p)) {
    const data::Attention& a = problem.attention;
    outputs.o = Tensor::Zeros(data::Format::kFp32, {a.batch, a.heads_q, a.seqlen_q, a.head_dim_v});
    outputs.lse = Tensor::Zeros(data::Format::kFp32, {a.batch, a.heads_q, a.seqlen_q});
    for (float& x : outputs.o.Elements<float>()) x = 1;
    for (float& x : outputs.lse->Elements<float>()) x = 1;
    truth.o.assign(outputs.o.count(), 1);
    truth.o_bound.assign(outputs.o.count(), 0.25);
    truth.lse.assign(outputs.lse->count(), 1);
    truth.lse_bound.assign(outputs.lse->count(), 0.25);
  }
  float& O(int64_t n, int64_t h, int64_t row, int64_t column) {
    const data::Attention& a = problem.attention;
    return outputs.o.Elements<float>()[((n * a.heads_q + h) * a.seqlen_q + row) * a.head_dim_v + column];
  }
  Evidence Judged() {
    Evidence evidence(problem);
    for (int64_t n = 0; n < problem.attention.batch; ++n) {
      const Part part = WholeSequence(problem, n);
      Truth of_sequence;
      const auto cut = [&](const std::vector<double>& x) {
        const size_t count = x.size() / problem.attention.batch;
        return std::vector<double>(x.begin() + n * count, x.begin() + (n + 1) * count);
      };
      of_sequence.o = cut(truth.o), of_sequence.o_bound = cut(truth.o_bound);
      of_sequence.lse = cut(truth.lse), of_sequence.lse_bound = cut(truth.lse_bound);
      evidence.Add(part, Extract(outputs, part), of_sequence);
    }
    return evidence;
  }
};

TEST_CASE("an element is judged against its own bound") {
  Setting s(Shape(1, 1, 1, 2, 4));
  s.O(0, 0, 1, 2) = 1.25F;  // on the bound: right
  CHECK(s.Judged().beyond() == 0);
  s.O(0, 0, 1, 3) = 1.5F;
  const Evidence evidence = s.Judged();
  CHECK(evidence.o().beyond == 1);
  REQUIRE(evidence.o().worst);
  CHECK(evidence.o().worst->index == std::array<int64_t, 4>{0, 0, 1, 3});
  CHECK(evidence.o().worst->score() == 2);
  CHECK(evidence.o().worst->bits == 0x3FC00000);
  CHECK(evidence.o().sum_squared_error == doctest::Approx(0.3125));
  CHECK(evidence.places().by_row == std::vector<int64_t>{0, 1});
  CHECK(evidence.places().by_column == std::vector<int64_t>{0, 0, 0, 1});
}

TEST_CASE("NaN and infinity are never within a bound, and count by position") {
  Setting s(Shape(1, 2, 1, 2, 2));
  s.O(0, 1, 0, 1) = std::nanf("");
  s.O(0, 1, 1, 0) = INFINITY;
  Evidence evidence = s.Judged();
  CHECK(evidence.o().nan == 1);
  CHECK(evidence.o().infinite == 1);
  CHECK(evidence.o().kind_differs == 2);
  CHECK(evidence.o().beyond == 2);
  CHECK(evidence.o().first_kind->index == std::array<int64_t, 4>{0, 1, 0, 1});
  // Where the truth is NaN too there is nothing to say.
  s.truth.o[5] = std::nan("");
  s.truth.o_bound[5] = kInfinity;
  CHECK(s.Judged().o().beyond == 1);
}

TEST_CASE("a bound of 0 demands the truth itself") {
  Setting s(Shape(1, 1, 1, 1, 2));
  s.truth.o_bound = {0, 0};
  CHECK(s.Judged().beyond() == 0);
  s.O(0, 0, 0, 0) = std::nextafter(1.0F, 2.0F);
  CHECK(s.Judged().beyond() == 1);
}

TEST_CASE("a row without keys may have either infinity as its LSE, and nothing else") {
  Setting s(Shape(1, 1, 1, 3, 2));
  s.truth.lse[1] = -kInfinity;
  s.truth.lse_bound[1] = 0;
  s.outputs.lse->Elements<float>()[1] = INFINITY;
  CHECK(s.Judged().beyond() == 0);
  CHECK(s.Judged().lse()->plus_infinity == 1);
  s.outputs.lse->Elements<float>()[1] = -INFINITY;
  CHECK(s.Judged().beyond() == 0);
  s.outputs.lse->Elements<float>()[1] = 0;
  CHECK(s.Judged().lse()->beyond == 1);
  s.outputs.lse->Elements<float>()[1] = std::nanf("");
  CHECK(s.Judged().lse()->beyond == 1);
}

TEST_CASE("all ones are counted: outputs are filled with them before a call") {
  Setting s(Shape(1, 1, 1, 2, 2));
  for (uint32_t& bits : s.outputs.o.Elements<uint32_t>()) bits = 0xFFFFFFFF;
  CHECK(s.Judged().o().all_ones == 4);
}

std::vector<std::string> Statements(Setting& s) { return Locate(s.problem.attention, s.Judged()).statements; }

TEST_CASE("errors are placed in words") {
  using Words = std::vector<std::string>;
  {
    Setting s(Shape(1, 4, 4, 256, 4));
    CHECK(Statements(s).empty());
    for (int64_t row = 128; row < 256; ++row) s.O(0, 2, row, row % 4) = 9;
    CHECK(Statements(s) == Words{"every row from 128 on", "only head 2 of 4"});
  }
  {
    Setting s(Shape(2, 8, 2, 256, 8));
    for (int64_t h : {1, 5}) {
      for (int64_t row = 63; row < 256; row += 64) s.O(1, h, row, 1) = s.O(1, h, row, 5) = 9;
    }
    CHECK(Statements(s) == Words{"row 63 of every 64", "query head 1 of every group of 4", "only sequence 1 of 2",
                                 "only columns 1 and 5 of 8"});
  }
  {
    Setting s(Shape(1, 1, 1, 64, 8));
    for (int64_t row = 0; row < 64; ++row) s.O(0, 0, row, 6) = s.O(0, 0, row, 7) = 9;
    CHECK(Statements(s) == Words{"every row", "only columns 6 to 7 of 8"});
  }
  {
    Setting s(Shape(1, 2, 2, 8, 2));
    s.O(0, 0, 5, 0) = s.O(0, 1, 5, 1) = 9;
    CHECK(Statements(s)[0] == "only row 5 of 8");
  }
  {
    Setting s(Shape(1, 1, 1, 4, 2));
    s.outputs.lse->Elements<float>()[2] = 9;
    CHECK(Statements(s) == Words{"LSE only: O is right"});
  }
}

TEST_CASE("the map has at most 8 x 32 cells, and every judged element is in one") {
  Setting s(Shape(3, 5, 5, 100, 2));
  s.O(2, 4, 99, 0) = 9;
  const Evidence evidence = s.Judged();
  const ErrorPlaces& p = evidence.places();
  CHECK(p.by_cell.size() == 8);
  CHECK(p.by_cell[0].size() == 25);
  CHECK(p.by_cell[7][24] == 1);
  int64_t judged = 0;
  for (const auto& line : p.judged_by_cell) {
    for (const int64_t count : line) judged += count;
  }
  CHECK(judged == 3 * 5 * 100 * 2);
}

}  // namespace
}  // namespace bitflash::verify
