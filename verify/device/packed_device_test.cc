// Packed sequences at the edges of what a caller may hand over: of memory, of lengths, of numbers of sequences. That
// they have the bits of each alone is in fa3_device_test.cc.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <numeric>

#include "gpu/record/device_call.h"
#include "gpu/record/island.h"
#include "verify/device/device_case.h"
#include "verify/device/large_tensor.h"

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

TEST_CASE("packed sequences may be empty, of one row, one alone, or all without keys") {
  if (IsMissing()) return;
  const std::pair<std::vector<int64_t>, std::vector<int64_t>> batches[] = {
      {{0, 0, 130, 0}, {7, 0, 200, 9}},              // the first and the last have no rows
      {{130, 70, 1}, {0, 0, 0}},                     // nobody has keys
      {{300}, {300}},                                // one sequence
      {{1}, {1}},                                    // of one row
      {{1, 1, 1, 1, 1}, {1, 2, 300, 0, 64}},         // decoding
      {{0, 1, 0, 0, 257, 0}, {0, 0, 0, 65, 1, 400}}  // empty ones in between
  };
  for (const int64_t head_dim : {64, 128, 256}) {
    for (const Mask mask : {Mask::Full(), Mask::Causal(), Mask::CausalTopLeft(), Mask::Window(30, 5)}) {
      for (const auto& [queries, keys] : batches) {
        const DeviceCase c = Packed(queries, keys, 4, 2, head_dim, mask);
        CAPTURE(ToString(c));
        const Inputs inputs = Generate(c);
        const Outputs all = RunOnDevice(c, inputs);
        for (int64_t b = 0; b < c.attention.batch; ++b) {
          if (c.query_rows(b) == 0) continue;
          CAPTURE(b);
          CHECK(RunOnDevice(Sequence(c, b), SequenceOf(c, inputs, b)) == SequenceOf(c, all, b));
        }
      }
    }
  }
}

TEST_CASE("where all sequences are empty, nothing is written") {
  if (IsMissing()) return;
  DeviceCase c = Packed({1, 1}, {5, 0}, 2, 1, 64, Mask::Causal());  // the longest might have a row
  c.queries = {0, 0};
  CHECK_NOTHROW(RunOnDevice(c, Generate(c)));
}

// More than 2^16, the limit of a grid's second dimension, with more query tiles than any wave has blocks. They repeat
// seven.
TEST_CASE("a hundred thousand packed sequences") {
  if (IsMissing()) return;
  const std::vector<int64_t> queries = {1, 3, 0, 2, 1, 4, 1}, keys = {4, 0, 2, 1, 3, 4, 1};
  constexpr int64_t kRepeats = 15000;
  const DeviceCase few = Packed(queries, keys, 2, 1, 64, Mask::Causal());
  const Inputs inputs = Generate(few);
  const Outputs expected = RunOnDevice(few, inputs);
  const auto repeat = [](const auto& x) {
    auto out = x;
    out.clear();
    out.reserve(x.size() * kRepeats);
    for (int64_t n = 0; n < kRepeats; ++n) out.insert(out.end(), x.begin(), x.end());
    return out;
  };
  const DeviceCase many = Packed(repeat(queries), repeat(keys), 2, 1, 64, Mask::Causal());
  const Outputs all = RunOnDevice(many, {repeat(inputs.q), repeat(inputs.k), repeat(inputs.v)}, 1);
  CHECK(all.o == repeat(expected.o));
  CHECK(all.lse == repeat(expected.lse));
}

TEST_CASE("packed tensors with more than 2^31 elements: the last sequence is what it is alone" *
          doctest::test_suite("large")) {
  if (IsMissing()) return;
  gpu::Stream stream;
  std::vector<uint16_t> block(64000008);
  const int64_t length = static_cast<int64_t>(block.size());
  data::Generate({.seed = 5, .seqlen = length}, Format::kBf16, 0, length, block.data());
  constexpr int64_t kHeads = 8, kHeadDim = 128, kLong = 2200000, kRow = kHeads * kHeadDim;
  static_assert(kLong * kRow > int64_t{1} << 31);
  const gpu::Kernel& kernel = *gpu::FindKernel("fa3");
  for (const auto& [queries, keys] :
       {std::pair<std::vector<int64_t>, std::vector<int64_t>>{{kLong, 70}, {100, 90}}, {{5, 70}, {kLong, 90}}}) {
    const DeviceCase c = Packed(queries, keys, kHeads, kHeads, kHeadDim, Mask::Causal());
    CAPTURE(ToString(c));
    const int64_t rows = queries[0] + queries[1], all_keys = keys[0] + keys[1];
    const LargeTensor q(stream, block, rows * kRow), k(stream, block, all_keys * kRow),
        v(stream, block, all_keys * kRow);
    const gpu::Buffer o(2 * rows * kRow), workspace(kernel.WorkspaceBytes(c.attention, {}));
    const std::vector<int32_t> starts_q = Starts(queries), starts_k = Starts(keys);
    gpu::Buffer cu_q(4 * 3), cu_k(4 * 3);
    stream.ToDevice(cu_q, starts_q.data(), cu_q.bytes());
    stream.ToDevice(cu_k, starts_k.data(), cu_k.bytes());
    gpu::Tensors t{.q = q.at(0), .k = k.at(0), .v = v.at(0), .o = o.data()};
    t.q_strides = t.k_strides = t.v_strides = t.o_strides = {.head = kHeadDim, .row = kRow};
    t.cu_seqlens_q = cu_q.as<int32_t>();
    t.cu_seqlens_k = cu_k.as<int32_t>();
    kernel.Launch(c.attention, {}, t, workspace.data(), stream);

    std::vector<uint16_t> packed(70 * kRow), mine(packed.size());
    stream.ToHost(packed.data(), o, 2 * 70 * kRow, 2 * queries[0] * kRow);
    // [heads, rows, columns] of what starts at this row of a tensor.
    const auto part = [&](int64_t start, int64_t count) {
      std::vector<uint16_t> out(count * kRow);
      for (int64_t n = 0; n < count * kRow; ++n) {
        const int64_t head = n / kHeadDim / count, row = n / kHeadDim % count;
        out[n] = block[((start + row) * kRow + head * kHeadDim + n % kHeadDim) % length];
      }
      return out;
    };
    for (int64_t n = 0; n < 70 * kRow; ++n) {
      const int64_t head = n / kHeadDim / 70, row = n / kHeadDim % 70;
      mine[n] = packed[row * kRow + head * kHeadDim + n % kHeadDim];
    }
    const std::vector<uint16_t> last_keys = part(keys[0], 90);
    CHECK(mine == RunOnDevice(Sequence(c, 1), {part(queries[0], 70), last_keys, last_keys}, 1).o);
  }
}

}  // namespace
}  // namespace bitflash::verify
