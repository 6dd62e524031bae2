// Structured experiments on one matrix instruction: which products share a step, how far the alignment reaches, what
// becomes of c. Nothing here knows the rule that is expected; the findings are candidates for the search and are
// printed beside its result.
//
// One experiment is one row of A, one column of B and c; tensor_core_probe fills a tile with it, or evaluates a rule on
// it, to know what an instruction that follows the rule would have shown.
#ifndef BITFLASH_GPU_PROBES_EXPERIMENTS_H_
#define BITFLASH_GPU_PROBES_EXPERIMENTS_H_

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "gpu/probes/fdpa.h"
#include "gpu/probes/report.h"

namespace bitflash::gpu::probe {

struct Experiment {
  std::string label;
  std::vector<uint32_t> a, b;
  uint32_t c = 0;
};

// The D of every experiment, in order.
using RunExperiments = std::function<std::vector<uint32_t>(const std::vector<Experiment>&)>;

// The pattern of (-1)^negative * 2^exponent, which the format must have.
inline uint32_t PowerOfTwo(int exponent_bits, int fraction_bits, int exponent, bool negative) {
  const int bias = (1 << (exponent_bits - 1)) - 1, field = exponent + bias;
  const uint32_t sign = negative ? 1u << (exponent_bits + fraction_bits) : 0;
  if (field > 0) return sign | static_cast<uint32_t>(field) << fraction_bits;
  return sign | 1u << (fraction_bits + field - 1);  // subnormal
}

class Structure {
 public:
  Structure(Input input, bool fp16, int k, const RunExperiments& run)
      : input_(input), layout_(LayoutOf(input)), fp16_(fp16), k_(k) {
    FindSteps(run);
    FindAlignment(run);
    FindLeastUnit(run);
  }

  bool steps_clear = false;  // the pairwise test has one consistent reading
  int L = 0;                 // products in a step, 0 when not clear
  std::vector<int> order;    // k in the order in which steps take them
  std::vector<int> step_of;  // of each k
  int F = -1;                // bits below the largest term at which a product is still seen; 32: or more
  int F_c = -1;              // the same for c below products
  int F_below_c = -1;        // the same for a product below c
  std::string c_joins;       // "every step", "last", "not visible"
  int least_unit = 0;        // exponent of the smallest term that counts beside 2^-149, 2^-25 for fp16; 0: not asked

  std::string StepsText() const {
    if (!steps_clear) return "not clear";
    std::string text;
    for (size_t i = 0; i < order.size(); ++i) {
      const bool first = i == 0 || step_of[order[i]] != step_of[order[i - 1]];
      const bool last = i + 1 == order.size() || step_of[order[i]] != step_of[order[i + 1]];
      const bool inner = !first && !last && order[i] == order[i - 1] + 1 && order[i + 1] == order[i] + 1;
      if (first) text += text.empty() ? "{" : " {";
      if (!inner) text += std::to_string(order[i]);
      if (last) {
        text += "}";
      } else if (!inner) {
        const bool run = i + 2 < order.size() && order[i + 1] == order[i] + 1 && order[i + 2] == order[i] + 2 &&
                         step_of[order[i + 2]] == step_of[order[i]];
        text += run ? ".." : " ";
      }
    }
    return text;
  }

  Experiment Empty(std::string label = "") const {
    return {std::move(label), std::vector<uint32_t>(k_, 0), std::vector<uint32_t>(k_, 0), 0};
  }
  // Puts (-1)^negative * 2^exponent at k, as a product of two powers of two.
  void Put(Experiment& e, int k, int exponent, bool negative = false) const {
    const int half = static_cast<int>(std::floor(exponent / 2.0));
    e.a[k] = PowerOfTwo(layout_.exponent_bits, layout_.fraction_bits, exponent - half, negative) << layout_.unused_bits;
    e.b[k] = PowerOfTwo(layout_.exponent_bits, layout_.fraction_bits, half, false) << layout_.unused_bits;
  }
  uint32_t C(int exponent, bool negative = false) const {
    return fp16_ ? PowerOfTwo(5, 10, exponent, negative) : PowerOfTwo(8, 23, exponent, negative);
  }
  double Value(uint32_t d) const {
    const Number x = fp16_ ? TakeApart(d, 5, 10, true) : TakeApart(d, 8, 23, true);
    if (x.nan || x.infinite) return NAN;
    const double magnitude = std::ldexp(static_cast<double>(x.significand), x.exponent - (fp16_ ? 10 : 23));
    return x.negative ? -magnitude : magnitude;
  }

