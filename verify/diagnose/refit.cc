#include "verify/diagnose/refit.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>

#include "verify/judge/evidence.h"
#include "verify/judge/tensor_values.h"

namespace bitflash::verify {
namespace {

using data::Attention;
using data::Mask;

constexpr int64_t kFitRows = 32;  // of the problem on which numbers are sought

std::string Text(const char* format, double a, double b = 0, double c = 0) {
  char text[160];
  std::snprintf(text, sizeof text, format, a, b, c);
  return text;
}

data::Tensor Rounded(const std::vector<double>& values, const data::Tensor& like) {
  const std::vector<float> floats(values.begin(), values.end());
  return FromFloats(floats, like.type().format().value(), like.shape());
}

Outputs Rounded(const std::vector<double>& o, const std::vector<double>& lse, const Outputs& like) {
  Outputs outputs{Rounded(o, like.o), std::nullopt};
  if (like.lse) outputs.lse = Rounded(lse, *like.lse);
  return outputs;
}

Truth TruthOf(const Problem& p, const Outputs& like) {
  return ComputeTruth(p, ArithmeticOf(p, like.o.type().format().value()));
}

// Sum of squared differences between what the kernel gave and the truth of another problem, of finite elements, each
// at most 1: a few garbage rows must not decide.
double Misfit(const std::vector<double>& o, const std::vector<double>& truth, double unit) {
  double sum = 0;
  for (size_t n = 0; n < o.size(); ++n) {
    const double error = (o[n] - truth[n]) / unit;
    sum += error * error < 1 ? error * error : 1;  // NaN counts as 1
  }
  return sum;
}

// A few rows of the problem and what the kernel gave for them.
struct Fitting {
  Problem problem;
  Outputs outputs;
  std::vector<double> o;
  double unit = 1;  // the root mean square of O

  double MisfitOf(const Problem& other) const { return Misfit(o, TruthOf(other, outputs).o, unit); }
};

Fitting FewRows(const Problem& p, const Outputs& outputs) {
  Part part = WholeSequence(p, 0);
  // Late rows, which see many keys, and one group of heads.
  part.rows.begin = std::max<int64_t>(0, part.rows.end - kFitRows);
  part.heads = {0, p.attention.group()};
  Fitting fit{Extract(p, part), Extract(outputs, part), {}, 1};
  fit.o = ToDoubles(fit.outputs.o);
  double sum = 0;
  for (const double value : fit.o) sum += std::isfinite(value) ? value * value : 0;
  fit.unit = std::max(1e-30, std::sqrt(sum / static_cast<double>(std::max<size_t>(1, fit.o.size()))));
  return fit;
}

Problem Scaled(const Problem& p, double factor) {
  Problem scaled = p;
  scaled.attention.softmax_scale = p.attention.scale() * factor;
  return scaled;
}

// The factor of the softmax scale that fits best: a coarse search over octaves, then golden-section steps.
std::optional<double> FitScale(const Fitting& fit) {
  double best = 1, least = fit.MisfitOf(fit.problem);
  const double before = least;
  for (int quarter = -32; quarter <= 32; ++quarter) {
    const double factor = std::exp2(quarter / 4.0), misfit = fit.MisfitOf(Scaled(fit.problem, factor));
    if (misfit < least) best = factor, least = misfit;
  }
  if (best == 1) return std::nullopt;
  double low = best / std::exp2(0.25), high = best * std::exp2(0.25);
  constexpr double kGolden = 0.6180339887498949;
  double a = high - kGolden * (high - low), b = low + kGolden * (high - low);
  double of_a = fit.MisfitOf(Scaled(fit.problem, a)), of_b = fit.MisfitOf(Scaled(fit.problem, b));
  for (int step = 0; step < 24; ++step) {
    if (of_a < of_b) {
      high = b, b = a, of_b = of_a, a = high - kGolden * (high - low);
      of_a = fit.MisfitOf(Scaled(fit.problem, a));
    } else {
      low = a, a = b, of_a = of_b, b = low + kGolden * (high - low);
      of_b = fit.MisfitOf(Scaled(fit.problem, b));
    }
  }
  best = (low + high) / 2;
  if (fit.MisfitOf(Scaled(fit.problem, best)) > 0.5 * before) return std::nullopt;
  return best;
}

// Of the diagonal that ends in the last query and key: row i is on key i + offset.
int64_t BottomRight(const Attention& a) { return a.seqlen_k - a.seqlen_q; }

// Row i sees key j <= i + offset, as a problem.
std::optional<Problem> WithOffset(const Problem& p, int64_t offset) {
  const Attention& a = p.attention;
  Problem shifted = p;
  const int64_t right = offset - BottomRight(a);
  if (right >= 0) {
    shifted.attention.mask = Mask::Window(Mask::kUnlimited, right);
    return shifted;
  }
  const int64_t keys = a.seqlen_q + offset;
  if (keys < 1) return std::nullopt;
  shifted.attention.mask = Mask::Causal();
  shifted.attention.seqlen_k = keys;
  shifted.k = p.k.Slice(2, 0, keys).Contiguous();
  if (!a.v_is_in_k) shifted.v = p.v.Slice(2, 0, keys).Contiguous();
  return shifted;
}

// Offsets next to the right one; the rest of the causal family (top-left, none) are faults of their own.
std::optional<int64_t> FitOffset(const Fitting& fit, int64_t right_offset) {
  std::optional<int64_t> best;
  double least = 0.5 * fit.MisfitOf(fit.problem);
  for (int64_t shift = -17; shift <= 17; ++shift) {
    if (shift == 0) continue;
    const std::optional<Problem> shifted = WithOffset(fit.problem, right_offset + shift);
    if (!shifted) continue;
    const double misfit = fit.MisfitOf(*shifted);
    if (misfit < least) best = shift, least = misfit;
  }
  return best;
}

// The factor c for which c * truth is nearest to the values.
double Factor(const std::vector<double>& values, const std::vector<double>& truth) {
  double product = 0, square = 0;
  for (size_t n = 0; n < values.size(); ++n) {
    if (!std::isfinite(values[n]) || !std::isfinite(truth[n])) continue;
    product += values[n] * truth[n];
    square += truth[n] * truth[n];
  }
  return square > 0 ? product / square : 1;
}

// values = slope * truth + offset, least squares over finite pairs.
struct Line {
  double slope = 1, offset = 0;
};
Line FitLine(const std::vector<double>& values, const std::vector<double>& truth) {
  double n = 0, x = 0, y = 0, xx = 0, xy = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i]) || !std::isfinite(truth[i])) continue;
    n += 1, x += truth[i], y += values[i], xx += truth[i] * truth[i], xy += truth[i] * values[i];
  }
  const double determinant = n * xx - x * x;
  if (!(determinant > 1e-9 * n * xx)) return {};
  const double slope = (n * xy - x * y) / determinant;
  return {slope, (y - slope * x) / n};
}

}  // namespace

