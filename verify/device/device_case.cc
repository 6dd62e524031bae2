#include "verify/device/device_case.h"

#include <stdexcept>
#include <utility>

#include "gpu/record/device_call.h"

namespace bitflash::verify {
namespace {

// The first `kept` of `rows` rows, of `columns` elements, of the heads of one sequence.
template <class T>
std::vector<T> Cut(const std::vector<T>& x, int64_t sequence, int64_t heads, int64_t rows, int64_t kept,
                   int64_t columns) {
  std::vector<T> out;
  for (int64_t h = 0; h < heads; ++h) {
    const auto head = x.begin() + (sequence * heads + h) * rows * columns;
    out.insert(out.end(), head, head + kept * columns);
  }
  return out;
}

}  // namespace

std::vector<gpu::Kernel> KernelsHere() {
  std::vector<gpu::Kernel> kernels;
  for (const gpu::Kernel& kernel : gpu::Kernels()) {
    if (gpu::DeviceRefusal(kernel, gpu::CurrentDevice()).empty()) kernels.push_back(kernel);
  }
  return kernels;
}

DeviceCase Sequence(const DeviceCase& c, int64_t sequence) {
  DeviceCase one = c;
  one.attention.batch = 1;
  one.attention.seqlen_q = c.query_rows(sequence);
  one.attention.seqlen_k = c.keys(sequence);
  one.lengths.clear();
  one.queries.clear();
  return one;
}

gpu::Inputs SequenceOf(const DeviceCase& c, const gpu::Inputs& inputs, int64_t sequence) {
  const data::Attention& a = c.attention;
  const int64_t rows = c.query_rows(sequence), keys = c.keys(sequence);
  return {Cut(inputs.q, sequence, a.heads_q, a.seqlen_q, rows, a.head_dim),
          Cut(inputs.k, sequence, a.heads_kv, a.seqlen_k, keys, a.head_dim),
          Cut(inputs.v, sequence, a.heads_kv, a.seqlen_k, keys, a.head_dim)};
}

gpu::Outputs SequenceOf(const DeviceCase& c, const gpu::Outputs& outputs, int64_t sequence) {
  const data::Attention& a = c.attention;
  const int64_t rows = c.query_rows(sequence);
  return {Cut(outputs.o, sequence, a.heads_q, a.seqlen_q, rows, a.head_dim),
          Cut(outputs.lse, sequence, a.heads_q, a.seqlen_q, rows, 1)};
}

std::string ToString(const DeviceCase& c) {
  std::string text = c.kernel + ": " + data::ToString(c.attention);
  if (c.options.fp32_scores) text += ", fp32 scores";
  if (c.kernel == "split-kv") text += ", parts of " + std::to_string(c.options.chunk);
  if (c.options.page_size) text += ", pages of " + std::to_string(c.options.page_size);
  if (c.layout == gpu::Layout::kTokenMajor) text += ", bshd";
  for (const int64_t n : c.queries) text += ", " + std::to_string(n) + " queries";
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
