// Packed sequences at the edges of what a caller may hand over: of memory, of lengths, of numbers of sequences. That
// they have the bits of each alone is in fa3_device_test.cc.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <numeric>

#include "gpu/record/device_call.h"
#include "gpu/record/island.h"
#include "verify/device/device_case.h"

namespace bitflash::verify {
namespace {

using data::Format;
using data::Mask;
using gpu::Inputs;
using gpu::Island;
using gpu::Outputs;
using gpu::Shore;

constexpr int64_t kHeadDims[] = {64, 96, 128, 192, 256};

bool IsMissing() {
  const auto kernels = KernelsHere();
  if (std::ranges::find(kernels, "fa3", &gpu::Kernel::name) != kernels.end()) return false;
  std::puts("fa3 does not run on this device");
  return true;
}

DeviceCase Packed(const std::vector<int64_t>& queries, const std::vector<int64_t>& keys, int64_t heads_q,
                  int64_t heads_kv, int64_t head_dim, Mask mask) {
  DeviceCase c{
      {"fa3", data::PlainAttention(static_cast<int64_t>(queries.size()), heads_q, heads_kv, std::ranges::max(queries),
                                   std::ranges::max(keys), head_dim, mask, Format::kBf16)}};
  c.queries = queries;
  c.lengths = keys;
  return c;
}

// The rows that sequences have of a [batch, heads, rows, columns], as [total, heads, columns].
std::vector<uint16_t> Pack(const std::vector<uint16_t>& x, const std::vector<int64_t>& lengths, int64_t heads,
                           int64_t rows, int64_t columns) {
  std::vector<uint16_t> out;
  for (size_t b = 0; b < lengths.size(); ++b) {
    for (int64_t r = 0; r < lengths[b]; ++r) {
      for (int64_t h = 0; h < heads; ++h) {
        const auto row = x.begin() + ((static_cast<int64_t>(b) * heads + h) * rows + r) * columns;
        out.insert(out.end(), row, row + columns);
      }
    }
  }
  return out;
}

std::vector<int32_t> Starts(const std::vector<int64_t>& lengths) {
  std::vector<int32_t> starts(lengths.size() + 1);
  std::partial_sum(lengths.begin(), lengths.end(), starts.begin() + 1);
  return starts;
}

// O, packed, of a call whose tensors all have an unmapped address in front of them, or behind.
std::vector<uint16_t> RunOnIslands(const DeviceCase& c, const Inputs& inputs, Shore shore) {
  const data::Attention& a = c.attention;
  const std::vector<uint16_t> q = Pack(inputs.q, c.queries, a.heads_q, a.seqlen_q, a.head_dim),
                              k = Pack(inputs.k, c.lengths, a.heads_kv, a.seqlen_k, a.head_dim),
                              v = Pack(inputs.v, c.lengths, a.heads_kv, a.seqlen_k, a.head_dim);
  std::vector<uint16_t> o(q.size(), 0xFFFF);
  const auto bytes = [](const auto& x) { return static_cast<int64_t>(x.size() * sizeof(x[0])); };
  const Island q_island(bytes(q), shore), k_island(bytes(k), shore), v_island(bytes(v), shore),
      o_island(bytes(o), shore);
  q_island.FromHost(q.data()), k_island.FromHost(k.data()), v_island.FromHost(v.data()), o_island.FromHost(o.data());
  gpu::Stream stream;
  const auto upload = [&](const std::vector<int32_t>& starts) {
    gpu::Buffer buffer(bytes(starts));
    stream.ToDevice(buffer, starts.data(), buffer.bytes());
    return buffer;
  };
  const gpu::Buffer starts_q = upload(Starts(c.queries)), starts_k = upload(Starts(c.lengths));
  const gpu::Kernel& kernel = *gpu::FindKernel("fa3");
  const gpu::Buffer workspace(kernel.WorkspaceBytes(a, {}));
  gpu::Tensors t{.q = q_island.data(), .k = k_island.data(), .v = v_island.data(), .o = o_island.data()};
  t.q_strides = t.o_strides = {.head = a.head_dim, .row = a.heads_q * a.head_dim};
  t.k_strides = t.v_strides = {.head = a.head_dim, .row = a.heads_kv * a.head_dim};
  t.cu_seqlens_q = starts_q.as<int32_t>();
  t.cu_seqlens_k = starts_k.as<int32_t>();
  kernel.Launch(a, {}, t, workspace.data(), stream);
  stream.Synchronize();
  o_island.ToHost(o.data());
  return o;
}

TEST_CASE("packed sequences need nothing mapped in front of their tensors, nor behind") {
  if (IsMissing()) return;
  const std::pair<std::vector<int64_t>, std::vector<int64_t>> batches[] = {{{300, 1, 128, 77}, {300, 1, 129, 77}},
                                                                           {{5, 700, 0}, {640, 3, 50}},
                                                                           {{1, 1, 1}, {129, 1, 257}},
                                                                           {{33}, {1000}},
                                                                           {{2000, 20}, {20, 2000}}};
  for (const int64_t head_dim : kHeadDims) {
    for (const Mask mask : {Mask::Full(), Mask::Causal(), Mask::Window(60, 20)}) {
      for (const auto& [queries, keys] : batches) {
        DeviceCase c = Packed(queries, keys, 6, 2, head_dim, mask);
        CAPTURE(ToString(c));
        const Inputs inputs = Generate(c);
        const data::Attention& a = c.attention;
        const std::vector<uint16_t> expected =
            Pack(RunOnDevice(c, inputs).o, c.queries, a.heads_q, a.seqlen_q, a.head_dim);
        CHECK(RunOnIslands(c, inputs, Shore::kFront) == expected);
        CHECK(RunOnIslands(c, inputs, Shore::kBack) == expected);
      }
    }
  }
}

}  // namespace
}  // namespace bitflash::verify
