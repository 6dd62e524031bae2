#include "verify/judge/criteria.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "data/convert_simd.h"
#include "data/error.h"
#include "reference/visible.h"
#include "verify/judge/tensor_values.h"

namespace bitflash::verify {
namespace {

using data::Attention;
using data::Format;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// How far apart two elements are: 0 when equal (infinities too), NaN when either is, infinite otherwise.
double Distance(double out, double expected) { return out == expected ? 0 : std::abs(out - expected); }

void RoundTo(Format format, std::vector<float>& values, std::vector<std::byte>& scratch, int64_t count) {
  scratch.resize(count * data::StorageBytes(format));
  data::FromFloat(format, values.data(), scratch.data(), count);
  data::ToFloat(format, scratch.data(), values.data(), count);
}

// Rows [rows, columns] as columns [columns, rows].
std::vector<float> Transposed(const float* rows, int64_t count, int64_t columns, int64_t stride) {
  std::vector<float> t(count * columns);
  for (int64_t r = 0; r < count; ++r) {
    for (int64_t c = 0; c < columns; ++c) t[c * count + r] = rows[r * stride + c];
  }
  return t;
}

// Scratch of one thread.
struct Row {
  std::vector<float> q, scores, o;
  std::vector<std::byte> bits;
};

// One row of LowPrecisionAttention: `keys` is K transposed, [head_dim, all keys], `values` V.
void LowPrecisionRow(const Attention& a, const float* q, const std::vector<float>& keys, const float* values,
                     int64_t v_stride, int64_t all_keys, reference::KeyRange visible, Row& row, float* out) {
  const int64_t count = visible.end - visible.begin;
  if (count == 0) return;  // O is 0
  row.q.assign(q, q + a.head_dim);
  for (float& x : row.q) x *= static_cast<float>(a.scale());
  RoundTo(a.format, row.q, row.bits, a.head_dim);
  row.scores.assign(count, 0.0f);
  for (int64_t c = 0; c < a.head_dim; ++c) {
    const float factor = row.q[c];
    const float* k = keys.data() + c * all_keys + visible.begin;
    for (int64_t j = 0; j < count; ++j) row.scores[j] += factor * k[j];
  }
  RoundTo(a.format, row.scores, row.bits, count);
  if (a.softcap > 0) {
    const auto cap = static_cast<float>(a.softcap);
    for (float& s : row.scores) s = cap * std::tanh(s / cap);
    RoundTo(a.format, row.scores, row.bits, count);
  }
  const float most = *std::max_element(row.scores.begin(), row.scores.end());
  double sum = 0;
  for (float& s : row.scores) sum += s = std::exp(s - most);
  const auto inverse = static_cast<float>(1 / sum);
  for (float& s : row.scores) s *= inverse;
  RoundTo(a.format, row.scores, row.bits, count);
  row.o.assign(a.head_dim_v, 0.0f);
  for (int64_t j = 0; j < count; ++j) {
    const float p = row.scores[j];
    const float* v = values + (visible.begin + j) * v_stride;
    for (int64_t c = 0; c < a.head_dim_v; ++c) row.o[c] += p * v[c];
  }
  RoundTo(a.format, row.o, row.bits, a.head_dim_v);
  std::copy(row.o.begin(), row.o.end(), out);
}

}  // namespace

CriterionResult AllClose(std::span<const double> out, std::span<const double> expected, double atol, double rtol) {
  CriterionResult result{.measured = -std::numeric_limits<double>::infinity(), .limit = atol};
  bool nan = false;
  for (size_t i = 0; i < out.size(); ++i) {
    const double distance = Distance(out[i], expected[i]);
    // Written so that NaN fails; infinite rtol |expected| must not excuse a finite output.
    const double slack = std::isfinite(expected[i]) ? rtol * std::abs(expected[i]) : 0;
    if (!(distance <= atol + slack)) ++result.failures;
    nan |= std::isnan(distance);
    result.measured = std::max(result.measured, distance - slack);
  }
  if (nan) result.measured = kNan;
  result.passes = result.failures == 0;
  return result;
}

CriterionResult MaxAbs(std::span<const double> out, std::span<const double> expected, double limit) {
  return AllClose(out, expected, limit, 0);
}

CriterionResult Nmse(std::span<const double> out, std::span<const double> expected, double limit) {
  CriterionResult result{.limit = limit};
  double error = 0, norm = 0;
  for (size_t i = 0; i < out.size(); ++i) {
    const double distance = Distance(out[i], expected[i]);
    if (!std::isfinite(distance)) ++result.failures;
    error += distance * distance;
    if (std::isfinite(expected[i])) norm += expected[i] * expected[i];
  }
  result.measured = error == 0 ? 0 : error / norm;
  result.passes = result.failures == 0 && result.measured <= limit;
  return result;
}

bool HasFlashAttentionRule(const Problem& p) {
  const Format format = p.attention.format;
  return (format == Format::kBf16 || format == Format::kFp16) && p.sinks.empty() && p.q_scale == 1 && p.k_scale == 1 &&
         p.v_scale == 1;
}

std::vector<float> LowPrecisionAttention(const Problem& p) {
  const Attention& a = p.attention;
  if (!HasFlashAttentionRule(p)) {
    throw data::UndecidedError(
        "FlashAttention's rule compares with attention in low precision: expected fp16 or bf16 without scales and "
        "sinks");
  }
  const std::vector<float> q = ToFloats(p.q), k = ToFloats(p.k),
                           own_v = a.v_is_in_k ? std::vector<float>() : ToFloats(p.v);
  const float* v = a.v_is_in_k ? k.data() : own_v.data();
  const int64_t v_stride = a.v_is_in_k ? a.head_dim : a.head_dim_v;
  std::vector<float> o(a.batch * a.heads_q * a.seqlen_q * a.head_dim_v, 0.0f);
  for (int64_t n = 0; n < a.batch * a.heads_kv; ++n) {
    const int64_t sequence = n / a.heads_kv, queries = p.queries(sequence), keys = p.keys(sequence);
    const std::vector<float> columns =
        Transposed(k.data() + n * a.seqlen_k * a.head_dim, a.seqlen_k, a.head_dim, a.head_dim);
#pragma omp parallel
    {
      Row row;
#pragma omp for schedule(dynamic, 16)
      for (int64_t at = 0; at < a.group() * queries; ++at) {
        const int64_t head = sequence * a.heads_q + n % a.heads_kv * a.group() + at / queries;
        const int64_t i = head * a.seqlen_q + at % queries;
        LowPrecisionRow(a, q.data() + i * a.head_dim, columns, v + n * a.seqlen_k * v_stride, v_stride, a.seqlen_k,
                        reference::VisibleKeys(a.mask, queries, keys, at % queries), row, o.data() + i * a.head_dim_v);
      }
    }
  }
  return o;
}

FlashAttentionRule MakeFlashAttentionRule(const Problem& problem, std::span<const double> exact_o) {
  const std::vector<float> pt = LowPrecisionAttention(problem);
  const Format format = problem.attention.format;
  FlashAttentionRule rule;
  std::vector<std::byte> bits;
  const auto count = static_cast<int64_t>(exact_o.size());
  rule.ref.resize(count);
  std::ranges::transform(exact_o, rule.ref.begin(), [](double x) { return static_cast<float>(x); });
  RoundTo(format, rule.ref, bits, count);
  std::vector<float> moved(count);
  // 0.3 is a Python number: it joins a tensor of the format as fp32, and the sum is rounded to the format.
  for (int64_t i = 0; i < count; ++i) moved[i] = rule.ref[i] + 0.3f;
  RoundTo(format, moved, bits, count);
  for (int64_t i = 0; i < count; ++i) moved[i] -= 0.3f;
  RoundTo(format, moved, bits, count);
  for (int64_t i = 0; i < count; ++i) {
    const double ref = rule.ref[i];
    rule.low_precision_error = std::max(rule.low_precision_error, std::abs(pt[i] - ref));
    rule.fwd_atol = std::max(rule.fwd_atol, 2 * std::abs(moved[i] - ref));
  }
  return rule;
}

int64_t BlindRows(std::span<const double> exact_o, int64_t columns, double atol, double rtol) {
  int64_t blind = 0;
  for (size_t begin = 0; begin < exact_o.size(); begin += columns) {
    const auto row = exact_o.subspan(begin, columns);
    blind += std::ranges::all_of(row, [&](double x) { return std::abs(x) <= atol + rtol * std::abs(x); });
  }
  return blind;
}

}  // namespace bitflash::verify
