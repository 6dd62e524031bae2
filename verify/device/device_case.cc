#include "verify/device/device_case.h"

#include <stdexcept>
#include <utility>

#include "gpu/record/device_call.h"

namespace bitflash::verify {

std::string ToString(const DeviceCase& c) {
  std::string text = c.kernel + ": " + data::ToString(c.attention);
  if (c.options.fp32_scores) text += ", fp32 scores";
  if (c.kernel == "split-kv") text += ", parts of " + std::to_string(c.options.chunk);
  if (c.options.page_size) text += ", pages of " + std::to_string(c.options.page_size);
  if (c.layout == gpu::Layout::kTokenMajor) text += ", bshd";
  for (const int64_t n : c.lengths) text += ", " + std::to_string(n) + " keys";
  return text + ", " + std::string(Name(c.distribution));
}

gpu::Inputs Generate(const DeviceCase& c) {
  const data::Attention& a = c.attention;
  const auto generate = [&](data::Role role, int64_t heads, int64_t rows) {
    std::vector<uint16_t> bits(a.batch * heads * rows * a.head_dim);
    if (bits.empty()) return bits;
    data::Generate({c.distribution, role, c.seed, a.batch, heads, rows, a.head_dim, {}}, a.format, 0,
                   static_cast<int64_t>(bits.size()), bits.data());
    return bits;
  };
  return {generate(data::Role::kQ, a.heads_q, a.seqlen_q), generate(data::Role::kK, a.heads_kv, a.seqlen_k),
          generate(data::Role::kV, a.heads_kv, a.seqlen_k)};
}

gpu::Outputs RunOnDevice(const DeviceCase& c, const gpu::Inputs& inputs, int runs) {
  gpu::Stream stream;
  gpu::Runs result = gpu::DeviceCall(c, inputs, stream).Run(runs);
  if (!result.problems.empty()) throw std::runtime_error(result.problems.front());
  return std::move(result.outputs.front());
}

}  // namespace bitflash::verify