 private:
  // The largest and the smallest term of most experiments: both are products of two powers of two in every format, and
  // fp16 accumulators hold them.
  static constexpr int kBig = 14, kReach = 32, kSmall = kBig - kReach;

  // Terms +2^14 at i and -2^14 at j, 2^-18 everywhere else, c = 0. A small term is lost when it meets a big one, in its
  // own step or as the c of a later one: what survives comes after the step of the later of i and j. So the most that
  // survive with i are the terms after the step of i, and these numbers tell the steps and their order.
  void FindSteps(const RunExperiments& run) {
    std::vector<Experiment> pairs;
    for (int i = 0; i < k_; ++i) {
      for (int j = i + 1; j < k_; ++j) {
        Experiment e = Empty();
        for (int k = 0; k < k_; ++k) Put(e, k, kSmall);
        Put(e, i, kBig), Put(e, j, kBig, true);
        pairs.push_back(e);
      }
    }
    const std::vector<int> survivors = Survivors(run(pairs));
    std::vector<int> after(k_, -1);
    for (int i = 0, pair = 0; i < k_; ++i) {
      for (int j = i + 1; j < k_; ++j, ++pair) {
        for (const int k : {i, j}) after[k] = std::max(after[k], survivors[pair]);
      }
    }
    order.resize(k_), step_of.resize(k_);
    for (int i = 0; i < k_; ++i) order[i] = i;
    std::ranges::stable_sort(order, [&](int x, int y) { return after[x] > after[y]; });
    L = k_ - after[order[0]];
    steps_clear = L > 0 && k_ % L == 0;
    for (int i = 0; i < k_ && steps_clear; ++i) {
      step_of[order[i]] = i / L;
      steps_clear = after[order[i]] == k_ - (i / L + 1) * L;
    }
    for (int i = 0, pair = 0; i < k_; ++i) {
      for (int j = i + 1; j < k_; ++j, ++pair) {
        steps_clear = steps_clear && survivors[pair] == std::min(after[i], after[j]);
      }
    }
    if (steps_clear) return;
    L = 0;
    for (int i = 0; i < k_; ++i) order[i] = i;
  }

  void FindAlignment(const RunExperiments& run) {
    const int p = order[0], q = order[1], r = order[2];
    std::vector<Experiment> product, c_small, c_big;
    for (int j = 0; j <= kReach; ++j) {
      Experiment e = Empty();
      Put(e, p, kBig), Put(e, q, kBig, true), Put(e, r, kBig - j);
      product.push_back(e);
      e = Empty();
      Put(e, p, kBig), Put(e, q, kBig, true), e.c = C(kBig - j);
      c_small.push_back(e);
      e = Empty();
      e.c = C(kBig), Put(e, p, kBig, true), Put(e, q, kBig - j);
      c_big.push_back(e);
    }
    F = LastSeen(run(product)), F_c = LastSeen(run(c_small)), F_below_c = LastSeen(run(c_big));

    // K terms of -2^(14 - F - 1) against c = 2^14: each by itself is below the alignment limit, all together are not.
    c_joins = "not visible";
    if (fp16_ || F < 0 || F >= kReach) return;
    Experiment e = Empty();
    e.c = C(kBig);
    for (int k = 0; k < k_; ++k) Put(e, k, kBig - F - 1, true);
    c_joins = run({e})[0] == e.c ? "every step" : "last";
  }

  // 2^-149 - 2^-u: truncated to zero when the second term is seen, 2^-149 when the alignment has lost it. With an fp16
  // accumulator 2^-25 + 2^-u: a tie without the second term, and then zero, which is even; 2^-24 with it.
  void FindLeastUnit(const RunExperiments& run) {
    if (fp16_ ? input_ != Input::kFp16 : layout_.exponent_bits != 8) return;
    const int large = fp16_ ? -25 : -149, first = 1 - large, last = fp16_ ? 48 : 190;
    std::vector<Experiment> experiments;
    for (int u = first; u <= last; ++u) {
      Experiment e = Empty();
      Put(e, order[0], large), Put(e, order[1], -u, !fp16_);
      experiments.push_back(e);
    }
    const std::vector<uint32_t> d = run(experiments);
    least_unit = large;
    for (int u = first; u <= last && ((d[u - first] & 0x7FFFFFFF) == 0) != fp16_; ++u) least_unit = -u;
  }

