#include "verify/subjects/fake_subject.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "data/convert.h"
#include "reference/visible.h"

namespace bitflash::verify {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The value of an element of a contiguous tensor.
double At(const data::Tensor& tensor, int64_t index) {
  const std::byte* bytes = tensor.ContiguousBytes().data();
  const int64_t width = tensor.type().bytes();
  uint32_t bits = 0;
  for (int64_t i = 0; i < width; ++i) bits |= std::to_integer<uint32_t>(bytes[index * width + i]) << (8 * i);
  return data::Decode(*tensor.type().format(), bits);
}

}  // namespace

Outputs FakeSubject::Run(const Problem& p) {
  ++calls_;
  Validate(p);
  const data::Attention& a = p.attention;
  Outputs outputs{data::Tensor::Zeros(output_, {a.batch, a.heads_q, a.seqlen_q, a.head_dim_v}),
                  data::Tensor::Zeros(data::Format::kFp32, {a.batch, a.heads_q, a.seqlen_q})};
  for (int64_t b = 0; b < a.batch; ++b) {
    for (int64_t h = 0; h < a.heads_q; ++h) {
      for (int64_t i = 0; i < p.queries(b); ++i) Row(p, b, h, i, outputs);
    }
  }
  return outputs;
}

void FakeSubject::Row(const Problem& p, int64_t b, int64_t h, int64_t i, Outputs& outputs) const {
  const data::Attention& a = p.attention;
  const int64_t kv_batch = planted_ == Planted::kFirstSequence ? 0 : b;
  const int64_t kv_rows = (kv_batch * a.heads_kv + h / a.group()) * a.seqlen_k, keys = p.keys(b);
  const int64_t q_row = (b * a.heads_q + h) * a.seqlen_q + i;
  const double scale = a.scale() * p.q_scale * p.k_scale;
  const auto v = [&](int64_t j, int64_t c) {
    if (a.v_is_in_k) return p.v_scale * At(p.k, (kv_rows + j) * a.head_dim + c);
    return p.v_scale * At(p.v, (kv_rows + j) * a.head_dim_v + c);
  };

  std::vector<double> scores(static_cast<size_t>(a.seqlen_k), -kInfinity);
  int64_t last = -1;
  for (int64_t j = 0; j < keys; ++j) {
    if (!reference::Visible(a.mask, p.queries(b), keys, i, j)) continue;
    if (planted_ == Planted::kTail && j == keys - 1 && keys % 64 == 1) continue;
    if (planted_ == Planted::kSkipsZeroV && v(j, 0) == 0) continue;
    double s = 0;
    for (int64_t c = 0; c < a.head_dim; ++c)
      s += At(p.q, q_row * a.head_dim + c) * At(p.k, (kv_rows + j) * a.head_dim + c);
    s *= scale;
    if (a.softcap > 0) s = a.softcap * std::tanh(s / a.softcap);
    scores[j] = s;
    last = j;
  }
  double maximum = -kInfinity;
  for (const double s : scores) maximum = std::max(maximum, s);
  if (!p.sinks.empty()) maximum = std::max(maximum, p.sinks[h]);
  const bool raw = planted_ == Planted::kNoMaximum;
  if (raw) maximum = 0;
  const auto weight = [&](double s) {
    if (s == -kInfinity) return 0.0;
    return raw ? static_cast<double>(std::exp(static_cast<float>(s))) : std::exp(s - maximum);
  };

  double sum = p.sinks.empty() ? 0 : weight(p.sinks[h]);
  std::vector<double> o(static_cast<size_t>(a.head_dim_v));
  for (int64_t j = 0; j < a.seqlen_k; ++j) {
    if (scores[j] == -kInfinity && planted_ != Planted::kPaddingTimesZero) continue;
    const double times = planted_ == Planted::kLastKeyTwice && j == last ? 2 : 1;
    const double w = times * weight(scores[j]);
    if (planted_ != Planted::kLastKeyOfSum || j != last) sum += w;
    for (int64_t c = 0; c < a.head_dim_v; ++c) o[c] += w * v(j, c);
  }
  const bool toward_zero =
      (planted_ == Planted::kBatchBits && a.batch > 1) || (planted_ == Planted::kCounts && calls_ % 2 == 0);
  const data::Rounding rounding = toward_zero ? data::Rounding::kTowardZero : data::Rounding::kNearestEven;
  for (int64_t c = 0; c < a.head_dim_v; ++c) {
    const double value = sum == 0 ? o[c] : o[c] / sum;
    outputs.o.SetBits({b, h, i, c}, data::Encode(output_, value, rounding, data::UsualOverflow(output_)));
  }
  double lse = maximum == -kInfinity ? -kInfinity : maximum + std::log(sum);
  if (planted_ == Planted::kBase2) lse /= std::log(2.0);
  outputs.lse->SetBits({b, h, i}, data::Encode(data::Format::kFp32, lse));
}

}  // namespace bitflash::verify
