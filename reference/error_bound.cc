#include "reference/error_bound.h"

#include <algorithm>
#include <string>

#include "data/error.h"
#include "reference/golden_operand.h"
#include "reference/visible.h"

namespace bitflash::reference {
namespace {

constexpr double kEx2Error = 0x1.84p-23;  // 2^-22.4

// One row against all keys of its head; the scores of a row are kept between the passes.
class RowBound {
 public:
  RowBound(const data::Attention& a, const Arithmetic& arithmetic) : a_(a), r_(arithmetic) {}

  // K and V are the head's rows in fp64, `golden_o` and `bound_o` the row's head_dim_v columns.
  double Evaluate(const double* q, const std::vector<double>& K, const std::vector<double>& V, KeyRange keys,
                  double lse, const double* golden_o, double* bound_o) {
    std::fill_n(bound_o, a_.head_dim_v, 0.0);
    const int64_t count = keys.end - keys.begin;
    if (count <= 0) return 0;
    scores_.resize(count);
    double worst_magnitude = 0, largest = -INFINITY, smallest = INFINITY;
    for (int64_t j = 0; j < count; ++j) {
      const double* k = K.data() + (keys.begin + j) * a_.head_dim;
      double dot = 0, magnitude = 0;
      for (int64_t c = 0; c < a_.head_dim; ++c) {
        const double product = q[c] * k[c];
        dot += product;
        magnitude += std::abs(product);
      }
      scores_[j] = dot * a_.scale();
      worst_magnitude = std::max(worst_magnitude, magnitude);
      largest = std::max(largest, scores_[j]);
      smallest = std::min(smallest, scores_[j]);
    }
    // The largest ds, from above: the three terms need not meet in one key.
    const double worst_score = std::max(std::abs(largest), std::abs(smallest));
    const double ds = a_.scale() * Chain(a_.head_dim) * worst_magnitude +
                      3 * 0x1p-24 * (worst_score + std::abs(largest)) + r_.score_unit * worst_score;
    const double rescales = static_cast<double>(r_.rescales) * (kEx2Error + 0x1p-23);
    const double sums = static_cast<double>(r_.keys_per_sum + 8) * 0x1p-24;
    const double relative =
        std::expm1(2 * ds) + r_.p_unit + 2 * kEx2Error + Chain(count) + 2 * rescales + sums + 0x1p-23;
    const double floor = r_.p_floor * std::exp(largest - lse);  // p_floor / l
    for (int64_t j = 0; j < count; ++j) {
      const double p = std::exp(scores_[j] - lse);
      const double* v = V.data() + (keys.begin + j) * a_.head_dim_v;
      for (int64_t d = 0; d < a_.head_dim_v; ++d) {
        bound_o[d] += std::abs(v[d]) * (p * relative + floor + 0x1p-126);
      }
    }
    for (int64_t d = 0; d < a_.head_dim_v; ++d) {
      bound_o[d] += r_.output_unit * (std::abs(golden_o[d]) + bound_o[d]) + r_.output_floor;
    }
    return ds + kEx2Error + rescales + sums + 0x1p-22 * (std::abs(lse) + 1);
  }

 private:
  double Chain(int64_t products) const {
    const double steps = std::ceil(static_cast<double>(products) / r_.step_products);
    return steps * ((r_.step_products + 1) * std::ldexp(1.0, -r_.alignment_bits) + 0x1p-23);
  }

  const data::Attention& a_;
  const Arithmetic& r_;
  std::vector<double> scores_;
};

}  // namespace

Arithmetic Arithmetic::ForFormat(data::Format format) {
  Arithmetic arithmetic;
  switch (format) {
    case data::Format::kBf16:
      break;
    case data::Format::kFp16:
      arithmetic.p_unit = arithmetic.output_unit = 0x1p-11;
      // Half the distance of subnormal numbers.
      arithmetic.p_floor = arithmetic.output_floor = 0x1p-25;
      break;
    default:
      throw data::UsageError("no error bound for " + std::string(data::Name(format)) + ": expected fp16 or bf16");
  }
  return arithmetic;
}

ErrorBound BoundAttention(const data::Attention& a, const GoldenInputs& inputs, const GoldenPart& part,
                          const Golden& golden, const Arithmetic& arithmetic) {
  data::Validate(a);
  if (a.softcap > 0 || a.v_is_in_k) {
    throw data::UsageError("no error bound for softcap or V inside K");
  }
  const Range heads = part.heads.value_or(Range{0, a.batch * a.heads_q});
  const Range rows = part.rows.value_or(Range{0, a.seqlen_q});
  const Tensor Q("Q", inputs.Q, a.batch, a.heads_q, a.seqlen_q, a.head_dim);
  const Tensor K("K", inputs.K, a.batch, a.heads_kv, a.seqlen_k, a.head_dim);
  const Tensor V("V", inputs.V, a.batch, a.heads_kv, a.seqlen_k, a.head_dim_v);
  if (static_cast<int64_t>(golden.LSE.size()) != heads.size() * rows.size()) {
    throw data::UsageError("the golden attention has " + std::to_string(golden.LSE.size()) + " rows: expected " +
                           std::to_string(heads.size() * rows.size()) + ", those of the part");
  }
  ErrorBound bound{std::vector<double>(golden.O.size()), std::vector<double>(golden.LSE.size())};
  // Heads first: K and V of a head are decoded once.
#pragma omp parallel for schedule(dynamic)
  for (int64_t pair = heads.begin; pair < heads.end; ++pair) {
    const int64_t n = pair / a.heads_q, h = pair % a.heads_q, kv = h / a.group();
    const int64_t keys = inputs.seqlens_k.empty() ? a.seqlen_k : inputs.seqlens_k[n];
    std::vector<double> q(a.head_dim), k(keys * a.head_dim), v(keys * a.head_dim_v);
    K.Load(n, kv, 0, keys, a.head_dim, k.data());
    V.Load(n, kv, 0, keys, a.head_dim_v, v.data());
    RowBound row_bound(a, arithmetic);
    for (int64_t i = rows.begin; i < rows.end; ++i) {
      const int64_t at = (pair - heads.begin) * rows.size() + i - rows.begin;
      Q.Load(n, h, i, 1, a.head_dim, q.data());
      bound.LSE[at] = row_bound.Evaluate(q.data(), k, v, VisibleKeys(a.mask, a.seqlen_q, keys, i), golden.LSE[at],
                                         golden.O.data() + at * a.head_dim_v, bound.O.data() + at * a.head_dim_v);
    }
  }
  return bound;
}

}  // namespace bitflash::reference
