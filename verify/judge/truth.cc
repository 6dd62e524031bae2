#include "verify/judge/truth.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include "verify/judge/tensor_values.h"

namespace bitflash::verify {
namespace {

using data::Attention;
using reference::Arithmetic;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// One sequence of a padded tensor [batch, heads, rows, columns].
reference::Operand Sequence(const std::vector<float>& values, int64_t sequence, int64_t heads, int64_t rows,
                            int64_t columns) {
  const int64_t elements = heads * rows * columns;
  if (values.empty()) return {std::span<const float>(), {}};
  return {std::span(values).subspan(sequence * elements, elements),
          reference::Strides{elements, rows * columns, columns}};
}

// Rows of [heads, rows, columns] to the beginnings of the heads of [heads, padded_rows, columns].
void Place(const std::vector<double>& from, int64_t heads, int64_t rows, int64_t columns, int64_t padded_rows,
           double* to) {
  for (int64_t h = 0; h < heads; ++h) {
    std::copy_n(from.data() + h * rows * columns, rows * columns, to + h * padded_rows * columns);
  }
}

// Sequence by sequence, as a problem of its own lengths.
Truth RaggedTruth(const Problem& p, const Attention& a, const Arithmetic& arithmetic, const std::vector<float>& q,
                  const std::vector<float>& k, const std::vector<float>& v, const reference::RowEffects& effects) {
  const int64_t rows = a.batch * a.heads_q * a.seqlen_q, of_sequence = a.heads_q * a.seqlen_q, dv = a.head_dim_v;
  Truth truth{std::vector<double>(rows * dv), std::vector<double>(rows), std::vector<double>(rows * dv, kInfinity),
              std::vector<double>(rows, kInfinity), std::vector<double>(rows * dv, kInfinity)};
  for (int64_t n = 0; n < a.batch; ++n) {
    Attention own = a;
    own.batch = 1;
    own.seqlen_q = p.queries(n);
    own.seqlen_k = p.keys(n);
    if (own.seqlen_q == 0) continue;
    const reference::GoldenInputs inputs{Sequence(q, n, a.heads_q, a.seqlen_q, a.head_dim),
                                         Sequence(k, n, a.heads_kv, a.seqlen_k, a.head_dim),
                                         Sequence(v, n, a.heads_kv, a.seqlen_k, dv),
                                         {}};
    const reference::BoundedGolden part = reference::BoundAttention(own, inputs, {}, arithmetic, effects);
    const auto place = [&](const std::vector<double>& from, int64_t columns, std::vector<double>* to) {
      Place(from, a.heads_q, own.seqlen_q, columns, a.seqlen_q, to->data() + n * of_sequence * columns);
    };
    place(part.golden.O, dv, &truth.o);
    place(part.golden.LSE, 1, &truth.lse);
    place(part.bound.O, dv, &truth.o_bound);
    place(part.bound.LSE, 1, &truth.lse_bound);
    place(part.bound.O_sigma, dv, &truth.o_sigma);
  }
  return truth;
}

}  // namespace

Arithmetic ArithmeticOf(const Problem& problem, data::Format output_format) {
  const Attention& a = problem.attention;
  Arithmetic arithmetic = Arithmetic::ForFormat(a.format);
  arithmetic.SetOutput(output_format);
  arithmetic.rescales = a.seqlen_k / 16 + 3;
  arithmetic.keys_per_sum = a.seqlen_k;
  // A normalized P that is rounded to fp8 would be 0 nearly everywhere; kernels with fp8 do not do that.
  arithmetic.p_is_normalized = data::StorageBytes(a.format) > 1;
  // The scale becomes fp32, is multiplied by log2 e, which became fp32, and the product by the score.
  arithmetic.score_roundings = 4;
  if (problem.q_scale != 1 || problem.k_scale != 1) arithmetic.score_roundings += 2;
  return arithmetic;
}

Arithmetic ArithmeticOf(const Problem& problem, data::Format output_format, const sim::Kernel& kernel,
                        const sim::Tiling& tiling) {
  Arithmetic arithmetic = ArithmeticOf(problem, output_format);
  const int64_t tiles = problem.attention.seqlen_k / tiling.Bc + 3;
  if (!kernel.keys_outside) {
    arithmetic.rescales = std::max(arithmetic.rescales, tiles);
  } else {
    arithmetic.rescales = tiles;
    arithmetic.state_unit = arithmetic.output_unit;
  }
  return arithmetic;
}

Truth ComputeTruth(const Problem& p, const Arithmetic& arithmetic) {
  Validate(p);
  Attention a = p.attention;
  a.softmax_scale = a.scale() * p.q_scale * p.k_scale;
  const std::vector<float> q = ToFloats(p.q), k = ToFloats(p.k), v = a.v_is_in_k ? std::vector<float>() : ToFloats(p.v);
  // v_scale is V's also where V lies in K.
  const reference::RowEffects effects{p.v_scale, p.sinks};
  if (p.ragged()) return RaggedTruth(p, a, arithmetic, q, k, v, effects);
  const auto view = [](const std::vector<float>& x) { return reference::Operand{std::span(x), {}}; };
  reference::BoundedGolden all = reference::BoundAttention(a, {view(q), view(k), view(v), {}}, {}, arithmetic, effects);
  return {std::move(all.golden.O), std::move(all.golden.LSE), std::move(all.bound.O), std::move(all.bound.LSE),
          std::move(all.bound.O_sigma)};
}

}  // namespace bitflash::verify
