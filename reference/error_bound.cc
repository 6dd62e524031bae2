#include "reference/error_bound.h"

#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "data/error.h"
#include "reference/row_bound.h"
#include "reference/visible.h"

namespace bitflash::reference {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kLargestFp32 = 0x1.fffffep127;

// log(exp(a) + exp(b)).
double LogAddExp(double a, double b) {
  const double most = std::max(a, b);
  return std::isinf(most) ? most : most + std::log1p(std::exp(std::min(a, b) - most));
}

// One row: golden and magnitudes in, golden with the effects and the bounds out.
void FinishRow(const data::Attention& a, const Arithmetic& r, int64_t keys, double v_scale, double sink, int64_t row,
               const Magnitudes& m, BoundedGolden* result) {
  double& lse = result->golden.LSE[row];
  double& lse_bound = result->bound.LSE[row];
  const int64_t first = row * a.head_dim_v, last = first + a.head_dim_v;
  const double own_lse = lse;
  const bool with_sink = sink > -kInfinity;
  if (with_sink) lse = std::isnan(lse) ? lse : LogAddExp(lse, sink);
  if (keys == 0) {
    lse_bound = with_sink ? 0x1p-22 * (std::abs(lse) + 1) : 0;
    return;  // O and its bounds are 0
  }
  // What the sink leaves of the weights.
  const double share = with_sink && !std::isnan(own_lse) ? std::exp(own_lse - lse) : 1;
  const RowBound bound(a, r, keys, m.qk[row], m.score_max[row], m.score_abs[row], sink, lse);
  lse_bound = std::isfinite(lse) ? bound.Lse() : kInfinity;
  if (!(lse_bound <= kLargestFp32)) lse_bound = kInfinity;
  for (int64_t n = first; n < last; ++n) {
    double& o = result->golden.O[n];
    o *= share * v_scale;
    if (!std::isfinite(o) || !std::isfinite(lse)) {
      result->bound.O[n] = result->bound.O_sigma[n] = kInfinity;
      continue;
    }
    const double pv = m.pv[n] * share * v_scale, v = m.v[n] * v_scale;
    result->bound.O[n] = bound.O(o, pv, v);
    // What may overflow is not judged at all.
    result->bound.O_sigma[n] = std::isinf(result->bound.O[n])
                                   ? kInfinity
                                   : bound.Sigma(o, pv, m.p2v2[n] * ((share * v_scale) * (share * v_scale)), v);
  }
}

data::UsageError NoBound(data::Format format) {
  return data::UsageError("no error bound for " + std::string(data::Name(format)) +
                          ": expected fp32, tf32, fp16, bf16, e4m3 or e5m2");
}

}  // namespace

Arithmetic Arithmetic::ForFormat(data::Format format) {
  Arithmetic r;
  const auto p = [&](double unit, double floor, double least) {
    r.p_unit = unit;
    r.p_floor = floor;
    r.p_operand_floor = r.operand_floor = least;
  };
  const auto core = [&](int products, int bits) {
    r.step_products = products;
    r.alignment_bits = bits;
  };
  switch (format) {
    case data::Format::kBf16:
      core(8, 24);
      p(0x1p-8, 0x1p-126, 0x1p-126);
      break;
    case data::Format::kFp16:
      core(4, 23);
      p(0x1p-11, 0x1p-25, 0x1p-14);  // half the distance of subnormal numbers
      break;
    case data::Format::kFp32:
      // A step is one FMA: nothing is aligned, and a sum of K has K roundings. Operands below 2^-126 may be flushed to
      // 0; one that counts as 2^-102 has that error with the unit of a single rounding.
      core(1, 200);
      r.accumulator_unit = 0x1p-24;
      p(0, 0, 0x1p-102);
      break;
    case data::Format::kTf32:
      core(4, 24);
      r.input_unit = 0x1p-10;
      p(0, 0x1p-126, 0x1p-102);
      break;
    case data::Format::kE4m3:
      core(32, 13);
      r.accumulator_unit = 0x1p-13;
      p(0x1p-4, 0x1p-10, 0x1p-6);
      break;
    case data::Format::kE5m2:
      core(32, 13);
      r.accumulator_unit = 0x1p-13;
      p(0x1p-3, 0x1p-17, 0x1p-14);
      break;
    default:
      throw NoBound(format);
  }
  r.SetOutput(format);
  return r;
}

void Arithmetic::SetOutput(data::Format format) {
  const auto set = [&](double unit, double floor, double most) {
    output_unit = unit;
    output_floor = floor;
    output_max = most;
  };
  // Where the smallest normal number is 2^-126 results below may be flushed to 0; else half the distance of subnormal
  // numbers.
  switch (format) {
    case data::Format::kFp32:
      return set(0x1p-24, 0x1p-126, kLargestFp32);
    case data::Format::kTf32:
      return set(0x1p-10, 0x1p-126, 0x1.ffcp127);
    case data::Format::kBf16:
      return set(0x1p-8, 0x1p-126, 0x1.fep127);
    case data::Format::kFp16:
      return set(0x1p-11, 0x1p-25, 65504);
    case data::Format::kE4m3:
      return set(0x1p-4, 0x1p-10, 448);
    case data::Format::kE5m2:
      return set(0x1p-3, 0x1p-17, 57344);
    default:
      throw NoBound(format);
  }
}

BoundedGolden BoundAttention(const data::Attention& a, const GoldenInputs& inputs, const GoldenPart& part,
                             const Arithmetic& arithmetic, const RowEffects& effects,
                             const GoldenExecution& execution) {
  if (!effects.sinks.empty() && static_cast<int64_t>(effects.sinks.size()) != a.heads_q) {
    throw data::UsageError("sinks has " + std::to_string(effects.sinks.size()) +
                           " entries: expected heads_q, which is " + std::to_string(a.heads_q) + ", or none");
  }
  Magnitudes magnitudes{.operand_floor = arithmetic.operand_floor,
                        .qk = {},
                        .score_max = {},
                        .score_abs = {},
                        .pv = {},
                        .p2v2 = {},
                        .v = {}};
  BoundedGolden result{GoldenAttention(a, inputs, part, execution, &magnitudes), {}};
  result.bound.O.resize(result.golden.O.size());
  result.bound.O_sigma.resize(result.golden.O.size());
  result.bound.LSE.resize(result.golden.LSE.size());
  const Range heads = part.heads.value_or(Range{0, a.batch * a.heads_q});
  const Range rows = part.rows.value_or(Range{0, a.seqlen_q});
#pragma omp parallel for schedule(dynamic)
  for (int64_t pair = heads.begin; pair < heads.end; ++pair) {
    const int64_t n = pair / a.heads_q, h = pair % a.heads_q;
    const int64_t seqlen_k = inputs.seqlens_k.empty() ? a.seqlen_k : inputs.seqlens_k[n];
    const double sink = effects.sinks.empty() ? -kInfinity : effects.sinks[h];
    for (int64_t i = rows.begin; i < rows.end; ++i) {
      const KeyRange keys = VisibleKeys(a.mask, a.seqlen_q, seqlen_k, i);
      FinishRow(a, arithmetic, keys.end - keys.begin, effects.v_scale, sink,
                (pair - heads.begin) * rows.size() + i - rows.begin, magnitudes, &result);
    }
  }
  return result;
}

}  // namespace bitflash::reference
