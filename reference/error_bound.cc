#include "reference/error_bound.h"

#include <algorithm>
#include <string>
#include <utility>

#include "data/error.h"
#include "reference/visible.h"

namespace bitflash::reference {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kLargestFp32 = 0x1.fffffep127;

double Square(double x) { return x * x; }

// The bounds of one row, from its magnitudes.
class RowBound {
 public:
  // `qk`, `score_max` and `score_abs` as Magnitudes; `lse` with the sink, -inf without one. Something is visible.
  RowBound(const data::Attention& a, const Arithmetic& r, int64_t keys, double qk, double score_max, double score_abs,
           double sink, double lse)
      : r_(r), keys_(static_cast<double>(keys)), lse_(lse) {
    const double steps = Steps(a.head_dim), step = StepUnit();
    const double products = a.scale() * qk;
    const double roundings = r.score_roundings * 0x1p-24, raw_roundings = a.softcap > 0 ? 3 * 0x1p-24 * products : 0;
    largest_ = std::max(score_max, sink);
    const double worst = std::max(score_abs, sink == -kInfinity ? 0 : std::abs(sink));
    const double common = roundings * (worst + std::abs(largest_)) + raw_roundings;
    const double stored = r.score_unit + (a.softcap > 0 ? r.tanh_unit : 0);
    const double floor = r.score_unit * 0x1p-14;
    const double input = 2 * r.input_unit + Square(r.input_unit);
    ds_ = products * (std::expm1(steps * step) + input) + common + stored * score_abs + floor;
    if (!(qk < kLargestFp32 && score_abs < kLargestFp32)) ds_ = kInfinity;

    rescales_ = static_cast<double>(r.rescales) * (r.exponential_error + 0x1p-23);
    sums_ = static_cast<double>(r.keys_per_sum + 8) * 0x1p-24;
    chain_ = Steps(keys) * step;
    relative_ = std::expm1(2 * ds_ + r.p_unit + r.input_unit + 2 * r.exponential_error + chain_ + 2 * rescales_ +
                           sums_ + 0x1p-23);
    const double weight = r.p_is_normalized ? 1 : std::exp(largest_ - lse);  // of P as it is stored
    p_floor_ = r.p_floor * weight;
    floor_ = p_floor_ + std::expm1(chain_) * r.p_operand_floor * weight + 0x1p-126;

    // Uniform errors in +-x have the variance x^2 / 3.
    const double ds_own = products * (std::sqrt(steps) * step + input) + stored * score_abs + floor;
    const double ds_shared = common + steps * step / 2 * score_abs;
    own_ = (Square(std::expm1(2 * ds_own)) + Square(r.p_unit) + Square(r.input_unit) + Square(r.exponential_error)) / 3;
    const double n_rescales = static_cast<double>(r.rescales), n_sums = static_cast<double>(r.keys_per_sum + 8);
    shared_ = (Square(std::expm1(2 * ds_shared)) + Steps(keys) * Square(step) +
               n_rescales * Square(r.exponential_error + 0x1p-23) + n_sums * 0x1p-48) /
              3;
    bias_ = chain_ / 2;
  }

  double Lse() const { return ds_ + r_.exponential_error + rescales_ + sums_ + 0x1p-22 * (std::abs(lse_) + 1); }

  // pv and v as Magnitudes, of V as scaled and with the sink's share of p.
  double O(double o, double pv, double v) const {
    const double before = pv > 0 || v > 0 ? pv * relative_ + v * floor_ : 0;
    const double bound = before + r_.output_unit * (std::abs(o) + before) + r_.output_floor;
    // NaN: an infinity times 0.
    return std::abs(o) + bound <= r_.output_max && v < kLargestFp32 ? bound : kInfinity;
  }

  double Sigma(double o, double pv, double p2v2, double v) const {
    const double variance = p2v2 * own_ + Square(pv) * shared_ + Square(o * bias_) +
                            (Square(v * p_floor_) / std::max(1.0, keys_) + Square(r_.output_unit * o)) / 3 +
                            Square(r_.output_floor) / 3;
    return std::isfinite(variance) ? std::sqrt(variance) : kInfinity;
  }

 private:
  double Steps(int64_t products) const { return std::ceil(static_cast<double>(products) / r_.step_products); }
  double StepUnit() const { return (r_.step_products + 1) * std::ldexp(1.0, -r_.alignment_bits) + r_.accumulator_unit; }

  const Arithmetic& r_;
  double keys_, lse_;
  double largest_, ds_, rescales_, sums_, chain_, relative_, p_floor_, floor_;
  double own_, shared_, bias_;
};

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
    result->bound.O_sigma[n] = bound.Sigma(o, pv, m.p2v2[n] * Square(share * v_scale), v);
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
