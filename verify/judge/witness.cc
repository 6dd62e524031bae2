#include "verify/judge/witness.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include "reference/row_bound.h"
#include "reference/visible.h"
#include "verify/judge/tensor_values.h"

namespace bitflash::verify {
namespace {

using data::Attention;
using reference::Arithmetic;
using reference::KeyRange;
using reference::RowBound;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
// Scores whose products stay below cannot overflow in fp32 on their way.
constexpr double kSafeScore = 0x1p120;
// More than what evaluating bounds in fp64, and at a result that is itself a little off, can lose.
constexpr double kOutward = 1 + 0x1p-20;
constexpr int64_t kKeysPerStart = 64;

// |x|, and `floor` where x is smaller but not 0; 0 of what is not finite.
double Magnitude(float x, double floor) {
  if (!std::isfinite(x) || x == 0) return 0;
  return std::max<double>(std::abs(x), floor);
}

// How many are NaN and infinite before each key, [keys + 1].
struct SpecialCounts {
  std::vector<int32_t> nan, infinite;

  explicit SpecialCounts(int64_t keys) : nan(keys + 1), infinite(keys + 1) {}
  void Add(int64_t key, bool is_nan, bool is_infinite) {
    nan[key + 1] = nan[key] + is_nan;
    infinite[key + 1] = infinite[key] + is_infinite;
  }
  bool NanIn(KeyRange seen) const { return nan[seen.end] > nan[seen.begin]; }
  bool InfiniteIn(KeyRange seen) const { return infinite[seen.end] > infinite[seen.begin]; }
};

// One KV head: its rows, and what bounds are made of.
struct KvHead {
  const float* K = nullptr;  // [keys, head_dim]
  const float* V = nullptr;  // [keys, stride_v]
  int64_t stride_v = 0;
  std::vector<double> norm;                // [keys], of the finite elements of K
  SpecialCounts special_keys{0};           // keys with such an element
  std::vector<int64_t> special_of_column;  // [head_dim_v]: index into special_values, -1: V is finite there
  std::vector<SpecialCounts> special_values;
};

KvHead Prepare(const Attention& a, const float* K, const float* V, int64_t stride_v, double floor) {
  KvHead kv{.K = K, .V = V, .stride_v = stride_v, .norm = {}, .special_of_column = {}, .special_values = {}};
  kv.norm.resize(a.seqlen_k);
  kv.special_keys = SpecialCounts(a.seqlen_k);
  kv.special_of_column.assign(a.head_dim_v, -1);
  for (int64_t j = 0; j < a.seqlen_k; ++j) {
    double sum = 0;
    bool is_nan = false, is_infinite = false;
    for (int64_t c = 0; c < a.head_dim; ++c) {
      const float x = K[j * a.head_dim + c];
      is_nan |= std::isnan(x);
      is_infinite |= std::isinf(x);
      const double magnitude = Magnitude(x, floor);
      sum += magnitude * magnitude;
    }
    kv.norm[j] = std::sqrt(sum);
    kv.special_keys.Add(j, is_nan, is_infinite);
    for (int64_t d = 0; d < a.head_dim_v; ++d) {
      if (!std::isfinite(V[j * stride_v + d])) kv.special_of_column[d] = 0;
    }
  }
  for (int64_t d = 0; d < a.head_dim_v; ++d) {
    if (kv.special_of_column[d] < 0) continue;
    kv.special_of_column[d] = static_cast<int64_t>(kv.special_values.size());
    SpecialCounts& counts = kv.special_values.emplace_back(a.seqlen_k);
    for (int64_t j = 0; j < a.seqlen_k; ++j) {
      const float x = V[j * stride_v + d];
      counts.Add(j, std::isnan(x), std::isinf(x));
    }
  }
  return kv;
}

// Over the keys from a multiple of kKeysPerStart at or before the first that a row sees, up to the last: rows come in
// order, so that most only add keys. The few keys more make bounds a little wider, never narrower.
class SeenMagnitudes {
 public:
  SeenMagnitudes(const Attention& a, const KvHead& kv, double floor)
      : kv_(kv), floor_(floor), dim_(a.head_dim), most_k(a.head_dim), sum_v(a.head_dim_v) {}

