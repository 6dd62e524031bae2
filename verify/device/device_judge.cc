#include "verify/device/device_judge.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "data/convert_simd.h"
#include "gpu/device.h"
#include "reference/error_bound.h"
#include "reference/golden.h"

namespace bitflash::verify {
namespace {

using data::Attention;
using data::Format;
using gpu::Inputs;
using gpu::Outputs;

std::vector<float> ToFloat(Format format, const std::vector<uint16_t>& bits) {
  std::vector<float> values(bits.size());
  data::ToFloat(format, bits.data(), values.data(), static_cast<int64_t>(bits.size()));
  return values;
}

reference::Arithmetic ArithmeticOf(const DeviceCase& c) {
  const Attention& a = c.attention;
  reference::Arithmetic r = reference::Arithmetic::ForFormat(a.format);
  const bool hopper = gpu::CurrentDevice().major >= 9;
  r.step_products = hopper ? 16 : 8;
  r.alignment_bits = hopper ? 25 : 24;
  r.p_is_normalized = c.kernel == "standard";
  r.rescales = a.seqlen_k / 64 + 3;
  r.keys_per_sum = a.seqlen_k;
  if (c.kernel == "standard" && !c.options.fp32_scores) r.score_unit = r.p_unit;
  return r;
}

Scores JudgeWhole(const DeviceCase& c, const Inputs& inputs, const Outputs& outputs) {
  const Attention& a = c.attention;
  const std::vector<float> q = ToFloat(a.format, inputs.q), k = ToFloat(a.format, inputs.k),
                           v = ToFloat(a.format, inputs.v), o = ToFloat(a.format, outputs.o);
  const auto view = [](const std::vector<float>& x) {
    return reference::Operand{.elements = std::span<const float>(x)};
  };
  const reference::GoldenInputs golden_inputs{view(q), view(k), view(v), c.lengths};
  const auto [golden, bound] = reference::BoundAttention(a, golden_inputs, {}, ArithmeticOf(c));
  const auto score = [](double mine, double truth, double limit) {
    if (mine == truth) return 0.0;
    const double ratio = std::abs(mine - truth) / limit;
    return ratio <= 1e300 ? ratio : INFINITY;  // NaN too
  };
  Scores worst;
  for (size_t n = 0; n < o.size(); ++n) worst.o = std::max(worst.o, score(o[n], golden.O[n], bound.O[n]));
  for (size_t n = 0; n < outputs.lse.size(); ++n) {
    worst.lse = std::max(worst.lse, score(std::bit_cast<float>(outputs.lse[n]), golden.LSE[n], bound.LSE[n]));
  }
  return worst;
}

}  // namespace

Scores Judge(const DeviceCase& c, const Inputs& inputs, const Outputs& outputs) {
  if (!c.packed()) return JudgeWhole(c, inputs, outputs);
  Scores worst;
  for (int64_t b = 0; b < c.attention.batch; ++b) {
    if (c.query_rows(b) == 0) continue;
    const Scores one = JudgeWhole(Sequence(c, b), SequenceOf(c, inputs, b), SequenceOf(c, outputs, b));
    worst = {std::max(worst.o, one.o), std::max(worst.lse, one.lse)};
  }
  return worst;
}

}  // namespace bitflash::verify
