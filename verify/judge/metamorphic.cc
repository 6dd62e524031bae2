#include "verify/judge/metamorphic.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "data/convert.h"
#include "data/error.h"
#include "verify/judge/metamorphic_judge.h"
#include "verify/judge/metamorphic_problems.h"
#include "verify/judge/score_practice.h"
#include "verify/judge/tensor_values.h"
#include "verify/judge/truth.h"

namespace bitflash::verify {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct NotApplicable {
  std::string why;
};

// Outputs and how far they may be from what they should be.
struct Answer {
  Outputs outputs;
  Truth truth;
};

class Checks {
 public:
  Checks(Subject& subject, const Problem& problem, const MetamorphicOptions& options)
      : subject_(subject), p_(problem), options_(options), columns_(problem.attention.head_dim_v) {}

  void Run(size_t check, MetamorphicResult& result) {
    constexpr void (Checks::*kMethods[])(MetamorphicResult&) = {
        &Checks::ConstantV, &Checks::ShiftedLogits, &Checks::PermutedKeys,    &Checks::Neighbours,
        &Checks::Linearity, &Checks::MergedParts,   &Checks::PoisonedPadding, &Checks::Repeated};
    // Not in one expression: there g++ 13's bounds sanitizer reports an index of garbage; here it tests the same index
    // and finds nothing.
    const auto method = kMethods[check];
    try {
      (this->*method)(result);
    } catch (const NotApplicable& reason) {
      result.status = MetamorphicStatus::kNotApplicable;
      result.note = reason.why;
    } catch (const data::UndecidedError& error) {
      if (result.status != MetamorphicStatus::kFailed) {
        result.status = MetamorphicStatus::kNotApplicable;
        result.note = fmt::format("the kernel does not take the problem: {}", error.what());
      }
    }
  }

 private:
  Outputs Call(const Problem& problem) {
    Validate(problem);
    Outputs outputs = subject_.Run(problem);
    const data::Attention& a = problem.attention;
    const std::vector<int64_t> rows = {a.batch, a.heads_q, a.seqlen_q};
    std::vector<int64_t> elements = rows;
    elements.push_back(a.head_dim_v);
    if (outputs.o.shape() != elements || (outputs.lse && outputs.lse->shape() != rows)) {
      throw data::UsageError(fmt::format("{} gave O of the shape {}: expected {}, and LSE without the last extent",
                                         subject_.name(), data::ShapeString(outputs.o.shape()),
                                         data::ShapeString(elements)));
    }
    outputs.o = outputs.o.Contiguous();
    if (outputs.lse) outputs.lse = outputs.lse->Contiguous();
    return outputs;
  }

  Answer CallAndBound(const Problem& problem) {
    Outputs outputs = Call(problem);
    const data::Format format = *outputs.o.type().format();
    Truth truth = ComputeTruth(problem, options_.arithmetic ? *options_.arithmetic : ArithmeticOf(problem, format));
    return {std::move(outputs), std::move(truth)};
  }

  const Outputs& Base() {
    if (!base_) base_ = Call(p_);
    return *base_;
  }

  const Answer& BoundedBase() {
    if (!bounded_base_) bounded_base_ = CallAndBound(p_);
    return *bounded_base_;
  }

  // What two answers that should be equal may differ by: both bounds, and what fp64 makes different in the truths.
  static std::vector<double> Together(const std::vector<double>& bound_a, const std::vector<double>& bound_b,
                                      const std::vector<double>& a, const std::vector<double>& b, double shift = 0) {
    std::vector<double> bound = Sum(bound_a, bound_b);
    for (size_t i = 0; i < bound.size(); ++i) {
      const double rounding = a[i] == b[i] ? 0 : std::fabs(a[i] - b[i] - shift);
      bound[i] = std::isfinite(rounding) ? bound[i] + rounding : kInfinity;
    }
    return bound;
  }

  // MM1
  void ConstantV(MetamorphicResult& result) {
    if (p_.attention.v_is_in_k) throw NotApplicable{"V is part of K"};
    Problem ones = p_;
    ones.v = Constant(p_.v, 1);
    const Answer answer = CallAndBound(ones);
    CompareValues(p_, columns_, ToDoubles(answer.outputs.o), answer.truth.o, answer.truth.o_bound, "O with V = 1",
                  result);
  }