  void See(KeyRange seen) {
    const int64_t begin = seen.begin / kKeysPerStart * kKeysPerStart;
    if (begin != begin_ || seen.end < end_) {
      begin_ = end_ = begin;
      most_norm = 0;
      std::ranges::fill(most_k, 0.0);
      std::ranges::fill(sum_v, 0.0);
    }
    for (; end_ < seen.end; ++end_) {
      most_norm = std::max(most_norm, kv_.norm[end_]);
      for (int64_t c = 0; c < dim_; ++c) most_k[c] = std::max(most_k[c], Magnitude(kv_.K[end_ * dim_ + c], floor_));
      const float* v = kv_.V + end_ * kv_.stride_v;
      for (size_t d = 0; d < sum_v.size(); ++d) sum_v[d] += Magnitude(v[d], floor_);
    }
  }

 private:
  const KvHead& kv_;
  const double floor_;
  const int64_t dim_;
  int64_t begin_ = 0, end_ = 0;

 public:
  double most_norm = 0;
  std::vector<double> most_k, sum_v;  // largest |K| of each column, sum of |V|
};

// True when the product of the row of Q with some key is NaN: only terms that are not finite decide that.
bool SomeProductIsNan(const Attention& a, const KvHead& kv, const float* q, KeyRange seen) {
  for (int64_t j = seen.begin; j < seen.end; ++j) {
    double sum = 0;
    for (int64_t c = 0; c < a.head_dim; ++c) {
      const double product = static_cast<double>(q[c]) * static_cast<double>(kv.K[j * a.head_dim + c]);
      if (!std::isfinite(product)) sum += product;
    }
    if (std::isnan(sum)) return true;
  }
  return false;
}

// What the kernel gave for one row, and where its truth, bounds and errors go.
struct Row {
  const float* q;                 // [head_dim]
  const float* o;                 // [2 head_dim_v]: P V and P |V|
  double lse = 0;                 // the kernel's
  double *truth, *bound, *error;  // [head_dim_v], of O
  double *truth_lse, *bound_lse, *error_lse;
};

class RowJudge {
 public:
  RowJudge(const Attention& a, const Arithmetic& subject, const Arithmetic& own, double floor, double v_scale)
      : a_(a), subject_(subject), own_(own), floor_(floor), v_scale_(v_scale) {}

  // Returns the number of elements that stay open.
  int64_t Judge(const Row& row, const KvHead& kv, KeyRange seen, SeenMagnitudes& magnitudes) const {
    if (seen.begin >= seen.end) return Set(row, 0, 0, -kInfinity, 0), 0;
    double square = 0;
    bool nan = kv.special_keys.NanIn(seen), infinite = kv.special_keys.InfiniteIn(seen), infinite_q = false;
    for (int64_t c = 0; c < a_.head_dim; ++c) {
      nan |= std::isnan(row.q[c]);
      infinite_q |= std::isinf(row.q[c]);
      const double magnitude = Magnitude(row.q[c], floor_);
      square += magnitude * magnitude;
    }
    infinite |= infinite_q;
    if (nan) return Set(row, kNan, kInfinity, kNan, kInfinity), 0;
    magnitudes.See(seen);
    const double by_norms = std::sqrt(square) * magnitudes.most_norm;
    if (!std::isfinite(row.lse)) {
      // Finite inputs give finite scores; with softcap infinite ones do as well.
      const bool safe = by_norms < kSafeScore && by_norms * a_.scale() < kSafeScore;
      if (!safe || !infinite || (a_.softcap > 0 && !std::isnan(row.lse))) return Open(row);
      const bool is_nan = std::isnan(row.lse) || SomeProductIsNan(a_, kv, row.q, seen);
      return Set(row, kNan, kInfinity, is_nan ? kNan : row.lse, kInfinity), 0;
    }
    // Without softcap a key with an infinity has a score that is not finite: of weight 0, or the row is not finite.
    if (infinite && (a_.softcap > 0 || infinite_q)) return Open(row);
    double by_columns = 0;
    for (int64_t c = 0; c < a_.head_dim; ++c) by_columns += Magnitude(row.q[c], floor_) * magnitudes.most_k[c];
    return JudgeFinite(row, kv, seen, kOutward * std::min(by_norms, by_columns), magnitudes.sum_v);
  }

 private:
  void Set(const Row& row, double o, double o_bound, double lse, double lse_bound) const {
    std::fill_n(row.truth, a_.head_dim_v, o);
    std::fill_n(row.bound, a_.head_dim_v, o_bound);
    std::fill_n(row.error, a_.head_dim_v, std::isfinite(o) ? o_bound : 0);
    *row.truth_lse = lse;
    *row.bound_lse = lse_bound;
    *row.error_lse = 0;
  }

  int64_t Open(const Row& row) const {
    Set(row, 0, kInfinity, 0, kInfinity);
    *row.error_lse = kInfinity;
    return a_.head_dim_v + 1;
  }

