#include "verify/device/guarded.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>
#include <stdexcept>

#include "data/format.h"

namespace bitflash::verify {
namespace {

constexpr uint16_t kGuard = 0xFFFF;
constexpr int64_t kGuardColumns = 8;

// K or V in pages of a shuffled cache, [pages, heads_kv, page_size, head_dim]; what no sequence uses is NaN.
struct PagedCache {
  int64_t pages = 0, pages_per_sequence = 0;
  std::vector<int32_t> table;
  std::vector<uint16_t> k, v;
};

PagedCache Paginate(const DeviceCase& c, const HostInputs& inputs, const std::vector<int64_t>& lengths) {
  const data::Attention& a = c.attention;
  const int64_t size = c.options.page_size;
  PagedCache cache;
  cache.pages_per_sequence = (a.seqlen_k + size - 1) / size;
  cache.pages = a.batch * cache.pages_per_sequence + 3;  // some belong to nobody
  std::vector<int32_t> order(cache.pages);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937_64(c.seed));
  // Entries beyond a sequence's length must not be followed: they point far outside.
  cache.table.assign(a.batch * cache.pages_per_sequence, INT32_MAX);
  cache.k.assign(cache.pages * a.heads_kv * size * a.head_dim, kGuard);
  cache.v = cache.k;
  int64_t next = 0;
  for (int64_t b = 0; b < a.batch; ++b) {
    for (int64_t j = 0; j < lengths[b]; ++j) {
      int32_t& page = cache.table[b * cache.pages_per_sequence + j / size];
      if (j % size == 0) page = order[next++];
      for (int64_t h = 0; h < a.heads_kv; ++h) {
        const int64_t to = ((page * a.heads_kv + h) * size + j % size) * a.head_dim;
        const int64_t from = ((b * a.heads_kv + h) * a.seqlen_k + j) * a.head_dim;
        std::copy_n(inputs.k.begin() + from, a.head_dim, cache.k.begin() + to);
        std::copy_n(inputs.v.begin() + from, a.head_dim, cache.v.begin() + to);
      }
    }
  }
  return cache;
}

// NaN in the rows that a sequence does not have.
std::vector<uint16_t> PoisonTails(const data::Attention& a, std::vector<uint16_t> x,
                                  const std::vector<int64_t>& lengths) {
  for (int64_t b = 0; b < a.batch; ++b) {
    for (int64_t h = 0; h < a.heads_kv; ++h) {
      const auto head = x.begin() + (b * a.heads_kv + h) * a.seqlen_k * a.head_dim;
      std::fill(head + lengths[b] * a.head_dim, head + a.seqlen_k * a.head_dim, kGuard);
    }
  }
  return x;
}

}  // namespace

GuardedTensor::GuardedTensor(int64_t batch, int64_t heads, int64_t rows, int64_t columns, Layout layout)
    : batch_(batch), heads_(heads), rows_(rows), columns_(columns) {
  const int64_t row = columns + kGuardColumns;
  if (layout == Layout::kHeadsFirst) {
    strides_ = {heads * (rows + 2) * row, (rows + 2) * row, row};
  } else {
    strides_ = {rows * (heads + 2) * row, row, (heads + 2) * row};
  }
  origin_ = row;
  elements_ = batch * strides_.batch + 2 * row;
  buffer_ = gpu::Buffer(2 * elements_);
}

template <class Visit>
void GuardedTensor::ForEachRow(const Visit& visit) const {
  int64_t packed = 0;
  for (int64_t b = 0; b < batch_; ++b) {
    for (int64_t h = 0; h < heads_; ++h) {
      for (int64_t r = 0; r < rows_; ++r, packed += columns_) {
        visit(packed, origin_ + b * strides_.batch + h * strides_.head + r * strides_.row);
      }
    }
  }
}

void GuardedTensor::Write(gpu::Stream& stream, const std::vector<uint16_t>& elements) {
  std::vector<uint16_t> all(elements_, kGuard);
  ForEachRow([&](int64_t packed, int64_t at) { std::copy_n(elements.begin() + packed, columns_, all.begin() + at); });
  stream.ToDevice(buffer_, all.data(), 2 * elements_);
}

void GuardedTensor::Poison(gpu::Stream& stream) { stream.Fill(buffer_, 0xFF); }

std::vector<uint16_t> GuardedTensor::Read(gpu::Stream& stream) const {
  std::vector<uint16_t> all(elements_), elements(batch_ * heads_ * rows_ * columns_);
  stream.ToHost(all.data(), buffer_, 2 * elements_);
  ForEachRow([&](int64_t packed, int64_t at) {
    std::copy_n(all.begin() + at, columns_, elements.begin() + packed);
    std::fill_n(all.begin() + at, columns_, kGuard);
  });
  const auto changed = std::find_if(all.begin(), all.end(), [](uint16_t x) { return x != kGuard; });
  if (changed != all.end()) {
    throw std::runtime_error("the kernel wrote outside its output, at element " +
                             std::to_string(changed - all.begin()));
  }
  return elements;
}

