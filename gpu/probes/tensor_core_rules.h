// Rules for the matrix instructions: what is known, what else is tried, and how a rule is written down.
#ifndef BITFLASH_GPU_PROBES_TENSOR_CORE_RULES_H_
#define BITFLASH_GPU_PROBES_TENSOR_CORE_RULES_H_

#include <algorithm>
#include <string>
#include <vector>

#include "gpu/probes/experiments.h"
#include "gpu/probes/fdpa.h"

namespace bitflash::gpu::probe {

inline Rule MakeRule(int L, int F, Result result, AddC add_c = AddC::kInEveryStep) {
  Rule rule;
  rule.L = L, rule.F = rule.F_c = F, rule.result = result, rule.add_c = add_c;
  return rule;
}

// The rule that is known, on which sim/tensor_core.cc stands: measured on sm90 by this probe (an H100), published
// elsewhere. Sources as in fdpa.h; floors of emax: MATLAB-tensor-core, models/*.m, min_exp_limit. That Hopper's
// mma.sync of 8-bit formats is fp16 arithmetic: NVIDIA/cutlass issue 1986. Architectures nobody has published are taken
// to be as the last one before.
inline Rule Known(int capability, Input input, bool fp16, bool wgmma) {
  const bool fp8 = input == Input::kE4m3 || input == Input::kE5m2;
  const Result wide = fp16 ? Result::kFp16Nearest : Result::kFp32Truncated;
  const bool seen = fp16 ? input == Input::kFp16 : LayoutOf(input).exponent_bits == 8;  // a floor of emax could be
  Rule rule;
  if (capability < 90) {
    if (fp8) return MakeRule(16, 13, fp16 ? wide : Result::kFp32Truncated13);
    rule = MakeRule(input == Input::kTf32 ? 4 : 8, 24, wide);
    if (seen) rule.emax_floor = fp16 ? -20 : -132;
    return rule;
  }
  if (fp8 && capability < 100) {
    if (wgmma) return MakeRule(32, 13, fp16 ? wide : Result::kFp32Truncated13);
    rule = MakeRule(16, 25, wide, fp16 ? AddC::kInEveryStep : AddC::kLastNearest);
    int i = 0;
    for (const int pair : {0, 2}) {  // the lower halves of the registers, then the upper ones
      for (int k = pair; k < kMostK; k += 4) {
        for (const int each : {k, k + 1}) rule.order[i++] = static_cast<uint8_t>(each);
      }
    }
    return rule;
  }
  rule = MakeRule(fp8 ? 32 : input == Input::kTf32 ? 8 : 16, 25, wide);
  if (seen) rule.emax_floor = fp16 ? -21 : -133;
  return rule;
}

inline const char* Text(Result result) {
  switch (result) {
    case Result::kFp32Truncated:
      return "fp32 toward zero";
    case Result::kFp32Truncated13:
      return "fp32 toward zero to 13 bits";
    case Result::kFp32Nearest:
      return "fp32 to nearest";
    case Result::kFp16Nearest:
      return "fp16 to nearest";
    case Result::kFp16Twice:
      return "fp32 toward zero, then fp16 to nearest";
    default:
      return "fp16 toward zero";
  }
}

inline std::string Text(const Rule& rule, int K) {
  std::string text = Format("L=%d, F=%d, out=%s", rule.L, rule.F, Text(rule.result));
  if (rule.F_c != rule.F) text += Format(", F of c=%d", rule.F_c);
  if (rule.add_c == AddC::kLastNearest) text += ", c added last to nearest";
  if (rule.add_c == AddC::kLastTruncated) text += ", c added last toward zero";
  if (rule.zeros_in_emax) text += ", zeros in emax";
  if (rule.signed_underflow) text += ", -0 when a negative sum rounds to zero";
  if (rule.emax_floor != kNoFloor) text += Format(", emax >= %d", rule.emax_floor);
  for (int i = 0; i < K; ++i) {
    if (rule.order[i] == i) continue;
    text += ", k in the order";
    for (int j = 0; j < K; ++j) text += Format(" %d", rule.order[j]);
    break;
  }
  return text;
}

// What `rule` changes of `from`.
inline std::string Difference(const Rule& rule, const Rule& from) {
  std::string text;
  const auto add = [&](bool differs, const std::string& what) {
    if (differs) text += (text.empty() ? "" : ", ") + what;
  };
  add(rule.L != from.L, Format("L=%d", rule.L));
  add(rule.F != from.F, Format("F=%d", rule.F));
  add(rule.result != from.result, Text(rule.result));
  add(rule.add_c != from.add_c, rule.add_c == AddC::kInEveryStep   ? "c in every step"
                                : rule.add_c == AddC::kLastNearest ? "c last, to nearest"
                                                                   : "c last, toward zero");
  add(rule.zeros_in_emax != from.zeros_in_emax, rule.zeros_in_emax ? "zeros in emax" : "zeros not in emax");
  add(rule.signed_underflow != from.signed_underflow,
      rule.signed_underflow ? "-0 from underflow" : "+0 from underflow");
  add(rule.emax_floor != from.emax_floor,
      rule.emax_floor == kNoFloor ? "no floor of emax" : Format("emax >= %d", rule.emax_floor));
  return text;
}

inline void SetOrder(Rule& rule, const std::vector<int>& order) {
  for (size_t i = 0; i < order.size(); ++i) rule.order[i] = static_cast<uint8_t>(order[i]);
}

// Rules that differ in what the experiments and the sources leave open: first stage of a search.
inline std::vector<Rule> Candidates(const Structure& found, bool fp16, int K) {
  std::vector<int> lengths = {K}, alignments = {found.F, 13, 14, 22, 23, 24, 25, 26, 27, 30};
  for (int L = K / 2; L >= 4; L /= 2) lengths.push_back(L);
  std::erase_if(alignments, [](int F) { return F < 0 || F > 32; });
  std::ranges::sort(alignments);
  alignments.erase(std::unique(alignments.begin(), alignments.end()), alignments.end());
  std::vector<std::vector<int>> orders;
  for (bool measured : {false, true}) {
    std::vector<int> order(K);
    for (int i = 0; i < K; ++i) order[i] = measured ? found.order[i] : i;
    if (orders.empty() || orders.back() != order) orders.push_back(order);
  }
  std::vector<Result> results = {Result::kFp32Truncated, Result::kFp32Truncated13, Result::kFp32Nearest};
  std::vector<AddC> joins = {AddC::kInEveryStep, AddC::kLastNearest, AddC::kLastTruncated};
  if (fp16) {
    results = {Result::kFp16Nearest, Result::kFp16Twice, Result::kFp16Truncated};
    joins = {AddC::kInEveryStep};
  }
  std::vector<Rule> rules;
  for (const auto& order : orders) {
    for (const int L : lengths) {
      for (const int F : alignments) {
        for (const Result result : results) {
          for (const AddC add_c : joins) {
            Rule rule = MakeRule(L, F, result, add_c);
            SetOrder(rule, order);
            rules.push_back(rule);
            if (found.F_c < 0 || found.F_c == F || found.F_c > 32 || add_c != AddC::kInEveryStep) continue;
            rule.F_c = found.F_c;
            rules.push_back(rule);
          }
        }
      }
    }
  }
  return rules;
}

// `rule` with the small print changed: second stage of a search.
inline std::vector<Rule> SmallPrint(const Rule& rule) {
  std::vector<Rule> rules;
  std::vector<int> floors = {kNoFloor, -126, -131, -132, -133, -134, -149};
  if (IsFp16(rule.result)) floors = {kNoFloor, -14, -18, -19, -20, -21, -22, -23, -24};
  for (const bool zeros : {false, true}) {
    for (const bool signed_underflow : {false, true}) {
      for (const int floor : floors) {
        Rule changed = rule;
        changed.zeros_in_emax = zeros, changed.signed_underflow = signed_underflow, changed.emax_floor = floor;
        rules.push_back(changed);
      }
    }
  }
  return rules;
}

// Rules one change away from `rule`: their mismatches say what the operands can tell apart.
inline std::vector<Rule> Neighbours(const Rule& rule, Input input, bool fp16, int K) {
  std::vector<Rule> rules;
  const auto add = [&](auto change) {
    Rule changed = rule;
    change(changed);
    rules.push_back(changed);
  };
  add([](Rule& r) { --r.F, --r.F_c; });
  add([](Rule& r) { ++r.F, ++r.F_c; });
  if (rule.L > 4) add([](Rule& r) { r.L /= 2; });
  if (rule.L < K) add([](Rule& r) { r.L *= 2; });
  add([](Rule& r) { r.zeros_in_emax = !r.zeros_in_emax; });
  const bool wide = LayoutOf(input).exponent_bits == 8;  // only such products come near the least fp32
  if (wide || fp16) add([](Rule& r) { r.signed_underflow = !r.signed_underflow; });
  if (fp16 ? input == Input::kFp16 : wide) {  // who can see a floor
    const int around = rule.emax_floor != kNoFloor ? rule.emax_floor : fp16 ? -20 : -132;
    for (const int floor : {kNoFloor, around - 1, around, around + 1}) {
      if (rule.emax_floor != floor) add([&](Rule& r) { r.emax_floor = floor; });
    }
  }
  if (fp16) {
    for (const Result result : {Result::kFp16Nearest, Result::kFp16Twice, Result::kFp16Truncated}) {
      if (rule.result != result) add([&](Rule& r) { r.result = result; });
    }
  } else {
    for (const Result result : {Result::kFp32Truncated, Result::kFp32Truncated13, Result::kFp32Nearest}) {
      if (rule.result != result) add([&](Rule& r) { r.result = result; });
    }
    for (const AddC add_c : {AddC::kInEveryStep, AddC::kLastNearest, AddC::kLastTruncated}) {
      if (rule.add_c != add_c) add([&](Rule& r) { r.add_c = add_c; });
    }
  }
  return rules;
}

}  // namespace bitflash::gpu::probe

#endif  // BITFLASH_GPU_PROBES_TENSOR_CORE_RULES_H_
