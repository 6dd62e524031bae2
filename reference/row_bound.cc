#include "reference/row_bound.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace bitflash::reference {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kLargestFp32 = 0x1.fffffep127;

double Square(double x) { return x * x; }

}  // namespace

RowBound::RowBound(const data::Attention& a, const Arithmetic& r, int64_t keys, double qk, double score_max,
                   double score_abs, double sink, double lse)
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
  const double stored_score = std::max(score_abs, a.softcap > 0 ? 0 : score_abs / a.scale());
  if (!(qk < kLargestFp32 && stored_score < r.score_max)) ds_ = kInfinity;

  rescales_ = static_cast<double>(r.rescales) * (r.exponential_error + 0x1p-23);
  sums_ = static_cast<double>(r.keys_per_sum + 8) * 0x1p-24;
  chain_ = Steps(keys) * step;
  relative_ = std::expm1(2 * ds_ + r.p_unit + r.input_unit + 2 * r.exponential_error + chain_ + 2 * rescales_ + sums_ +
                         0x1p-23 + static_cast<double>(r.rescales) * r.state_unit);
  const double weight = r.p_is_normalized ? 1 : std::exp(largest_ - lse);  // of P as it is stored
  p_floor_ = r.p_floor * weight;
  floor_ = p_floor_ + std::expm1(chain_) * r.p_operand_floor * weight + 0x1p-126;

  // Uniform errors in +-x have the variance x^2 / 3.
  const double ds_own = products * (std::sqrt(steps) * step + input) + stored * score_abs + floor;
  const double ds_shared = common + steps * step / 2 * score_abs;
  own_ = (Square(std::expm1(2 * ds_own)) + Square(r.p_unit) + Square(r.input_unit) + Square(r.exponential_error)) / 3;
  const double n_rescales = static_cast<double>(r.rescales), n_sums = static_cast<double>(r.keys_per_sum + 8);
  shared_ = (Square(std::expm1(2 * ds_shared)) + Steps(keys) * Square(step) +
             n_rescales * (Square(r.exponential_error + 0x1p-23) + Square(r.state_unit)) + n_sums * 0x1p-48) /
            3;
  bias_ = chain_ / 2;
}

double RowBound::Lse() const { return ds_ + r_.exponential_error + rescales_ + sums_ + 0x1p-22 * (std::abs(lse_) + 1); }

double RowBound::O(double o, double pv, double v) const {
  const double before = pv > 0 || v > 0 ? pv * relative_ + v * floor_ : 0;
  const double stores = r_.state_unit > 0 ? static_cast<double>(r_.rescales + 1) : 1;
  const double bound = before + r_.output_unit * (std::abs(o) + before) + stores * r_.output_floor;
  // NaN: an infinity times 0.
  return std::abs(o) + bound <= r_.output_max && v < kLargestFp32 ? bound : kInfinity;
}

double RowBound::Sigma(double o, double pv, double p2v2, double v) const {
  const double variance = p2v2 * own_ + Square(pv) * shared_ + Square(o * bias_) +
                          (Square(v * p_floor_) / std::max(1.0, keys_) + Square(r_.output_unit * o)) / 3 +
                          Square(r_.output_floor) / 3;
  return std::isfinite(variance) ? std::sqrt(variance) : kInfinity;
}

double RowBound::Steps(int64_t products) const { return std::ceil(static_cast<double>(products) / r_.step_products); }

double RowBound::StepUnit() const {
  return (r_.step_products + 1) * std::ldexp(1.0, -r_.alignment_bits) + r_.accumulator_unit;
}

}  // namespace bitflash::reference
