#include "verify/judge/score_practice.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <span>
#include <tuple>

#include "data/convert_simd.h"
#include "reference/visible.h"
#include "verify/judge/evidence.h"
#include "verify/judge/tensor_values.h"

namespace bitflash::verify {
namespace {

using data::Attention;
using reference::Arithmetic;
using Query = ScorePractice::Query;
using Scores = ScorePractice::Scores;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr size_t kFirstRows = 64;      // are tried before all the others
constexpr double kMostWork = 8e9;      // multiply-adds of a practice
constexpr double kFp32Unit = 0x1p-23;  // of an fp32 operation, and of what a conversion adds to it

// The inputs of one KV head as floats.
struct KvHead {
  std::vector<float> k, v;  // [keys, head_dim], [keys, v_stride]
  int64_t v_stride = 0;
};

std::vector<float> Floats(const data::Tensor& tensor, data::Format format, int64_t first, int64_t count) {
  std::vector<float> values(count);
  data::ToFloat(format, tensor.ContiguousBytes().data() + first * data::StorageBytes(format), values.data(), count);
  return values;
}

// Numbers between two ends, [keys]: what a kernel may hold there.
class Intervals {
 public:
  Intervals(std::vector<double> low, std::vector<double> high) : low_(std::move(low)), high_(std::move(high)) {}

  // x becomes function(x), which rises, with a relative error.
  template <typename Function>
  void Apply(Function function, double error) {
    for (size_t j = 0; j < low_.size(); ++j) {
      const double low = function(low_[j]), high = function(high_[j]);
      low_[j] = low - error * std::abs(low);
      high_[j] = high + error * std::abs(high);
    }
  }

  void Round(data::Format format) {
    for (std::vector<double>* ends : {&low_, &high_}) {
      const float outward =
          ends == &low_ ? -std::numeric_limits<float>::infinity() : std::numeric_limits<float>::infinity();
      floats_.resize(ends->size());
      bits_.resize(ends->size() * data::StorageBytes(format));
      // fp64 to fp32 may round inward.
      std::ranges::transform(*ends, floats_.begin(),
                             [&](double x) { return std::nextafter(static_cast<float>(x), outward); });
      const auto count = static_cast<int64_t>(floats_.size());
      data::FromFloat(format, floats_.data(), bits_.data(), count);
      data::ToFloat(format, bits_.data(), floats_.data(), count);
      std::ranges::copy(floats_, ends->begin());
    }
  }

  const std::vector<double>& low() const { return low_; }
  const std::vector<double>& high() const { return high_; }

 private:
  std::vector<double> low_, high_;
  std::vector<float> floats_;
  std::vector<std::byte> bits_;
};

double Dot(const float* x, const float* y, int64_t count) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t c = 0; c < count; ++c) sum += static_cast<double>(x[c]) * static_cast<double>(y[c]);
  return sum;
}

// The sum of |x| |y|, where what is not 0 counts as `floor` at least.
double DotOfMagnitudes(const float* x, const float* y, int64_t count, float floor) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t c = 0; c < count; ++c) {
    const float a = x[c] == 0 ? 0 : std::max(std::abs(x[c]), floor),
                b = y[c] == 0 ? 0 : std::max(std::abs(y[c]), floor);
    sum += static_cast<double>(a) * static_cast<double>(b);
  }
  return sum;
}

class Follower {
 public:
  Follower(const Problem& p, const Outputs& outputs, const ScorePractice& practice)
      : p_(p),
        a_(p.attention),
        practice_(practice),
        r_(ArithmeticOf(p, outputs.o.type().format().value())),
        scale_(a_.scale() * p.q_scale * p.k_scale) {
    const double step = (r_.step_products + 1) * std::ldexp(1.0, -r_.alignment_bits) + r_.accumulator_unit;
    product_chain_ = std::expm1(std::ceil(static_cast<double>(a_.head_dim) / r_.step_products) * step);
    step_ = step;
  }