std::vector<Refit> Refits(const Problem& p, const Outputs& outputs, const Truth& truth) {
  std::vector<Refit> refits;
  const std::vector<double> o = ToDoubles(outputs.o);
  if (const double factor = Factor(o, truth.o); std::abs(factor - 1) > 1e-3) {
    std::vector<double> scaled = truth.o;
    for (double& value : scaled) value *= factor;
    refits.push_back({"output-factor", Text("O times %.6g", factor), Rounded(scaled, truth.lse, outputs)});
  }
  if (outputs.lse) {
    const Line line = FitLine(ToDoubles(*outputs.lse), truth.lse);
    if (std::abs(line.slope - 1) > 1e-4 || std::abs(line.offset) > 1e-3) {
      std::vector<double> lse = truth.lse;
      for (double& value : lse) value = line.slope * value + line.offset;
      refits.push_back(
          {"lse-line", Text("LSE times %.6g plus %.6g", line.slope, line.offset), Rounded(truth.o, lse, outputs)});
    }
  }
  if (p.attention.batch > 1 || p.ragged() || p.attention.seqlen_k == 0) return refits;  // the others take one sequence

  const Fitting fit = FewRows(p, outputs);
  if (const std::optional<double> factor = FitScale(fit)) {
    const Truth fitted = TruthOf(Scaled(p, *factor), outputs);
    const double scale = p.attention.scale();
    refits.push_back({"scale",
                      Text("softmax scale %.6g in place of %.6g (%.4g times)", scale * *factor, scale, *factor),
                      Rounded(fitted.o, fitted.lse, outputs)});
  }
  // The few rows are a problem of their own: a causal mask of either alignment is bottom-right there.
  if (fit.problem.attention.mask.kind != Mask::Kind::kCausal) return refits;
  const std::optional<int64_t> shift = FitOffset(fit, BottomRight(fit.problem.attention));
  if (!shift) return refits;
  const int64_t right = p.attention.mask.kind == Mask::Kind::kCausal ? BottomRight(p.attention) : 0;
  if (const std::optional<Problem> shifted = WithOffset(p, right + *shift)) {
    const Truth fitted = TruthOf(*shifted, outputs);
    refits.push_back({"mask-offset", Text("the causal diagonal %+.0f keys from its place", static_cast<double>(*shift)),
                      Rounded(fitted.o, fitted.lse, outputs)});
  }
  return refits;
}

}  // namespace bitflash::verify
