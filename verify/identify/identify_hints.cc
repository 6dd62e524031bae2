#include "verify/identify/identify_hints.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "data/convert.h"
#include "sim/runs.h"

namespace bitflash::verify {
namespace {

constexpr int64_t kFewestElements = 6;  // fewer residuals correlate with some key by chance
constexpr size_t kMostRows = 24;        // that are looked at
constexpr double kExplains = 0.9;       // correlation
constexpr int64_t kRoundingUlps = 4;    // a difference of the order of sums changes no more than this
constexpr double kManyOfAll = 0.05;

// One unit in the last place of a value of the format.
double Ulp(data::Format format, double value) {
  const data::FormatInfo& info = data::Info(format);
  const int least = 1 - info.bias;
  const int exponent = value == 0 ? least : std::max(least, std::ilogb(value));
  return std::ldexp(1.0, exponent - info.fraction_bits);
}

double Correlation(const std::vector<double>& x, const std::vector<double>& y) {
  double xx = 0, yy = 0, xy = 0;
  for (size_t i = 0; i < x.size(); ++i) xx += x[i] * x[i], yy += y[i] * y[i], xy += x[i] * y[i];
  return xx > 0 && yy > 0 ? xy / std::sqrt(xx * yy) : 0;
}

KeyHint BestKey(const Candidate& candidate, const Blocks& blocks, const DifferentRow& row) {
  const Block block = blocks.Make(Part{row.sequence, {row.head, row.head + 1}, {row.row, row.row + 1}});
  const data::Attention& a = block.problem.attention;
  const int64_t columns = a.head_dim_v;
  const BlockBits bits = Simulate(candidate, block);
  std::vector<double> residual(columns), ulp(columns);
  for (int64_t c = 0; c < columns; ++c) {
    const double observed = data::Decode(a.format, block.o[c]), simulated = data::Decode(a.format, bits.o[c]);
    ulp[c] = Ulp(a.format, simulated);
    residual[c] = (observed - simulated) / ulp[c];
  }
  KeyHint best{row.sequence, row.head, row.row, -1, -1, 0};
  const data::Tensor& source = a.v_is_in_k ? block.problem.k : block.problem.v;
  const auto values = source.Elements<uint16_t>();
  const int64_t width = source.shape()[3];
  const int64_t kv = block.head_begin / a.group();
  const sim::Range visible = sim::VisibleKeys(a, 0);
  std::vector<double> of_key(columns);
  for (int64_t key = visible.begin; key < visible.end(); ++key) {
    for (int64_t c = 0; c < columns; ++c) {
      of_key[c] = data::Decode(a.format, values[(kv * a.seqlen_k + key) * width + c]) / ulp[c];
    }
    const double correlation = Correlation(residual, of_key);
    if (std::abs(correlation) > std::abs(best.correlation)) {
      best.key = key, best.correlation = correlation, best.tile = key / candidate.tiling.Bc;
    }
  }
  return best;
}

}  // namespace

std::vector<KeyHint> FindKeyHints(const Candidate& candidate, const Blocks& blocks, const Verification& verification) {
  std::vector<KeyHint> hints;
  size_t looked_at = 0;
  for (const DifferentRow& row : verification.different) {
    if (row.elements < kFewestElements) continue;
    if (++looked_at > kMostRows) break;
    const KeyHint hint = BestKey(candidate, blocks, row);
    if (std::abs(hint.correlation) > kExplains) hints.push_back(hint);
  }
  return hints;
}

std::vector<std::string> Suggest(const Verification& v, const std::vector<KeyHint>& hints) {
  std::vector<std::string> all;
  if (v.different.empty()) return all;
  int64_t isolated = 0, lse_only = 0;
  for (const DifferentRow& row : v.different) {
    isolated += row.elements == 1 || row.elements == 2;
    lse_only += row.elements == 0;
  }
  const int64_t of_o = static_cast<int64_t>(v.different.size()) - lse_only;
  const bool far = std::ranges::any_of(
      v.unexplained, [](const Unexplained& u) { return !u.lse && (u.ulps < 0 || u.ulps > kRoundingUlps); });
  const double share =
      static_cast<double>(v.elements - v.equal) / static_cast<double>(std::max<int64_t>(1, v.elements));
  if (share > kManyOfAll) {
    all.push_back(
        "many elements differ: the kernel's tiles, its split of the keys or its text is not in the space that was "
        "searched, or the mask or the scale is not the one that it applied");
  } else if (far) {
    all.push_back(fmt::format(
        "elements differ by more than {} ulps: no order of sums or rounding does that; they were not computed from "
        "these inputs, or were overwritten",
        kRoundingUlps));
  }
  if (!hints.empty()) {
    all.push_back(fmt::format(
        "in {} rows the residual follows one key's row of V: its P was rounded the other way, which points to the "
        "argument of the exponential (its scale, its fusing) or to the exponential",
        hints.size()));
  }
  if (of_o > 0 && isolated == of_o && !far) {
    all.push_back("one or two elements of a row differ: the sum of a row or its reciprocal");
  } else if (share <= kManyOfAll && !far && hints.empty() && of_o > 0) {
    all.push_back("several elements of a row differ by an ulp: the argument of the exponential, or how O is rescaled");
  }
  if (lse_only == static_cast<int64_t>(v.different.size())) {
    all.push_back("only LSE differs: the form of the logarithm, or the order of the row's sum");
  }
  return all;
}

}  // namespace bitflash::verify