  // MM2
  void ShiftedLogits(MetamorphicResult& result) {
    std::optional<Answer> without;
    for (const bool up : {true, false}) {
      const Shifted shifted = ShiftLogits(p_, up);
      if (!shifted.why_not.empty()) throw NotApplicable{shifted.why_not};
      if (!without) without = CallAndBound(shifted.without);
      const Answer with = CallAndBound(shifted.with);
      const std::string how =
          fmt::format("with all logits {} by {:.4g}", up ? "raised" : "lowered", std::fabs(shifted.shift));
      CompareValues(p_, columns_, ToDoubles(with.outputs.o), ToDoubles(without->outputs.o),
                    Together(with.truth.o_bound, without->truth.o_bound, with.truth.o, without->truth.o), "O " + how,
                    result);
      if (with.outputs.lse && without->outputs.lse) {
        std::vector<double> expected = ToDoubles(*without->outputs.lse);
        for (double& lse : expected) lse += shifted.shift;
        CompareValues(
            p_, 1, ToDoubles(*with.outputs.lse), expected,
            Together(with.truth.lse_bound, without->truth.lse_bound, with.truth.lse, without->truth.lse, shifted.shift),
            "LSE " + how, result);
      }
      if (result.status != MetamorphicStatus::kFailed) continue;
      // Logits that far from 0 have hardly a fraction in 16 bits.
      if (const auto match = FindScorePractice(shifted.with, with.outputs)) {
        result = {.id = result.id, .name = result.name};
        throw NotApplicable{"the kernel " + Text(*match->practice, p_.attention.format)};
      }
    }
  }

  // MM3
  void PermutedKeys(MetamorphicResult& result) {
    if (!SeesAllKeys(p_)) throw NotApplicable{"the mask makes the order of keys matter"};
    if (p_.keys(LongestSequence(p_)) < 2) throw NotApplicable{"no sequence has two keys"};
    const Answer& base = BoundedBase();
    const Outputs permuted = Call(PermuteKeys(p_, 1));
    CompareValues(p_, columns_, ToDoubles(permuted.o), ToDoubles(base.outputs.o),
                  Sum(base.truth.o_bound, base.truth.o_bound), "O with the keys permuted", result);
    if (!permuted.lse || !base.outputs.lse) return;
    CompareValues(p_, 1, ToDoubles(*permuted.lse), ToDoubles(*base.outputs.lse),
                  Sum(base.truth.lse_bound, base.truth.lse_bound), "LSE with the keys permuted", result);
  }

  // One sequence of the outputs, as a batch of its own.
  static Outputs Sequence(const Outputs& outputs, int64_t sequence) {
    const auto one = [&](const data::Tensor& t) { return t.Slice(0, sequence, sequence + 1).Contiguous(); };
    Outputs result{one(outputs.o), std::nullopt};
    if (outputs.lse) result.lse = one(*outputs.lse);
    return result;
  }

  // MM4
  void Neighbours(MetamorphicResult& result) {
    const int64_t sequence = LongestSequence(p_);
    const Problem alone = Alone(p_, sequence);
    const Answer answer = CallAndBound(alone);
    const Outputs four = Call(WithNeighbours(p_, sequence));
    bool same = CompareSequences(alone, answer, Sequence(four, 1), "of a sequence with neighbours and alone", result);
    same &= CompareSequences(alone, answer, Sequence(four, 3), "of a sequence behind others and alone", result);
    // The last sequence of the batch itself, which indices and strides reach last.
    int64_t last = p_.attention.batch - 1;
    while (last > 0 && p_.queries(last) == 0) --last;
    if (last > 0) {
      const Problem last_alone = Alone(p_, last);
      same &= CompareSequences(last_alone, CallAndBound(last_alone), Sequence(Base(), last),
                               "of a sequence in its batch and alone", result);
    }
    result.note = same ? "all bits are the same" : "bits depend on the batch";
  }

  // True when the bits are the same.
  bool CompareSequences(const Problem& alone, const Answer& answer, const Outputs& other, const std::string& how,
                        MetamorphicResult& result) const {
    if (options_.batch_invariant) {
      CompareBits(alone, other, answer.outputs, how, result);
    } else {
      const Truth& truth = answer.truth;
      CompareValues(alone, columns_, ToDoubles(other.o), ToDoubles(answer.outputs.o), Sum(truth.o_bound, truth.o_bound),
                    "O " + how, result);
      if (other.lse && answer.outputs.lse) {
        CompareValues(alone, 1, ToDoubles(*other.lse), ToDoubles(*answer.outputs.lse),
                      Sum(truth.lse_bound, truth.lse_bound), "LSE " + how, result);
      }
    }
    return SameBits(alone, other, answer.outputs);
  }

