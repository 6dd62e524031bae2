#include "verify/judge/flash_rule.h"

#include <algorithm>
#include <cmath>

#include "verify/judge/criteria.h"
#include "verify/judge/tensor_values.h"

namespace bitflash::verify {
namespace {

constexpr double kMostPairs = 0x1p24;

}  // namespace

FlashRuleMeter::FlashRuleMeter(int64_t all_pairs)
    : share_(std::min(1.0, kMostPairs / static_cast<double>(std::max<int64_t>(1, all_pairs)))) {
  result_.sampled = share_ < 1;
}

void FlashRuleMeter::Add(const Problem& part, const Outputs& outputs, const Truth& truth) {
  if (!HasFlashAttentionRule(part)) undefined_ = true;
  if (undefined_) return;
  const data::Attention& a = part.attention;
  const auto rows = static_cast<int64_t>(share_ * static_cast<double>(a.seqlen_q));
  for (const reference::Range& slice : SpreadRows(a.seqlen_q, std::max<int64_t>(1, rows))) {
    if (slice.size() == a.seqlen_q) return AddRows(part, ToDoubles(outputs.o), truth.o);
    const Part some{0, {0, a.heads_q}, slice};
    std::vector<double> exact;
    for (int64_t h = 0; h < a.heads_q; ++h) {
      const double* head = truth.o.data() + h * a.seqlen_q * a.head_dim_v;
      exact.insert(exact.end(), head + slice.begin * a.head_dim_v, head + slice.end * a.head_dim_v);
    }
    AddRows(Extract(part, some), ToDoubles(Extract(outputs, some).o), exact);
  }
}

void FlashRuleMeter::AddRows(const Problem& problem, const std::vector<double>& o, const std::vector<double>& exact_o) {
  const FlashAttentionRule rule = MakeFlashAttentionRule(problem, exact_o);
  low_precision_error_ = std::max(low_precision_error_, rule.low_precision_error);
  const int64_t columns = problem.attention.head_dim_v;
  for (size_t begin = 0; begin < o.size(); begin += columns) {
    double largest = 0;
    for (int64_t c = 0; c < columns; ++c) {
      const double error = std::abs(o[begin + c] - rule.ref[begin + c]);
      result_.error = error > result_.error || std::isnan(error) ? error : result_.error;
      largest = std::max(largest, std::abs(exact_o[begin + c]));
    }
    rows_.push_back(largest);
  }
}

std::optional<FlashRule> FlashRuleMeter::Result() const {
  if (undefined_ || rows_.empty()) return std::nullopt;
  FlashRule result = result_;
  result.limit = 2 * low_precision_error_;
  result.rows = static_cast<int64_t>(rows_.size());
  result.blind_rows = std::ranges::count_if(rows_, [&](double largest) { return largest <= result.limit; });
  return result;
}

}  // namespace bitflash::verify