  // True when every element of the row is within the bound: `o` [head_dim_v], `lse` null where there is none.
  bool Explains(const KvHead& kv, std::vector<float> q, reference::KeyRange keys, double sink, const double* o,
                const double* lse) const {
    if (keys.begin >= keys.end) return false;
    const Intervals scores = ScoresOf(kv, std::move(q), keys);
    const auto count = static_cast<int64_t>(scores.low().size());
    std::vector<double> p(count), flip(count);  // centre, half width
    double largest = sink, magnitude = sink == -kInfinity ? 0 : std::abs(sink);
    for (int64_t j = 0; j < count; ++j) {
      p[j] = scores.low()[j] / 2 + scores.high()[j] / 2;
      flip[j] = scores.high()[j] - p[j];
      if (!std::isfinite(flip[j])) return false;
      largest = std::max(largest, p[j]);
      magnitude = std::max(magnitude, std::abs(p[j]));
    }
    double sum = sink == -kInfinity ? 0 : std::exp(sink - largest);
    for (const double s : p) sum += std::exp(s - largest);
    const double exact_lse = largest + std::log(sum);
    double flipped = 0, widest = 0;  // sum p (e^flip - 1)
    for (int64_t j = 0; j < count; ++j) {
      p[j] = std::exp(p[j] - exact_lse);
      widest = std::max(widest, flip[j]);
      flip[j] = flip[j] == 0 ? 0 : p[j] == 0 ? 0 : p[j] * std::expm1(flip[j]);
      flipped += flip[j];
    }
    const double ds = r_.score_roundings * 0x1p-24 * (magnitude + std::abs(largest));
    const double rescales = static_cast<double>(r_.rescales) * (r_.exponential_error + kFp32Unit);
    const double sums = static_cast<double>(r_.keys_per_sum + 8) * 0x1p-24;
    const bool few_flips = flipped < 0.5;
    if (lse != nullptr) {
      const double bound = ds + r_.exponential_error + rescales + sums + 0x1p-22 * (std::abs(exact_lse) + 1) +
                           (few_flips ? -std::log1p(-flipped) : widest);
      if (!(std::abs(*lse - exact_lse) <= bound)) return false;
    }
    const double chain = std::ceil(static_cast<double>(count) / r_.step_products) * step_;
    const double relative =
        std::expm1(2 * ds + r_.p_unit + 2 * r_.exponential_error + chain + 2 * rescales + sums + kFp32Unit);
    const double floor = r_.p_floor + std::expm1(chain) * r_.p_operand_floor + 0x1p-126;
    return OutputsExplained(kv, keys, p, flip, few_flips ? flipped : kInfinity, relative, floor, o);
  }

 private:
  Intervals ScoresOf(const KvHead& kv, std::vector<float> q, reference::KeyRange keys) const {
    double scale = scale_;
    if (practice_.query != Query::kAsIs) {
      const double log2e = practice_.query == Query::kScaledLog2 ? std::numbers::log2e : 1;
      std::vector<std::byte> bits(q.size() * data::StorageBytes(a_.format));
      for (float& x : q) x *= static_cast<float>(scale * log2e);
      data::FromFloat(a_.format, q.data(), bits.data(), a_.head_dim);
      data::ToFloat(a_.format, bits.data(), q.data(), a_.head_dim);
      scale = 1 / log2e;
    }
    std::vector<double> low(keys.end - keys.begin), high(low.size());
    for (int64_t j = keys.begin; j < keys.end; ++j) {
      const float* k = kv.k.data() + j * a_.head_dim;
      const double exact = Dot(q.data(), k, a_.head_dim);
      const double error =
          product_chain_ * DotOfMagnitudes(q.data(), k, a_.head_dim, static_cast<float>(r_.operand_floor));
      low[j - keys.begin] = exact - error;
      high[j - keys.begin] = exact + error;
    }
    Intervals s(std::move(low), std::move(high));
    const auto scaled = [scale](double x) { return scale * x; };
    const bool every_step = practice_.scores == Scores::kEveryStep;
    if (practice_.scores == Scores::kProduct || every_step) s.Round(a_.format);
    // Where nothing is rounded afterwards these roundings are among score_roundings.
    const bool rounds = practice_.scores == Scores::kScaled || every_step;
    if (scale != 1) s.Apply(scaled, rounds ? kFp32Unit : 0);
    if (rounds && a_.softcap == 0 && scale != 1) s.Round(a_.format);
    if (a_.softcap > 0) Cap(s, every_step, rounds);
    return s;
  }

  void Cap(Intervals& s, bool every_step, bool rounds) const {
    const double cap = a_.softcap;
    if (every_step) s.Round(a_.format);
    s.Apply([cap](double x) { return x / cap; }, kFp32Unit);
    if (every_step) s.Round(a_.format);
    s.Apply([](double x) { return std::tanh(x); }, r_.tanh_unit);
    if (every_step) s.Round(a_.format);
    s.Apply([cap](double x) { return x * cap; }, kFp32Unit);
    if (rounds) s.Round(a_.format);
  }

