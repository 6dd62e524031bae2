#include "reference/golden_magnitudes.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace bitflash::reference {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Squares of smaller weights would be subnormal, which makes products many times slower.
constexpr double kLeastWeight = 0x1p-500;

}  // namespace

MagnitudeBlock::MagnitudeBlock(const data::Attention& a, int64_t rows, int64_t keys, int64_t keys_padded)
    : Q_(rows * a.head_dim),
      K_(keys * a.head_dim),
      V_(keys * a.head_dim_v),
      V2_(keys * a.head_dim_v),
      S_(rows * keys_padded),
      m_(rows),
      qk_(rows),
      score_max_(rows),
      score_abs_(rows),
      PV_(rows * a.head_dim_v),
      P2V2_(rows * a.head_dim_v),
      sum_V_(rows * a.head_dim_v),
      key_sum_(a.head_dim_v) {}

void MagnitudeBlock::Absolute(const double* from, int64_t count, double* to) const {
  for (int64_t n = 0; n < count; ++n) {
    const double x = std::abs(from[n]);
    to[n] = x > 0 && x < floor_ ? floor_ : x;
  }
}

void MagnitudeBlock::StartRows(const Block& b, double operand_floor) {
  floor_ = operand_floor;
  Absolute(b.Q, b.rows * b.head_dim, Q_.get());
  std::fill_n(qk_.get(), b.rows, 0.0);
  std::fill_n(score_max_.get(), b.rows, -kInfinity);
  std::fill_n(score_abs_.get(), b.rows, 0.0);
  for (const AlignedDoubles* sum : {&PV_, &P2V2_, &sum_V_}) std::fill_n(sum->get(), b.rows * b.head_dim_v, 0.0);
}

void MagnitudeBlock::AddScores(const Block& b, const BlockSteps& steps) {
  Absolute(b.K, b.keys * b.head_dim, K_.get());
  Block magnitudes = b;
  magnitudes.scale = 1;
  magnitudes.softcap = 0;
  magnitudes.Q = Q_.get();
  magnitudes.K = K_.get();
  magnitudes.S = S_.get();
  steps.scores(magnitudes);
  for (int64_t i = 0; i < b.rows; ++i) {
    const double* score = b.S + i * b.keys_padded;
    const double* magnitude = S_.get() + i * b.keys_padded;
    double qk = qk_.get()[i], score_max = score_max_.get()[i], score_abs = score_abs_.get()[i];
    for (int64_t j = 0; j < b.keys; ++j) {
      // A score of -inf has the weight 0 without any rounding. Written so that a NaN never gets in.
      const bool counts = score[j] > -kInfinity;
      const double s = counts ? score[j] : 0, product = counts ? magnitude[j] : 0;
      qk = product > qk ? product : qk;
      score_abs = std::abs(s) > score_abs ? std::abs(s) : score_abs;
      score_max = score[j] > score_max ? score[j] : score_max;
    }
    qk_.get()[i] = qk;
    score_max_.get()[i] = score_max;
    score_abs_.get()[i] = score_abs;
  }
}

void MagnitudeBlock::KeepMaxima(const Block& b) { std::copy_n(b.m, b.rows, m_.get()); }

void MagnitudeBlock::AddValues(const Block& b, const std::function<void(const Block&)>& accumulate,
                               const std::function<KeyRange(int64_t)>& seen) {
  for (int64_t i = 0; i < b.rows; ++i) {
    const double before = m_.get()[i], after = b.m[i];
    if (before == after) continue;
    const double rescale = std::exp(before - after);  // 0 for the first block
    for (int64_t d = i * b.head_dim_v; d < (i + 1) * b.head_dim_v; ++d) {
      PV_.get()[d] *= rescale;
      P2V2_.get()[d] *= rescale * rescale;
    }
  }
  Absolute(b.V, b.keys * b.head_dim_v, V_.get());
  for (int64_t n = 0; n < b.keys * b.head_dim_v; ++n) V2_.get()[n] = V_.get()[n] * V_.get()[n];
  for (int64_t n = 0; n < b.rows * b.keys_padded; ++n) {
    S_.get()[n] = b.S[n] < kLeastWeight ? 0 : b.S[n] * b.S[n];
  }
  Block sum = b;
  sum.V = V_.get();
  sum.O = PV_.get();
  accumulate(sum);
  sum.S = S_.get();
  sum.V = V2_.get();
  sum.O = P2V2_.get();
  accumulate(sum);
  AddVisibleSums(b, seen);
}

void MagnitudeBlock::AddVisibleSums(const Block& b, const std::function<KeyRange(int64_t)>& seen) {
  // Only additions: a difference of prefix sums could lose a small one. Neighbouring rows mostly see the same keys of
  // the block, or one more.
  KeyRange summed;
  for (int64_t i = 0; i < b.rows; ++i) {
    const KeyRange keys = seen(i);
    if (keys.begin >= keys.end) continue;
    if (keys.begin != summed.begin || keys.end < summed.end || summed.end == summed.begin) {
      summed = {keys.begin, keys.begin};
      std::fill_n(key_sum_.get(), b.head_dim_v, 0.0);
    }
    for (; summed.end < keys.end; ++summed.end) {
      const double* v = V_.get() + summed.end * b.head_dim_v;
      for (int64_t d = 0; d < b.head_dim_v; ++d) key_sum_.get()[d] += v[d];
    }
    double* sum = sum_V_.get() + i * b.head_dim_v;
    for (int64_t d = 0; d < b.head_dim_v; ++d) sum[d] += key_sum_.get()[d];
  }
}

void MagnitudeBlock::WriteRows(const Block& b, int64_t at, Magnitudes* out) const {
  for (int64_t i = 0; i < b.rows; ++i) {
    out->qk[at + i] = qk_.get()[i];
    out->score_max[at + i] = score_max_.get()[i];
    out->score_abs[at + i] = score_abs_.get()[i];
    const double l = b.l[i] == 0 ? 1 : b.l[i];  // 0: a row without keys, whose sums are 0
    for (int64_t d = 0; d < b.head_dim_v; ++d) {
      const int64_t from = i * b.head_dim_v + d, to = at * b.head_dim_v + from;
      out->pv[to] = PV_.get()[from] / l;
      out->p2v2[to] = P2V2_.get()[from] / l / l;
      out->v[to] = sum_V_.get()[from];
    }
  }
}

}  // namespace bitflash::reference
