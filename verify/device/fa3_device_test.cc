// fa3 on the GPU: what only it has, and what it must give exactly like another kernel. device_test.cc tests it like
// all.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>

#include "gpu/record/device_call.h"
#include "verify/device/device_case.h"

namespace bitflash::verify {
namespace {

using data::Format;
using data::Mask;
using gpu::Inputs;
using gpu::Layout;
using gpu::Outputs;

constexpr int64_t kHeadDims[] = {64, 96, 128, 192, 256};
constexpr uint16_t kNan = 0x7FFF;  // of fp16 and of bf16

// True, with a word, where there is nothing to test.
bool IsMissing() {
  const auto kernels = KernelsHere();
  if (std::ranges::find(kernels, "fa3", &gpu::Kernel::name) != kernels.end()) return false;
  std::puts("fa3 does not run on this device");
  return true;
}

DeviceCase Case(const data::Attention& a, uint64_t seed = 1) {
  DeviceCase c{{"fa3", a}};
  c.seed = seed;
  return c;
}

// With key tiles of 128 in both, mma.sync and wgmma sum alike on Hopper; no simulator takes part.
TEST_CASE("fa3 and fa2 give the same bits with head_dim 64") {
  if (IsMissing()) return;
  const struct {
    int64_t batch, heads_q, heads_kv, seqlen_q, seqlen_k;
    Mask mask;
  } problems[] = {{1, 4, 4, 1000, 1000, Mask::Causal()},
                  {2, 6, 2, 193, 777, Mask::Full()},
                  {1, 8, 1, 385, 129, Mask::Causal()},
                  {1, 4, 2, 500, 640, Mask::Window(100, 30)},
                  {3, 2, 2, 191, 255, Mask::CausalTopLeft()},
                  {1, 8, 2, 1, 4097, Mask::Full()},
                  {1, 2, 1, 70, 0, Mask::Full()},
                  {1, 16, 4, 2048, 2048, Mask::Causal()}};
  uint64_t seed = 300;
  for (const auto& p : problems) {
    for (const Format format : {Format::kBf16, Format::kFp16}) {
      DeviceCase c = Case(
          data::PlainAttention(p.batch, p.heads_q, p.heads_kv, p.seqlen_q, p.seqlen_k, 64, p.mask, format), ++seed);
      CAPTURE(ToString(c));
      const Inputs inputs = Generate(c);
      const Outputs fa3 = RunOnDevice(c, inputs);
      c.kernel = "fa2";
      CHECK(RunOnDevice(c, inputs) == fa3);
    }
  }
}

TEST_CASE("packed sequences have the bits that each has alone") {
  if (IsMissing()) return;
  const struct {
    std::vector<int64_t> queries, keys;
  } batches[] = {{{300, 1, 128, 77}, {300, 1, 129, 77}},  // lengths next to tiles
                 {{0, 200, 193, 5}, {100, 513, 0, 127}},  // no queries, no keys
                 {{64, 65, 63, 1, 1}, {1, 64, 65, 63, 0}}};
  for (const int64_t head_dim : kHeadDims) {
    for (const Mask mask : {Mask::Full(), Mask::Causal(), Mask::CausalTopLeft(), Mask::Window(60, 20)}) {
      for (const auto& batch : batches) {
        DeviceCase c =
            Case(data::PlainAttention(static_cast<int64_t>(batch.queries.size()), 6, 2, std::ranges::max(batch.queries),
                                      std::ranges::max(batch.keys), head_dim, mask, Format::kBf16));
        c.queries = batch.queries;
        c.lengths = batch.keys;
        CAPTURE(ToString(c));
        const Inputs inputs = Generate(c);
        const Outputs all = RunOnDevice(c, inputs);
        c.layout = Layout::kTokenMajor;
        CHECK(RunOnDevice(c, inputs) == all);
        for (int64_t b = 0; b < c.attention.batch; ++b) {
          if (c.query_rows(b) == 0) continue;
          CAPTURE(b);
          CHECK(RunOnDevice(Sequence(c, b), SequenceOf(c, inputs, b)) == SequenceOf(c, all, b));
        }
      }
    }
  }
}

// P = 0 times NaN is NaN: a tile that reaches into the next sequence must not multiply its V.
TEST_CASE("NaN in a neighbour of a packed sequence changes nothing") {
  if (IsMissing()) return;
  gpu::Stream stream;
  for (const int64_t head_dim : kHeadDims) {
    DeviceCase c = Case(data::PlainAttention(3, 4, 2, 150, 200, head_dim, Mask::Causal(), Format::kFp16));
    c.queries = {100, 150, 70};
    c.lengths = {133, 200, 75};
    c.layout = Layout::kContiguous;
    const Inputs inputs = Generate(c);
    const Outputs clean = RunOnDevice(c, inputs);
    for (int64_t bad = 0; bad < 3; ++bad) {
      CAPTURE(head_dim);
      CAPTURE(bad);
      Inputs poisoned = inputs;
      for (std::vector<uint16_t>* x : {&poisoned.q, &poisoned.k, &poisoned.v}) {
        const auto of_sequence = static_cast<std::ptrdiff_t>(x->size() / 3);
        std::fill_n(x->begin() + bad * of_sequence, of_sequence, kNan);
      }
      const gpu::Runs runs = gpu::DeviceCall(c, poisoned, stream).Run(1);
      for (int64_t b = 0; b < 3; ++b) {
        if (b != bad) CHECK(SequenceOf(c, runs.outputs[0], b) == SequenceOf(c, clean, b));
      }
    }
  }
}

TEST_CASE("many more query tiles than SMs: every head is what it is alone") {
  if (IsMissing()) return;
  for (const Mask mask : {Mask::Full(), Mask::Causal()}) {
    for (const int64_t head_dim : {64, 128}) {
      const DeviceCase c = Case(data::PlainAttention(5, 48, 12, 300, 400, head_dim, mask, Format::kBf16));
      CAPTURE(ToString(c));
      const Inputs inputs = Generate(c);
      const Outputs all = RunOnDevice(c, inputs, 3);
      for (const int64_t b : {0, 2, 4})
        CHECK(RunOnDevice(Sequence(c, b), SequenceOf(c, inputs, b)) == SequenceOf(c, all, b));
    }
  }
}

// Programmatic dependent launch: a kernel may start before the one before has written.
TEST_CASE("launches one behind another, each with the O before as its Q") {
  if (IsMissing()) return;
  gpu::Stream stream;
  const gpu::Kernel& kernel = *gpu::FindKernel("fa3");
  for (const Mask mask : {Mask::Causal(), Mask::Full()}) {
    const DeviceCase c = Case(data::PlainAttention(2, 8, 8, 512, 512, 128, mask, Format::kBf16));
    const data::Attention& a = c.attention;
    CAPTURE(ToString(c));
    const Inputs inputs = Generate(c);
    const gpu::Buffer x(a.q_bytes()), y(a.q_bytes()), k(a.k_bytes()), v(a.v_bytes());
    const gpu::Buffer workspace(kernel.WorkspaceBytes(a, {}));
    const auto chain = [&](bool wait) {
      stream.ToDevice(x, inputs.q.data(), x.bytes());
      stream.ToDevice(k, inputs.k.data(), k.bytes());
      stream.ToDevice(v, inputs.v.data(), v.bytes());
      for (int n = 0; n < 6; ++n) {
        const gpu::Buffer &from = n % 2 ? y : x, &to = n % 2 ? x : y;
        kernel.Launch(a, {}, gpu::ContiguousTensors(a, from.data(), k.data(), v.data(), to.data(), nullptr),
                      workspace.data(), stream);
        if (wait) stream.Synchronize();
      }
      std::vector<uint16_t> o(inputs.q.size());
      stream.Synchronize();
      stream.ToHost(o.data(), x, x.bytes());
      return o;
    };
    const std::vector<uint16_t> expected = chain(true);
    for (int n = 0; n < 5; ++n) CHECK(chain(false) == expected);
  }
}

}  // namespace
}  // namespace bitflash::verify
