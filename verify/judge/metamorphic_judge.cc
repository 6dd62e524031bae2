#include "verify/judge/metamorphic_judge.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "verify/judge/compare.h"

namespace bitflash::verify {
namespace {

// Calls function(row, index of the row) for every row of [batch, heads_q, seqlen_q] that is not padding.
template <typename Function>
void ForEachRow(const Problem& p, Function function) {
  const data::Attention& a = p.attention;
  for (int64_t b = 0; b < a.batch; ++b) {
    for (int64_t h = 0; h < a.heads_q; ++h) {
      for (int64_t s = 0; s < p.queries(b); ++s) {
        function((b * a.heads_q + h) * a.seqlen_q + s, std::vector<int64_t>{b, h, s});
      }
    }
  }
}

// The larger error, in units of its bound, is the result's.
void Record(double error, double bound, const std::string& compared, MetamorphicResult& result) {
  const auto ratio = [](double e, double b) { return e == 0 ? 0 : e / b; };
  const double now = ratio(error, bound), before = ratio(result.error, result.bound);
  if (!result.compared.empty() && !(now > before || (now == before && error > result.error))) return;
  result.compared = compared;
  result.error = error;
  result.bound = bound;
}

void Fail(const std::vector<int64_t>& index, MetamorphicResult& result) {
  result.status = MetamorphicStatus::kFailed;
  if (result.failures++ == 0) result.index = index;
}

// Elements of a contiguous tensor whose bits differ.
void ForEachDifference(const Problem& p, const data::Tensor& a, const data::Tensor& b, int64_t columns,
                       const std::function<void(const std::vector<int64_t>&, double)>& function) {
  const int64_t bytes = a.type().bytes();
  const std::byte* of_a = a.ContiguousBytes().data();
  const std::byte* of_b = b.ContiguousBytes().data();
  ForEachRow(p, [&](int64_t row, std::vector<int64_t> index) {
    if (std::memcmp(of_a + row * columns * bytes, of_b + row * columns * bytes, columns * bytes) == 0) return;
    if (a.dimensions() == 4) index.push_back(0);
    for (int64_t c = 0; c < columns; ++c) {
      if (a.dimensions() == 4) index.back() = c;
      const uint64_t bits_a = a.Bits(index), bits_b = b.Bits(index);
      if (bits_a == bits_b) continue;
      const double error = std::fabs(ValueOf(a.type(), bits_a) - ValueOf(b.type(), bits_b));
      function(index, std::isnan(error) ? std::numeric_limits<double>::infinity() : error);
    }
  });
}

}  // namespace

std::vector<double> Sum(const std::vector<double>& x, const std::vector<double>& y) {
  std::vector<double> sum(x.size());
  for (size_t i = 0; i < x.size(); ++i) sum[i] = x[i] + y[i];
  return sum;
}

void CompareValues(const Problem& p, int64_t columns, const std::vector<double>& got, const std::vector<double>& want,
                   const std::vector<double>& bound, const std::string& compared, MetamorphicResult& result) {
  ForEachRow(p, [&](int64_t row, std::vector<int64_t> index) {
    for (int64_t c = 0; c < columns; ++c) {
      const int64_t i = row * columns + c;
      if (!std::isfinite(bound[i])) continue;
      double error = got[i] == want[i] ? 0 : std::fabs(got[i] - want[i]);
      if (std::isnan(error)) error = std::numeric_limits<double>::infinity();
      Record(error, bound[i], compared, result);
      if (error <= bound[i]) continue;
      std::vector<int64_t> element = index;
      if (columns > 1 || compared.starts_with("O")) element.push_back(c);
      Fail(element, result);
    }
  });
}

bool SameBits(const Problem& p, const Outputs& a, const Outputs& b) {
  bool same = a.lse.has_value() == b.lse.has_value() && a.o.type() == b.o.type();
  if (!same) return false;
  const auto differs = [&](const std::vector<int64_t>&, double) { same = false; };
  ForEachDifference(p, a.o, b.o, p.attention.head_dim_v, differs);
  if (a.lse) ForEachDifference(p, *a.lse, *b.lse, 1, differs);
  return same;
}

void CompareBits(const Problem& p, const Outputs& got, const Outputs& want, const std::string& compared,
                 MetamorphicResult& result) {
  // Nothing may differ; a difference of the smallest size still counts more than none.
  const auto differs = [&](const std::string& what) {
    return [&, what](const std::vector<int64_t>& index, double error) {
      Record(std::max(error, std::numeric_limits<double>::denorm_min()), 0, what, result);
      Fail(index, result);
    };
  };
  if (result.compared.empty()) result.compared = "bits of O " + compared;
  if (got.o.type() != want.o.type() || got.lse.has_value() != want.lse.has_value()) {
    result.compared = "types of the outputs " + compared;
    return Fail({}, result);
  }
  ForEachDifference(p, got.o, want.o, p.attention.head_dim_v, differs("bits of O " + compared));
  if (got.lse) ForEachDifference(p, *got.lse, *want.lse, 1, differs("bits of LSE " + compared));
}

}  // namespace bitflash::verify