  std::vector<int> Survivors(const std::vector<uint32_t>& d) const {
    std::vector<int> counts;
    for (const uint32_t bits : d) {
      const double count = std::ldexp(Value(bits), -kSmall);
      counts.push_back(count >= 0 && count <= k_ && count == std::floor(count) ? static_cast<int>(count) : -1);
    }
    return counts;
  }
  static int LastSeen(const std::vector<uint32_t>& d) {
    int last = -1;
    for (size_t j = 0; j < d.size(); ++j) {
      if (d[j] != 0) last = static_cast<int>(j);
    }
    return last;
  }

  Input input_;
  Layout layout_;
  bool fp16_;
  int k_;
};

// Single results that the published sources leave open or that a simulator must get right.
inline std::vector<Experiment> Corners(const Structure& s, Input input, bool fp16, int K) {
  const Layout layout = LayoutOf(input);
  const uint32_t sign = 1u << (layout.bits - 1), c_sign = fp16 ? 0x8000u : 0x80000000u;
  const uint32_t one = PowerOfTwo(layout.exponent_bits, layout.fraction_bits, 0, false) << layout.unused_bits;
  const uint32_t all_ones = ((1u << (layout.exponent_bits + layout.fraction_bits)) - 1) << layout.unused_bits;
  const uint32_t infinity = ((1u << layout.exponent_bits) - 1) << (layout.fraction_bits + layout.unused_bits);
  std::vector<Experiment> list;
  const auto add = [&](std::string label, auto fill) {
    Experiment e = s.Empty(std::move(label));
    fill(e);
    list.push_back(e);
  };
  add("all -0 * 1, c = -0", [&](Experiment& e) { e.a.assign(K, sign), e.b.assign(K, one), e.c = c_sign; });
  add("all 0 * 0, c = -0", [&](Experiment& e) { e.c = c_sign; });
  add("1 - 1, c = 0", [&](Experiment& e) { s.Put(e, 0, 0), s.Put(e, 1, 0, true); });
  add("1 - 1, c = -0", [&](Experiment& e) { s.Put(e, 0, 0), s.Put(e, 1, 0, true), e.c = c_sign; });
  add("-1 * 1, c = 1", [&](Experiment& e) { s.Put(e, 0, 0, true), e.c = s.C(0); });
  add("NaN * 1", [&](Experiment& e) { e.a[0] = all_ones, e.b[0] = one; });
  add("-NaN * 1", [&](Experiment& e) { e.a[0] = all_ones | sign, e.b[0] = one; });
  add("NaN * 0", [&](Experiment& e) { e.a[0] = all_ones; });
  add("c = NaN, payload 1", [&](Experiment& e) { e.c = fp16 ? 0x7C01 : 0x7F800001; });
  add("c = -NaN", [&](Experiment& e) { e.c = fp16 ? 0xFE00 : 0xFFC00000; });
  if (layout.infinities) {
    add("infinity * 0", [&](Experiment& e) { e.a[0] = infinity; });
    add("infinity - infinity",
        [&](Experiment& e) { e.a[0] = infinity, e.a[1] = infinity | sign, e.b[0] = e.b[1] = one; });
    add("-infinity * 1", [&](Experiment& e) { e.a[0] = infinity | sign, e.b[0] = one; });
    add("infinity * 1, c = -infinity",
        [&](Experiment& e) { e.a[0] = infinity, e.b[0] = one, e.c = fp16 ? 0xFC00 : 0xFF800000; });
  }
  if (layout.exponent_bits == 8 && !fp16) {
    add("all 2^-76 * 2^-76", [&](Experiment& e) {
      for (int k = 0; k < K; ++k) s.Put(e, k, -152);
    });
    add("2^-150", [&](Experiment& e) { s.Put(e, 0, -150); });
    add("-(2^-150)", [&](Experiment& e) { s.Put(e, 0, -150, true); });
    add("-(2^-200)", [&](Experiment& e) { s.Put(e, 0, -200, true); });
    add("-(2^-149)", [&](Experiment& e) { s.Put(e, 0, -149, true); });
    add("2^127 * 2", [&](Experiment& e) { s.Put(e, 0, 128); });
  }
  if (input == Input::kTf32) {
    add("(1 + ulp of fp32) * 1", [&](Experiment& e) { e.a[0] = one | 1, e.b[0] = one; });
    add("(1 + 0x1FFF ulps of fp32) * 1", [&](Experiment& e) { e.a[0] = one | 0x1FFF, e.b[0] = one; });
    add("NaN in the dropped bits * 1", [&](Experiment& e) { e.a[0] = infinity | 1, e.b[0] = one; });
  }
  if (!fp16) {
    add("1 + 2^-13 (13 fraction bits)", [&](Experiment& e) { s.Put(e, 0, -13), e.c = s.C(0); });
    add("1 + 2^-14", [&](Experiment& e) { s.Put(e, 0, -14), e.c = s.C(0); });
    add("c = 1 + 2^-23, no products", [&](Experiment& e) { e.c = 0x3F800001; });
    add("c = 1 + 2^-23, + 2^-10", [&](Experiment& e) { e.c = 0x3F800001, s.Put(e, 0, -10); });
    add("c = 2^-9 (1 + 2^-23), + 1", [&](Experiment& e) { e.c = 0x3B000001, s.Put(e, 0, 0); });
    add("1 + 3 * 2^-25 (nearest: up)",
        [&](Experiment& e) { s.Put(e, 0, 0), s.Put(e, 1, -10), s.Put(e, 2, -10, true), e.c = 0x33C00000; });
  } else {
    add("1 + 2^-11 (a tie, even below)", [&](Experiment& e) { s.Put(e, 0, 0), s.Put(e, 1, -11); });
    add("1 + 2^-10 + 2^-11 (a tie, even above)",
        [&](Experiment& e) { s.Put(e, 0, 0), s.Put(e, 1, -10), s.Put(e, 2, -11); });
    add("1 + 2^-11 + 2^-12 (above the tie)",
        [&](Experiment& e) { s.Put(e, 0, 0), s.Put(e, 1, -11), s.Put(e, 2, -12); });
    for (const int bits : {13, 18}) {
      add(Format("1 + 2^-11 + 2^-%d", bits),
          [&](Experiment& e) { s.Put(e, 0, 0), s.Put(e, 1, -11), s.Put(e, 2, -bits); });
    }
    add("2^4 (1 + 2^-11 + 2^-22) (fp32 holds it)",
        [&](Experiment& e) { s.Put(e, 0, 4), s.Put(e, 1, -7), s.Put(e, 2, -18); });
    add("2^7 (1 + 2^-11 + 2^-25) (a tie if truncated to fp32 first)",
        [&](Experiment& e) { s.Put(e, 0, 7), s.Put(e, 1, -4), s.Put(e, 2, -18); });
    add("65504 + 16 (half an ulp: overflow)", [&](Experiment& e) { e.c = 0x7BFF, s.Put(e, 0, 4); });
    add("65504 + 15",
        [&](Experiment& e) { e.c = 0x7BFF, s.Put(e, 0, 3), s.Put(e, 1, 2), s.Put(e, 2, 1), s.Put(e, 3, 0); });
    if (layout.exponent_bits == 5 && layout.fraction_bits >= 2) {
      add("2^-25 (half the least)", [&](Experiment& e) { s.Put(e, 0, -25); });
      add("3 * 2^-26", [&](Experiment& e) { s.Put(e, 0, -25), s.Put(e, 1, -26); });
      add("-(2^-26)", [&](Experiment& e) { s.Put(e, 0, -26, true); });
    }
    if (input == Input::kFp16) {
      for (const int u : {44, 45, 46, 47, 48}) {
        add(Format("2^-25 + 2^-%d", u), [&](Experiment& e) { s.Put(e, 0, -25), s.Put(e, 1, -u); });
      }
    }
  }
  return list;
}

}  // namespace bitflash::gpu::probe

#endif  // BITFLASH_GPU_PROBES_EXPERIMENTS_H_
