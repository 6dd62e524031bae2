// Problems for the tests of what judges: random ones of every kind, a plain kernel whose roundings are known, and how
// far outputs are from the truth in units of its bounds.
#ifndef BITFLASH_VERIFY_JUDGE_TRUTH_TESTING_H_
#define BITFLASH_VERIFY_JUDGE_TRUTH_TESTING_H_

#include <algorithm>
#include <bit>
#include <cmath>
#include <random>
#include <vector>

#include "data/convert.h"
#include "data/distribution.h"
#include "reference/visible.h"
#include "verify/judge/truth.h"
#include "verify/subjects/simulate.h"

namespace bitflash::verify {

inline void GenerateTensors(data::Distribution distribution, uint64_t seed, Problem* p) {
  const KernelInputs in =
      GenerateInputs(p->attention, SelectHeads(p->attention, 0, p->attention.heads_q), distribution, seed);
  p->q = in.q;
  p->k = in.k;
  if (!p->attention.v_is_in_k) p->v = in.v;
}

// The largest error, in units of the bound. Infinite where one side is finite and the other is not, or where two
// infinities differ. LSE of rows without keys is not looked at: kernels choose -inf, +inf or 0.
struct Ratio {
  double o = 0, lse = 0;
  double o_sigmas = 0;  // the largest error of O in units of o_sigma
};
inline Ratio Compare(const Outputs& outputs, const Truth& truth) {
  const auto value = [](const data::Tensor& t, data::Format format, size_t n) -> double {
    const auto get = [&](auto bits) { return static_cast<uint32_t>(t.Elements<decltype(bits)>()[n]); };
    const int64_t bytes = data::StorageBytes(format);
    return data::Decode(format, bytes == 1 ? get(uint8_t{}) : bytes == 2 ? get(uint16_t{}) : get(uint32_t{}));
  };
  const auto ratio = [](double mine, double exact, double bound) {
    if (std::isnan(mine) && std::isnan(exact)) return 0.0;
    if (mine == exact || (bound == INFINITY && std::isfinite(exact))) return 0.0;
    const double units = std::abs(mine - exact) / bound;
    return units >= 0 && std::isfinite(exact) ? units : INFINITY;
  };
  Ratio worst;
  const data::Format format = outputs.o.type().format().value();
  for (size_t n = 0; n < truth.o.size(); ++n) {
    const double mine = value(outputs.o, format, n);
    worst.o = std::max(worst.o, ratio(mine, truth.o[n], truth.o_bound[n]));
    worst.o_sigmas = std::max(worst.o_sigmas, ratio(mine, truth.o[n], truth.o_sigma[n]));
  }
  if (!outputs.lse) return worst;
  for (size_t n = 0; n < truth.lse.size(); ++n) {
    if (truth.lse[n] == -INFINITY) continue;
    worst.lse =
        std::max(worst.lse, ratio(value(*outputs.lse, data::Format::kFp32, n), truth.lse[n], truth.lse_bound[n]));
  }
  return worst;
}

// Textbook attention in fp32, key by key, with P rounded to the inputs' format before the product with V (not for
// fp32) and O to `output`. Shares nothing with the golden attention but the definition of the masks.
inline Outputs PlainKernel(const Problem& p, data::Format output) {
  const data::Attention& a = p.attention;
  const data::Format in = a.format;
  Outputs out{data::Tensor::Zeros(output, {a.batch, a.heads_q, a.seqlen_q, a.head_dim_v}),
              data::Tensor::Zeros(data::Format::kFp32, {a.batch, a.heads_q, a.seqlen_q})};
  const auto at = [&](const data::Tensor& t, int64_t n, int64_t h, int64_t row, int64_t c) {
    return data::Decode(in, static_cast<uint32_t>(t.Bits({n, h, row, c})));
  };
  const float scale = static_cast<float>(a.scale() * p.q_scale * p.k_scale);
  for (int64_t n = 0; n < a.batch; ++n) {
    for (int64_t h = 0; h < a.heads_q; ++h) {
      for (int64_t i = 0; i < p.queries(n); ++i) {
        std::vector<float> scores(p.keys(n), -INFINITY), O(a.head_dim_v);
        const float sink = p.sinks.empty() ? -INFINITY : static_cast<float>(p.sinks[h]);
        float m = sink;
        for (int64_t j = 0; j < p.keys(n); ++j) {
          if (!reference::Visible(a.mask, p.queries(n), p.keys(n), i, j)) continue;
          float dot = 0;
          for (int64_t c = 0; c < a.head_dim; ++c) {
            dot = std::fma(at(p.q, n, h, i, c), at(p.k, n, h / a.group(), j, c), dot);
          }
          scores[j] = dot * scale;
          if (a.softcap > 0) {
            scores[j] = static_cast<float>(a.softcap) * std::tanh(scores[j] / static_cast<float>(a.softcap));
          }
          m = std::max(m, scores[j]);
        }
        float l = m == -INFINITY ? 0 : std::exp(sink - m);
        for (int64_t j = 0; j < p.keys(n); ++j) {
          if (scores[j] == -INFINITY) continue;
          const float weight = std::exp(scores[j] - m);
          l += weight;
          const float rounded = in == data::Format::kFp32 ? weight : data::Decode(in, data::Encode(in, weight));
          for (int64_t d = 0; d < a.head_dim_v; ++d) {
            O[d] = std::fma(rounded, at(a.v_is_in_k ? p.k : p.v, n, h / a.group(), j, d), O[d]);
          }
        }
        for (int64_t d = 0; d < a.head_dim_v; ++d) {
          const float o = l > 0 ? O[d] / l * static_cast<float>(p.v_scale) : 0;
          out.o.SetBits({n, h, i, d}, data::Encode(output, o));
        }
        out.lse->SetBits({n, h, i}, std::bit_cast<uint32_t>(l > 0 ? m + std::log(l) : -INFINITY));
      }
    }
  }
  return out;
}

// Small, of any format, mask, scale, sinks, softcap and lengths.
inline Problem RandomTruthProblem(std::mt19937_64& rng, int64_t longest) {
  const auto pick = [&](int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(rng); };
  const auto real = [&](double low, double high) { return std::uniform_real_distribution<double>(low, high)(rng); };
  const data::Format formats[] = {data::Format::kFp16, data::Format::kBf16, data::Format::kFp32, data::Format::kE4m3,
                                  data::Format::kE5m2};
  Problem p;
  data::Attention& a = p.attention;
  a.batch = pick(1, 2);
  a.heads_kv = pick(1, 2);
  a.heads_q = a.heads_kv * pick(1, 2);
  a.seqlen_q = pick(1, 12);
  a.seqlen_k = pick(0, 8) == 0 ? 0 : pick(1, longest);
  a.head_dim = pick(1, 40);
  a.head_dim_v = pick(1, 20);
  a.format = formats[pick(0, 4)];
  const data::Mask masks[] = {data::Mask::Full(), data::Mask::Causal(), data::Mask::CausalTopLeft(),
                              data::Mask::Window(pick(-1, longest), pick(-1, longest))};
  a.mask = masks[pick(0, 3)];
  if (pick(0, 2) == 0) a.softmax_scale = real(0.01, 1);
  if (pick(0, 2) == 0) a.softcap = real(1, 50);
  a.v_is_in_k = a.head_dim_v <= a.head_dim && pick(0, 3) == 0;
  if (pick(0, 2) == 0) p.q_scale = real(0.1, 4), p.k_scale = real(0.1, 4), p.v_scale = real(0.1, 4);
  for (int64_t h = 0; h < a.heads_q && a.seqlen_k % 3 == 0; ++h) p.sinks.push_back(static_cast<float>(real(-5, 20)));
  if (pick(0, 2) == 0) {
    for (int64_t n = 0; n < a.batch; ++n) {
      p.seqlens_q.push_back(pick(0, a.seqlen_q));
      p.seqlens_k.push_back(pick(0, a.seqlen_k));
    }
  }
  const auto& all = data::AllDistributions();  // the last one holds NaN
  GenerateTensors(all[pick(0, static_cast<int64_t>(all.size()) - 2)].distribution, rng(), &p);
  return p;
}

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_JUDGE_TRUTH_TESTING_H_
