#include "verify/judge/tolerance.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "data/error.h"
#include "verify/judge/tensor_values.h"

namespace bitflash::verify {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// What outputs are held against; elements of padding are left out of everything.
class Judge {
 public:
  Judge(const SimulatedKernel& kernel, const Problem& problem, const Tolerance& tolerance,
        const std::optional<Outputs>& right)
      : problem_(problem), tolerance_(tolerance) {
    const data::Format format =
        data::StorageBytes(problem.attention.format) == 1 ? data::Format::kFp16 : problem.attention.format;
    reference::Arithmetic arithmetic = ArithmeticOf(problem, format, *kernel.kernel, kernel.tiling);
    // The published standard kernel rounds its scores to the format of the inputs on their way through HBM.
    if (kernel.kernel->stores_scores && !kernel.tiling.fp32_scores) arithmetic.score_unit = arithmetic.p_unit;
    const Truth truth = ComputeTruth(problem, arithmetic);
    o_ = OwnRows(problem_, truth.o, problem.attention.head_dim_v);
    o_bound_ = OwnRows(problem_, truth.o_bound, problem.attention.head_dim_v);
    lse_ = OwnRows(problem_, truth.lse, 1);
    lse_bound_ = OwnRows(problem_, truth.lse_bound, 1);
    // Kernels differ in what LSE is of a row that sees no key (-inf, +inf): as the kernel has it.
    if (right && right->lse) {
      const std::vector<double> lse = OwnRows(problem_, ToDoubles(*right->lse), 1);
      for (size_t i = 0; i < lse_.size(); ++i) {
        if (std::isinf(lse_[i])) lse_[i] = lse[i];
      }
    }
    if (HasFlashAttentionRule(problem)) {
      rule_ = MakeFlashAttentionRule(problem, truth.o);
      ref_ = OwnRows(problem_, std::vector<double>(rule_->ref.begin(), rule_->ref.end()), problem.attention.head_dim_v);
    }
  }

  FaultAudit Of(const Fault* fault, const Outputs& outputs) const {
    FaultAudit audit{.fault = fault};
    const std::vector<double> o = OwnRows(problem_, ToDoubles(outputs.o), problem_.attention.head_dim_v);
    audit.o = AllClose(o, o_, tolerance_.atol, tolerance_.rtol);
    audit.nmse = Nmse(o, o_);
    if (rule_) {
      audit.fa2 = MaxAbs(o, ref_, rule_->limit_fa2());
      audit.fa3 = MaxAbs(o, ref_, rule_->limit_fa3());
    }
    HoldAgainst(o, o_, o_bound_, audit);
    if (outputs.lse) {
      const std::vector<double> lse = OwnRows(problem_, ToDoubles(*outputs.lse), 1);
      audit.lse = AllClose(lse, lse_, tolerance_.atol, tolerance_.rtol);
      HoldAgainst(lse, lse_, lse_bound_, audit);
    }
    return audit;
  }

  void Describe(ToleranceAudit& audit) const {
    const int64_t columns = problem_.attention.head_dim_v;
    std::vector<double> bounds;
    for (size_t i = 0; i < o_.size(); ++i) {
      if (!std::isfinite(o_bound_[i])) continue;
      bounds.push_back(o_bound_[i]);
      audit.tightest_atol = std::max(audit.tightest_atol, o_bound_[i] - tolerance_.rtol * std::abs(o_[i]));
    }
    if (!bounds.empty()) {
      audit.largest_bound = *std::ranges::max_element(bounds);
      const auto middle = bounds.begin() + static_cast<int64_t>(bounds.size() / 2);
      std::nth_element(bounds.begin(), middle, bounds.end());
      audit.median_bound = *middle;
    }
    audit.rows = static_cast<int64_t>(o_.size()) / columns;
    audit.blind_rows = BlindRows(o_, columns, tolerance_.atol, tolerance_.rtol);
    if (!rule_) return;
    audit.fa2_limit = rule_->limit_fa2();
    audit.fa3_limit = rule_->limit_fa3();
    audit.fa2_blind_rows = BlindRows(ref_, columns, rule_->limit_fa2(), 0);
    audit.fa3_blind_rows = BlindRows(ref_, columns, rule_->limit_fa3(), 0);
  }

 private:
  static void HoldAgainst(const std::vector<double>& x, const std::vector<double>& exact,
                          const std::vector<double>& bound, FaultAudit& audit) {
    for (size_t i = 0; i < x.size(); ++i) {
      const double error = x[i] == exact[i] ? 0 : std::abs(x[i] - exact[i]);
      if (error <= bound[i]) {
        if (bound[i] > 0 && std::isfinite(bound[i])) audit.worst_ratio = std::max(audit.worst_ratio, error / bound[i]);
        continue;
      }
      ++audit.beyond_bound;
      audit.worst_ratio =
          std::max(audit.worst_ratio, std::isnan(error) || bound[i] == 0 ? kInfinity : error / bound[i]);
    }
  }

  const Problem& problem_;
  const Tolerance& tolerance_;
  std::vector<double> o_, lse_, o_bound_, lse_bound_;
  std::optional<FlashAttentionRule> rule_;
  std::vector<double> ref_;
};

void RequireTolerance(const char* name, double value) {
  if (std::isfinite(value) && value >= 0) return;
  throw data::UsageError(std::string(name) + " is " + std::to_string(value) + ": expected a finite number, 0 or more");
}

}  // namespace

int64_t ToleranceAudit::escaped() const { return std::ranges::count_if(faults, &FaultAudit::escapes); }

int64_t ToleranceAudit::harmless() const {
  return std::ranges::count_if(faults, [](const FaultAudit& fault) { return fault.beyond_bound == 0; });
}

ToleranceAudit AuditTolerance(const SimulatedKernel& kernel, const Problem& problem, const Tolerance& tolerance,
                              const std::function<void(int64_t, int64_t)>& progress) {
  RequireTolerance("atol", tolerance.atol);
  RequireTolerance("rtol", tolerance.rtol);
  Validate(problem);
  ToleranceAudit audit{.tolerance = tolerance};
  std::vector<const Fault*> applicable;
  for (const Fault& fault : Faults()) {
    if (fault.Applies(kernel, problem)) {
      applicable.push_back(&fault);
    } else {
      ++audit.not_applicable;
    }
  }
  if (applicable.empty()) throw data::UndecidedError("no known mistake can be simulated on this problem");
  std::optional<Outputs> right;
  try {
    right = RunSimulated(kernel, problem);
  } catch (const data::UndecidedError&) {  // only the kernel that leaves the feature out is modelled
  }
  const Judge judge(kernel, problem, tolerance, right);
  if (right) audit.right = judge.Of(nullptr, *right);
  const auto total = static_cast<int64_t>(applicable.size());
  for (const Fault* fault : applicable) {
    audit.faults.push_back(judge.Of(fault, fault->Run(kernel, problem)));
    if (progress) progress(static_cast<int64_t>(audit.faults.size()), total);
  }
  judge.Describe(audit);
  return audit;
}

}  // namespace bitflash::verify