  // p and p (e^flip - 1) of every key; `flipped` the sum of the latter, infinite where it says nothing.
  bool OutputsExplained(const KvHead& kv, reference::KeyRange keys, const std::vector<double>& p,
                        const std::vector<double>& flip, double flipped, double relative, double floor,
                        const double* o) const {
    const int64_t columns = a_.head_dim_v;
    std::vector<double> exact(columns), weighted(columns), moved(columns), all(columns), most(columns);
    const auto v_floor = static_cast<float>(r_.operand_floor);
    for (int64_t j = keys.begin; j < keys.end; ++j) {
      const float* v = kv.v.data() + j * kv.v_stride;
      const double weight = p[j - keys.begin], loose = flip[j - keys.begin];
      for (int64_t d = 0; d < columns; ++d) {
        const double magnitude = v[d] == 0 ? 0 : std::max(std::abs(v[d]), v_floor);
        exact[d] += weight * static_cast<double>(v[d]);
        weighted[d] += weight * magnitude;
        moved[d] += loose * magnitude;
        all[d] += magnitude;
        most[d] = std::max(most[d], magnitude);
      }
    }
    for (int64_t d = 0; d < columns; ++d) {
      // O' = (O + n) / (1 + e) with |n| <= moved, |e| <= flipped; never further than across all of V.
      const double own = std::abs(exact[d]);
      const double flips =
          std::min(std::isinf(flipped) ? kInfinity : (moved[d] + own * flipped) / (1 - flipped), 2 * most[d]);
      const double before = (flips + relative * (weighted[d] + flips) + floor * all[d]) * p_.v_scale;
      const double truth = exact[d] * p_.v_scale;
      const double bound = before + r_.output_unit * (std::abs(truth) + before) + r_.output_floor;
      if (!(std::abs(o[d] - truth) <= bound)) return false;
    }
    return true;
  }

  const Problem& p_;
  const Attention& a_;
  const ScorePractice& practice_;
  const Arithmetic r_;
  const double scale_;
  double product_chain_, step_;
};

// Rows of one KV head, which follow each other in `rows`.
bool ExplainsHead(const Problem& p, const Outputs& outputs, const ScorePractice& practice,
                  std::span<const HeadRow> rows, const std::vector<double>& o, const std::vector<double>& lse) {
  const Attention& a = p.attention;
  const int64_t n = rows[0].sequence, kv_head = n * a.heads_kv + rows[0].head / a.group(), keys = p.keys(n);
  KvHead kv;
  kv.k = Floats(p.k, a.format, kv_head * a.seqlen_k * a.head_dim, keys * a.head_dim);
  kv.v_stride = a.v_is_in_k ? a.head_dim : a.head_dim_v;
  kv.v = a.v_is_in_k ? kv.k : Floats(p.v, a.format, kv_head * a.seqlen_k * a.head_dim_v, keys * a.head_dim_v);
  const Follower follower(p, outputs, practice);
  bool explained = true;
#pragma omp parallel for schedule(dynamic, 4) reduction(&& : explained)
  for (size_t i = 0; i < rows.size(); ++i) {
    if (!explained) continue;
    const HeadRow& at = rows[i];
    const int64_t row = (n * a.heads_q + at.head) * a.seqlen_q + at.row;
    const reference::KeyRange visible = reference::VisibleKeys(a.mask, p.queries(n), keys, at.row);
    explained = follower.Explains(kv, Floats(p.q, a.format, row * a.head_dim, a.head_dim), visible,
                                  p.sinks.empty() ? -kInfinity : p.sinks[at.head], o.data() + row * a.head_dim_v,
                                  lse.empty() ? nullptr : lse.data() + row);
  }
  return explained;
}

bool Explains(const Problem& p, const Outputs& outputs, const ScorePractice& practice, const std::vector<HeadRow>& rows,
              const std::vector<double>& o, const std::vector<double>& lse) {
  const auto head = [&](const HeadRow& at) { return std::pair(at.sequence, at.head / p.attention.group()); };
  for (size_t begin = 0, end = 0; begin < rows.size(); begin = end) {
    while (end < rows.size() && head(rows[end]) == head(rows[begin])) ++end;
    if (!ExplainsHead(p, outputs, practice, std::span(rows).subspan(begin, end - begin), o, lse)) return false;
  }
  return true;
}

std::vector<HeadRow> Spread(const std::vector<HeadRow>& rows, size_t most) {
  if (rows.size() <= most) return rows;
  std::vector<HeadRow> some;
  for (size_t i = 0; i < most; ++i) some.push_back(rows[i * rows.size() / most]);
  return some;
}

}  // namespace