  int64_t JudgeFinite(const Row& row, const KvHead& kv, KeyRange seen, double qk,
                      const std::vector<double>& sum_v) const {
    const double product = a_.scale() * qk, score = a_.softcap > 0 ? std::min(product, a_.softcap) : product;
    const RowBound own(a_, own_, seen.end - seen.begin, qk, score, score, -kInfinity, row.lse);
    const RowBound subject(a_, subject_, seen.end - seen.begin, qk, score, score, -kInfinity, row.lse);
    int64_t open = 0;
    *row.truth_lse = row.lse;
    *row.error_lse = kOutward * own.Lse();
    *row.bound_lse = kOutward * subject.Lse() + *row.error_lse;
    if (!(*row.bound_lse < kInfinity)) return Open(row);
    // Of a sum of positive terms: p |V| <= (what the kernel gave + floor |V|) / (1 - relative).
    const double relative = own.O(0, 1, 0), floor = own.O(0, 0, 1);
    for (int64_t d = 0; d < a_.head_dim_v; ++d) {
      row.truth[d] = 0;
      row.bound[d] = row.error[d] = kInfinity;
      const double o = static_cast<double>(row.o[d]), pv = static_cast<double>(row.o[a_.head_dim_v + d]);
      if (const int64_t special = kv.special_of_column[d]; special >= 0) {
        const SpecialCounts& counts = kv.special_values[special];
        if (counts.NanIn(seen) || counts.InfiniteIn(seen)) {
          const bool known = counts.NanIn(seen) || std::isinf(o);
          open += !known;
          if (known) row.truth[d] = counts.NanIn(seen) ? kNan : o, row.error[d] = 0;
          continue;
        }
      }
      if (std::isfinite(o) && std::isfinite(pv) && relative < 0.5) {
        const double most_pv = kOutward * (pv + sum_v[d] * floor) / (1 - relative);
        const double error = kOutward * own.O(std::abs(o), most_pv, kOutward * sum_v[d]) * v_scale_;
        const double bound =
            kOutward * subject.O(std::abs(o) * v_scale_ + error, most_pv * v_scale_, kOutward * sum_v[d] * v_scale_);
        row.truth[d] = o * v_scale_;
        row.error[d] = error;
        row.bound[d] = bound + error;
      }
      open += !(row.bound[d] < kInfinity);
    }
    return open;
  }