std::string ToString(const DeviceCase& c) {
  std::string text = c.kernel + ": " + data::ToString(c.attention);
  if (c.options.fp32_scores) text += ", fp32 scores";
  if (c.kernel == "split-kv") text += ", parts of " + std::to_string(c.options.chunk);
  if (c.options.page_size) text += ", pages of " + std::to_string(c.options.page_size);
  if (c.layout == GuardedTensor::Layout::kTokensFirst) text += ", bshd";
  for (const int64_t n : c.seqlens_k) text += ", " + std::to_string(n) + " keys";
  return text + ", " + std::string(Name(c.distribution));
}

HostInputs Generate(const DeviceCase& c) {
  const data::Attention& a = c.attention;
  const auto generate = [&](data::Role role, int64_t heads, int64_t rows, int64_t columns) {
    std::vector<uint16_t> bits(a.batch * heads * rows * columns);
    if (bits.empty()) return bits;
    data::Generate({c.distribution, role, c.seed, a.batch, heads, rows, columns, {}}, a.format, 0,
                   static_cast<int64_t>(bits.size()), bits.data());
    return bits;
  };
  return {generate(data::Role::kQ, a.heads_q, a.seqlen_q, a.head_dim),
          generate(data::Role::kK, a.heads_kv, a.seqlen_k, a.head_dim),
          generate(data::Role::kV, a.heads_kv, a.seqlen_k, a.head_dim_v)};
}

HostOutputs RunOnDevice(const DeviceCase& c, const HostInputs& inputs, int runs) {
  const data::Attention& a = c.attention;
  const gpu::Kernel* kernel = gpu::FindKernel(c.kernel);
  if (kernel == nullptr) throw std::runtime_error("there is no CUDA kernel " + c.kernel);
  gpu::Stream stream;
  const std::vector<int64_t> lengths = c.seqlens_k.empty() ? std::vector<int64_t>(a.batch, a.seqlen_k) : c.seqlens_k;

  GuardedTensor q(a.batch, a.heads_q, a.seqlen_q, a.head_dim, c.layout);
  GuardedTensor o(a.batch, a.heads_q, a.seqlen_q, a.head_dim_v, c.layout);
  q.Write(stream, inputs.q);
  PagedCache cache;
  int64_t kv_batch = a.batch, kv_rows = a.seqlen_k;
  if (c.options.page_size) {
    cache = Paginate(c, inputs, lengths);
    kv_batch = cache.pages;
    kv_rows = c.options.page_size;
  }
  GuardedTensor k(kv_batch, a.heads_kv, kv_rows, a.head_dim, c.layout);
  GuardedTensor v(kv_batch, a.heads_kv, kv_rows, a.head_dim_v, c.layout);
  k.Write(stream, c.options.page_size ? cache.k : PoisonTails(a, inputs.k, lengths));
  v.Write(stream, c.options.page_size ? cache.v : PoisonTails(a, inputs.v, lengths));

  const gpu::Buffer lse(a.lse_bytes()), workspace(kernel->WorkspaceBytes(a, c.options));
  const gpu::Buffer table(static_cast<int64_t>(cache.table.size()) * 4), seqlens(a.batch * 4);
  stream.ToDevice(table, cache.table.data(), table.bytes());
  const std::vector<int32_t> lengths32(lengths.begin(), lengths.end());
  stream.ToDevice(seqlens, lengths32.data(), seqlens.bytes());
  gpu::Tensors tensors{.q = q.data(),
                       .k = k.data(),
                       .v = v.data(),
                       .o = o.data(),
                       .lse = lse.as<float>(),
                       .q_strides = q.strides(),
                       .k_strides = k.strides(),
                       .v_strides = v.strides(),
                       .o_strides = o.strides()};
  if (!c.seqlens_k.empty()) tensors.seqlens_k = seqlens.as<int32_t>();
  if (c.options.page_size) {
    tensors.block_table = table.as<int32_t>();
    tensors.pages_per_sequence = cache.pages_per_sequence;
  }

  HostOutputs first;
  for (int run = 0; run < runs; ++run) {
    o.Poison(stream);
    stream.Fill(lse, 0xFF);
    stream.Fill(workspace, 0xFF);
    kernel->Launch(a, c.options, tensors, workspace.data(), stream);
    stream.Synchronize();
    HostOutputs outputs{o.Read(stream), std::vector<uint32_t>(a.lse_bytes() / 4)};
    stream.ToHost(outputs.lse.data(), lse, a.lse_bytes());
    if (std::count(outputs.lse.begin(), outputs.lse.end(), UINT32_MAX))
      throw std::runtime_error("an LSE was not written");
    if (run == 0) {
      first = std::move(outputs);
    } else if (!(outputs == first)) {
      throw std::runtime_error("run " + std::to_string(run + 1) + " gave other bits than the first");
    }
  }
  return first;
}

}  // namespace bitflash::verify