  // MM5
  void Linearity(MetamorphicResult& result) {
    if (p_.attention.v_is_in_k) throw NotApplicable{"V is part of K"};
    const Answer& base = BoundedBase();
    const Answer first = CallAndBound(HalfOfV(p_, 0, false)), second = CallAndBound(HalfOfV(p_, 1, true));
    std::vector<double> sum = ToDoubles(first.outputs.o);
    const std::vector<double> minus = ToDoubles(second.outputs.o);
    for (size_t i = 0; i < sum.size(); ++i) sum[i] -= minus[i];
    std::vector<double> bound = Sum(base.truth.o_bound, Sum(first.truth.o_bound, second.truth.o_bound));
    for (size_t i = 0; i < bound.size(); ++i) {
      bound[i] += std::fabs(base.truth.o[i] - (first.truth.o[i] - second.truth.o[i]));
      if (std::isnan(bound[i])) bound[i] = kInfinity;
    }
    CompareValues(p_, columns_, sum, ToDoubles(base.outputs.o), bound, "O(V1) - O(-V2) and O(V1 + V2)", result);
  }

  // MM6
  void MergedParts(MetamorphicResult& result) {
    const SplitKeys split = SplitInTwo(p_);
    if (!split.why_not.empty()) throw NotApplicable{split.why_not};
    const Answer whole = CallAndBound(split.whole);
    if (!whole.outputs.lse) throw NotApplicable{"the kernel returns no LSE"};
    const Answer first = CallAndBound(split.first), second = CallAndBound(split.second);
    const std::vector<double> o1 = ToDoubles(first.outputs.o), o2 = ToDoubles(second.outputs.o);
    const std::vector<double> lse1 = ToDoubles(*first.outputs.lse), lse2 = ToDoubles(*second.outputs.lse);
    std::vector<double> o(o1.size()), lse(lse1.size()), o_bound(o1.size()), lse_bound(lse1.size());
    for (size_t row = 0; row < lse.size(); ++row) {
      const double largest = std::max(lse1[row], lse2[row]);
      // A row that sees nothing in a part has LSE = -inf there and weighs nothing.
      lse[row] = largest == -kInfinity
                     ? -kInfinity
                     : largest + std::log(std::exp(lse1[row] - largest) + std::exp(lse2[row] - largest));
      const double w1 = largest == -kInfinity ? 0 : std::exp(lse1[row] - lse[row]);
      const double w2 = largest == -kInfinity ? 0 : std::exp(lse2[row] - lse[row]);
      // The weights are those of LSE with its errors, d of their difference: w1 w2 (e^d - 1) at most, by which the two
      // O mix wrongly.
      const double d = first.truth.lse_bound[row] + second.truth.lse_bound[row];
      const double mixed = w1 * w2 * std::expm1(d);
      lse_bound[row] = whole.truth.lse_bound[row] + std::max(first.truth.lse_bound[row], second.truth.lse_bound[row]);
      lse_bound[row] += 1e-14 * (1 + std::fabs(largest));  // of the merge, in fp64
      if (largest == -kInfinity) lse_bound[row] = 0;
      for (int64_t c = 0; c < columns_; ++c) {
        const size_t i = row * static_cast<size_t>(columns_) + static_cast<size_t>(c);
        o[i] = (w1 == 0 ? 0 : w1 * o1[i]) + (w2 == 0 ? 0 : w2 * o2[i]);
        o_bound[i] = whole.truth.o_bound[i] + (w1 == 0 ? 0 : w1 * first.truth.o_bound[i]) +
                     (w2 == 0 ? 0 : w2 * second.truth.o_bound[i]) +
                     (mixed == 0 ? 0 : mixed * std::fabs(first.truth.o[i] - second.truth.o[i])) +
                     1e-14 * std::fabs(whole.truth.o[i]);
        if (std::isnan(o_bound[i])) o_bound[i] = kInfinity;
      }
    }
    CompareValues(split.whole, 1, ToDoubles(*whole.outputs.lse), lse, lse_bound,
                  "LSE of all keys and of two parts merged", result);
    CompareValues(split.whole, columns_, ToDoubles(whole.outputs.o), o, o_bound,
                  "O of all keys and of two parts merged", result);
    if (result.status == MetamorphicStatus::kFailed && p_.attention.batch > 1) {
      result.note = fmt::format("sequence {} alone", LongestSequence(p_));
    }
  }