const std::vector<ScorePractice>& ScorePractices() {
  static const std::vector<ScorePractice> practices = {
      {"product", "rounds Q K^T to {} before it is scaled",
       "Dao et al. 2022, arXiv 2205.14135, Algorithm 0, in 16 bits", Query::kAsIs, Scores::kProduct},
      {"every-step", "rounds Q K^T to {}, and after every further step", "eager attention of Hugging Face Transformers",
       Query::kAsIs, Scores::kEveryStep},
      {"scaled", "rounds the scaled scores to {}", "Megatron-LM, torch.baddbmm with alpha", Query::kAsIs,
       Scores::kScaled},
      {"scaled-query", "rounds the scaled query to {}, and the scores",
       "FlashAttention's attention_ref, reorder_ops off", Query::kScaled, Scores::kEveryStep},
      {"scaled-query-fp32", "rounds the scaled query to {}", "xFormers, kernels that scale Q as they load it",
       Query::kScaled, Scores::kFp32},
      {"scaled-query-log2", "rounds the query, scaled for exponentials to base 2, to {}",
       "Triton's tutorial 06-fused-attention of 2023", Query::kScaledLog2, Scores::kFp32},
  };
  return practices;
}

std::string Text(const ScorePractice& practice, data::Format format) {
  return fmt::format(fmt::runtime(practice.text), data::Name(format));
}

void AddRowsBeyond(const Part& part, const Outputs& outputs, const Truth& truth, std::vector<HeadRow>* rows) {
  const std::vector<double> o = ToDoubles(outputs.o);
  const std::vector<double> lse = outputs.lse ? ToDoubles(*outputs.lse) : std::vector<double>();
  const int64_t columns = outputs.o.shape()[3], of_head = part.rows.size(), all = part.heads.size() * of_head;
  const auto beyond = [](double got, double exact, double bound) {
    return Element{.got = got, .truth = exact, .bound = bound}.score() > 1;
  };
  for (int64_t row = 0; row < all; ++row) {
    bool wrong = !lse.empty() && !(truth.lse[row] == -kInfinity && lse[row] == kInfinity) &&
                 beyond(lse[row], truth.lse[row], truth.lse_bound[row]);
    for (int64_t i = row * columns; !wrong && i < (row + 1) * columns; ++i) {
      wrong = beyond(o[i], truth.o[i], truth.o_bound[i]);
    }
    if (wrong) rows->push_back({part.sequence, part.heads.begin + row / of_head, part.rows.begin + row % of_head});
  }
}

std::optional<PracticeMatch> FindScorePractice(const Problem& p, const Outputs& outputs,
                                               const std::vector<HeadRow>& beyond) {
  const Attention& a = p.attention;
  if (data::StorageBytes(a.format) != 2) return std::nullopt;
  const std::vector<double> o = ToDoubles(outputs.o);
  const std::vector<double> lse = outputs.lse ? ToDoubles(*outputs.lse) : std::vector<double>();
  std::vector<HeadRow> rows = beyond;
  std::ranges::sort(rows, {}, [](const HeadRow& at) { return std::tuple(at.sequence, at.head, at.row); });
  const double of_row = static_cast<double>(std::max<int64_t>(1, a.seqlen_k * (2 * a.head_dim + a.head_dim_v)));
  const std::vector<HeadRow> first = Spread(rows, kFirstRows);
  const std::vector<HeadRow> most = Spread(rows, std::max(kFirstRows, static_cast<size_t>(kMostWork / of_row)));
  for (const ScorePractice& practice : ScorePractices()) {
    if (Explains(p, outputs, practice, first, o, lse) && Explains(p, outputs, practice, most, o, lse)) {
      return PracticeMatch{&practice, static_cast<int64_t>(rows.size()), static_cast<int64_t>(most.size())};
    }
  }
  return std::nullopt;
}

std::optional<PracticeMatch> FindScorePractice(const Problem& p, const Outputs& outputs) {
  if (data::StorageBytes(p.attention.format) != 2) return std::nullopt;
  std::vector<HeadRow> rows;
  for (int64_t n = 0; n < p.attention.batch; ++n) {
    if (p.queries(n) == 0) continue;
    const Part part = WholeSequence(p, n);
    const Problem cut = Extract(p, part);
    AddRowsBeyond(part, Extract(outputs, part), ComputeTruth(cut, ArithmeticOf(cut, *outputs.o.type().format())),
                  &rows);
  }
  if (rows.empty()) return std::nullopt;
  return FindScorePractice(p, outputs, rows);
}

}  // namespace bitflash::verify