  const Attention& a_;
  const Arithmetic &subject_, &own_;
  const double floor_, v_scale_;
};

// V, and |V| as as many columns more: [heads, keys, 2 head_dim_v]. What is not finite is 0 in |V|.
std::vector<float> WithMagnitudes(const std::vector<float>& v, int64_t rows, int64_t stride, int64_t columns,
                                  double floor) {
  std::vector<float> wide(rows * 2 * columns);
#pragma omp parallel for
  for (int64_t j = 0; j < rows; ++j) {
    for (int64_t d = 0; d < columns; ++d) {
      wide[j * 2 * columns + d] = v[j * stride + d];
      wide[(j * 2 + 1) * columns + d] = static_cast<float>(Magnitude(v[j * stride + d], floor));
    }
  }
  return wide;
}

}  // namespace

std::string WhyNoWitness(const CpuKernel& kernel, const Problem& p) {
  const std::string name(kernel.name);
  if (const std::string why = kernel.unavailable(); !why.empty()) return why;
  if (std::ranges::find(kernel.formats, p.attention.format) == kernel.formats.end()) {
    return name + " does not take " + std::string(data::Name(p.attention.format));
  }
  if (!p.sinks.empty()) return name + " has no attention sinks";
  const double scale = p.attention.scale() * p.q_scale * p.k_scale;
  const double factor = p.attention.softcap > 0 ? scale / p.attention.softcap : scale;
  constexpr double kLeast = 0x1p-60, kMost = 0x1p60;  // factors that are ordinary numbers in fp32
  if (!(kLeast < factor && factor < kMost) || p.attention.softcap > kMost) {
    return "a score factor of " + std::to_string(factor) + " is out of the range of its bound";
  }
  return "";
}

Witness ComputeWitness(const Problem& p, const Arithmetic& subject, const CpuKernel& kernel) {
  Attention a = p.attention;
  a.softmax_scale = a.scale() * p.q_scale * p.k_scale;
  const int64_t rows = a.heads_q * a.seqlen_q, dv = a.head_dim_v;
  const int64_t stride_v = a.v_is_in_k ? a.head_dim : dv;
  const std::vector<float> q = ToFloats(p.q), k = ToFloats(p.k),
                           own_v = a.v_is_in_k ? std::vector<float>() : ToFloats(p.v);
  const std::vector<float>& v = a.v_is_in_k ? k : own_v;

  // By weights that are bounded, not known: as of a P that is normalized.
  Arithmetic own = kernel.arithmetic(a, data::Format::kFp32), other = subject;
  own.p_is_normalized = other.p_is_normalized = true;
  const double floor = std::max(own.operand_floor, other.operand_floor);

  Attention wide = a;
  wide.v_is_in_k = false;
  wide.head_dim_v = 2 * dv;
  std::vector<float> o(rows * 2 * dv), lse(rows);
  const std::vector<float> wide_v = WithMagnitudes(v, a.heads_kv * a.seqlen_k, stride_v, dv, floor);
  const auto bits = [&](const data::Tensor& tensor) {
    return reference::CpuOperand{.format = a.format, .bytes = tensor.ContiguousBytes().span(), .strides = {}};
  };
  kernel.run(wide,
             {.Q = bits(p.q),
              .K = bits(p.k),
              .V = reference::AsOperand(wide_v),
              .seqlens_q = {},
              .seqlens_k = {},
              .paged = {}},
             {.format = data::Format::kFp32, .O = std::as_writable_bytes(std::span(o)), .strides = {}, .LSE = lse}, 0);

  std::vector<KvHead> kv(a.heads_kv);
#pragma omp parallel for schedule(dynamic)
  for (int64_t h = 0; h < a.heads_kv; ++h) {
    kv[h] = Prepare(a, k.data() + h * a.seqlen_k * a.head_dim, v.data() + h * a.seqlen_k * stride_v, stride_v, floor);
  }
  Witness w;
  for (std::vector<double>* of_o : {&w.truth.o, &w.truth.o_bound, &w.o_error}) of_o->resize(rows * dv);
  for (std::vector<double>* of_lse : {&w.truth.lse, &w.truth.lse_bound, &w.lse_error}) of_lse->resize(rows);
  int64_t open = 0;
  const RowJudge judge(a, other, own, floor, p.v_scale);
#pragma omp parallel for schedule(dynamic) reduction(+ : open)
  for (int64_t h = 0; h < a.heads_q; ++h) {
    const KvHead& head = kv[h / a.group()];
    SeenMagnitudes magnitudes(a, head, floor);
    for (int64_t i = 0; i < a.seqlen_q; ++i) {
      const int64_t row = h * a.seqlen_q + i, at = row * dv;
      open += judge.Judge({.q = q.data() + row * a.head_dim,
                           .o = o.data() + 2 * at,
                           .lse = static_cast<double>(lse[row]),
                           .truth = w.truth.o.data() + at,
                           .bound = w.truth.o_bound.data() + at,
                           .error = w.o_error.data() + at,
                           .truth_lse = w.truth.lse.data() + row,
                           .bound_lse = w.truth.lse_bound.data() + row,
                           .error_lse = w.lse_error.data() + row},
                          head, reference::VisibleKeys(a.mask, a.seqlen_q, a.seqlen_k, i), magnitudes);
    }
  }
  w.open = open;
  return w;
}

void AddCheck(const Part& part, int64_t columns, const Witness& witness, const Truth& truth, WitnessCheck* check) {
  const int64_t of_head = part.rows.size(), rows = part.heads.size() * of_head;
  const auto add = [&](double mine, double exact, double exact_bound, double error, int64_t row, int64_t column) {
    // Where either says nothing, nothing is compared.
    if (std::isinf(error) || (std::isfinite(exact) && std::isinf(exact_bound))) return;
    ++check->elements;
    if (mine == exact || (std::isnan(mine) && std::isnan(exact))) return;
    const double score = std::abs(mine - exact) / error;
    if (score <= 1) {
      check->worst = std::max(check->worst, score);
      return;
    }
    ++check->beyond;  // NaN: one of them is not finite
    check->worst = std::isnan(score) ? kInfinity : std::max(check->worst, score);
    if (check->first_beyond) return;
    check->first_beyond = {part.sequence, part.heads.begin + row / of_head, part.rows.begin + row % of_head, column};
  };
  for (int64_t row = 0; row < rows; ++row) {
    add(witness.truth.lse[row], truth.lse[row], truth.lse_bound[row], witness.lse_error[row], row, -1);
    for (int64_t d = 0; d < columns; ++d) {
      const int64_t at = row * columns + d;
      add(witness.truth.o[at], truth.o[at], truth.o_bound[at], witness.o_error[at], row, d);
    }
  }
  check->rows += rows;
}

}  // namespace bitflash::verify