  // MM7
  void PoisonedPadding(MetamorphicResult& result) {
    const data::Format format = p_.attention.format;
    const Problem clean = WithPadding(p_, 0);
    const Outputs expected = Call(clean);
    const double largest = data::Decode(format, data::MaxFinite(format));
    std::vector<std::pair<const char*, uint64_t>> poisons = {
        {"NaN", data::CanonicalNan(format)}, {"large numbers", BitsOf(format, std::min(1e30, largest))}};
    if (data::Info(format).has_infinity) {
      // Encode saturates e5m2, as GPUs do.
      poisons.emplace_back("infinity",
                           data::Encode(format, kInfinity, data::Rounding::kNearestEven, data::Overflow::kIeee));
    }
    for (const auto& [name, bits] : poisons) {
      CompareBits(clean, Call(WithPadding(p_, bits)), expected, fmt::format("with {} in the padding", name), result);
    }
  }

  // MM8
  void Repeated(MetamorphicResult& result) {
    const Outputs& first = Base();
    CompareBits(p_, Call(p_), first, "of a second call", result);
    try {
      Call(PermuteKeys(p_, 2));
    } catch (const data::UndecidedError&) {  // then there is no other problem in between
    }
    CompareBits(p_, Call(p_), first, "of a call after one with another problem", result);
  }

  Subject& subject_;
  const Problem& p_;
  const MetamorphicOptions& options_;
  int64_t columns_;
  std::optional<Outputs> base_;
  std::optional<Answer> bounded_base_;
};

}  // namespace

const std::vector<MetamorphicCheck>& MetamorphicChecks() {
  static const std::vector<MetamorphicCheck> checks = {
      {"MM1", "V = 1 gives O = 1",
       "the sum of exponentials is not that of the weights that meet V: a tile left out of one of them, a rescale "
       "forgotten, weights that underflow"},
      {"MM2", "logits shifted by a constant leave O and shift LSE",
       "the largest logit is not subtracted, a finite number stands for -inf, the scale is applied to one of score and "
       "maximum only, or LSE lacks the maximum or is in another base"},
      {"MM3", "permuted keys leave O and LSE",
       "keys are left out or counted twice: the tail of the last tile, a split"},
      {"MM4", "a sequence does not depend on its neighbours",
       "an index or stride of the batch, a race, or a split that the other sequences choose"},
      {"MM5", "O is linear in V", "V is read at the wrong place, or padding takes part in the product with V"},
      {"MM6", "two halves of the keys merged by LSE give the whole",
       "LSE is in another base, lacks a term or belongs to other rows, or a mask is aligned to the wrong key"},
      {"MM7", "what lies behind the end of a sequence changes nothing",
       "rows behind the end are read: 0 times NaN is NaN; padding has to be replaced, not multiplied by 0"},
      {"MM8", "the same call gives the same bits",
       "a race, atomic additions, memory that is not initialised, or state that an earlier call left"}};
  return checks;
}

std::vector<MetamorphicResult> RunMetamorphic(Subject& subject, const Problem& problem,
                                              const MetamorphicOptions& options) {
  Validate(problem);
  const std::vector<MetamorphicCheck>& checks = MetamorphicChecks();
  for (const std::string& id : options.only) {
    if (std::none_of(checks.begin(), checks.end(), [&](const auto& check) { return check.id == id; })) {
      throw data::UsageError(fmt::format("unknown check '{}': expected MM1 to MM{}", id, checks.size()));
    }
  }
  Checks runner(subject, problem, options);
  std::vector<MetamorphicResult> results;
  for (size_t i = 0; i < checks.size(); ++i) {
    const auto& only = options.only;
    if (!only.empty() && std::find(only.begin(), only.end(), checks[i].id) == only.end()) continue;
    MetamorphicResult result;
    result.id = checks[i].id;
    result.name = checks[i].name;
    runner.Run(i, result);
    if (result.status == MetamorphicStatus::kFailed) result.suggests = checks[i].suggests;
    results.push_back(std::move(result));
  }
  return results;
}

}  // namespace bitflash::verify
