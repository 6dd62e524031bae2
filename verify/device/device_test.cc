// The CUDA kernels on the GPU they run on: against fp64, element by element; nothing outside the tensors is read or
// written; nothing that must not change bits changes them. Bits against the simulated twins are compared by
// `bitflash verify --device cuda` and by the recordings in data/golden.
//
//   device_test                     everything but the large tensors
//   device_test -ts=large           tensors with more than 2^31 elements (needs 40 GB)
//   device_test -tc="*sanitizer*"   one small launch of everything, for compute-sanitizer
#define DOCTEST_CONFIG_IMPLEMENT
#include "gpu/device.h"

#include <doctest/doctest.h>

#include <cstdio>

#include "data/error.h"
#include "gpu/entries.h"
#include "verify/device/device_judge.h"
#include "verify/device/large_tensor.h"

namespace bitflash::verify {
namespace {

using data::Attention;
using data::Format;
using data::Mask;
using gpu::Inputs;
using gpu::Layout;
using gpu::Outputs;

constexpr int64_t kHeadDims[] = {64, 96, 128, 192, 256};

// Every kernel, type, head_dim and mask; lengths around tile edges, grouped heads, both layouts.
std::vector<DeviceCase> Cases() {
  const Mask masks[] = {Mask::Full(), Mask::Causal(), Mask::CausalTopLeft(), Mask::Window(40, 8), Mask::Window(100, 0)};
  const struct {
    int64_t batch, heads_q, heads_kv, seqlen_q, seqlen_k;
  } shapes[] = {{1, 2, 2, 128, 128}, {2, 4, 1, 127, 129}, {1, 8, 2, 65, 300}, {1, 2, 1, 300, 65},
                {3, 2, 2, 1, 1},     {1, 4, 4, 33, 577},  {2, 2, 2, 200, 0},  {1, 2, 2, 257, 1000}};
  std::vector<DeviceCase> cases;
  size_t n = 0;
  for (const gpu::Kernel& kernel : KernelsHere()) {
    for (const Format format : {Format::kBf16, Format::kFp16}) {
      for (const int64_t head_dim : kHeadDims) {
        for (size_t m = 0; m < 4; ++m, ++n) {
          const auto& s = shapes[n % 8];
          DeviceCase c{
              {std::string(kernel.name), data::PlainAttention(s.batch, s.heads_q, s.heads_kv, s.seqlen_q, s.seqlen_k,
                                                              head_dim, masks[(m + n / 8) % 5], format)}};
          if (n % 3 == 1) c.layout = Layout::kTokenMajor;
          if (kernel.packs_sequences && n % 5 == 0) {
            for (int64_t b = 0; b < s.batch; ++b) {
              c.queries.push_back(s.seqlen_q * (b + 1) / (b + 2));
              c.lengths.push_back(s.seqlen_k - b * s.seqlen_k / 3);
            }
          }
          if (kernel.name == "standard") c.options.fp32_scores = n % 2 == 1;
          if (kernel.name == "split-kv") {
            c.options.chunk = n % 2 ? 128 : 1024;
            c.options.page_size = n % 4 < 2 ? 0 : 8 << n % 6;
            if (n % 5 == 0) {
              for (int64_t b = 0; b < s.batch; ++b) c.lengths.push_back(s.seqlen_k * (b + 1) / (b + 2));
            }
          }
          c.seed = 100 + n;
          cases.push_back(c);
        }
      }
    }
  }
  return cases;
}

TEST_CASE("every element is within its bound of fp64, and nothing outside a tensor is touched") {
  double worst_o = 0, worst_lse = 0;
  int cases = 0;
  for (const DeviceCase& c : Cases()) {
    CAPTURE(ToString(c));
    const Inputs inputs = Generate(c);
    Outputs outputs;
    REQUIRE_NOTHROW(outputs = RunOnDevice(c, inputs, 3));
    const Scores scores = Judge(c, inputs, outputs);
    CHECK(scores.o <= 1);
    CHECK(scores.lse <= 1);
    worst_o = std::max(worst_o, scores.o);
    worst_lse = std::max(worst_lse, scores.lse);
    ++cases;
  }
  std::printf("%d cases: largest error / bound %.3f of O, %.3f of LSE\n", cases, worst_o, worst_lse);
}

TEST_CASE("inputs that provoke mistakes stay within the bound too") {
  using data::Distribution;
  for (const gpu::Kernel& kernel : KernelsHere()) {
    for (const Distribution distribution :
         {Distribution::kSpiky, Distribution::kAscending, Distribution::kDescending, Distribution::kSinks,
          Distribution::kCancelling, Distribution::kOneHot, Distribution::kConstantV, Distribution::kDuplicates}) {
      for (const int64_t head_dim : {64, 128}) {
        DeviceCase c{{std::string(kernel.name),
                      data::PlainAttention(1, 2, 1, 200, 700, head_dim, Mask::Causal(), Format::kBf16)}};
        c.distribution = distribution;
        c.options.fp32_scores = true;
        c.options.chunk = 256;
        CAPTURE(ToString(c));
        const Inputs inputs = Generate(c);
        const Scores scores = Judge(c, inputs, RunOnDevice(c, inputs));
        CHECK(scores.o <= 1);
        CHECK(scores.lse <= 1);
      }
    }
  }
}

// The part of one sequence and one KV head's group.
Inputs Slice(const Attention& a, const Inputs& in, int64_t b, int64_t kv, int64_t keys) {
  const auto slice = [&](const std::vector<uint16_t>& x, int64_t heads, int64_t first, int64_t count, int64_t rows,
                         int64_t kept) {
    std::vector<uint16_t> out;
    for (int64_t h = first; h < first + count; ++h) {
      const auto head = x.begin() + (b * heads + h) * rows * a.head_dim;
      out.insert(out.end(), head, head + kept * a.head_dim);
    }
    return out;
  };
  return {slice(in.q, a.heads_q, kv * a.group(), a.group(), a.seqlen_q, a.seqlen_q),
          slice(in.k, a.heads_kv, kv, 1, a.seqlen_k, keys), slice(in.v, a.heads_kv, kv, 1, a.seqlen_k, keys)};
}

TEST_CASE("a sequence's bits do not depend on its neighbours, the layout, or pages") {
  for (const gpu::Kernel& kernel : KernelsHere()) {
    for (const int64_t head_dim : kHeadDims) {
      const Attention a = data::PlainAttention(3, 8, 2, 5, 1500, head_dim, Mask::Causal(), Format::kBf16);
      DeviceCase c{{std::string(kernel.name), a}};
      const bool decode = kernel.name == "split-kv";
      if (decode) c.lengths = {1500, 0, 777};
      CAPTURE(ToString(c));
      const Inputs inputs = Generate(c);
      const Outputs all = RunOnDevice(c, inputs);
      DeviceCase other = c;
      other.layout = Layout::kTokenMajor;
      CHECK(RunOnDevice(other, inputs) == all);
      for (int64_t page = 8; decode && page <= 256; page *= 2) {
        CAPTURE(page);
        other.options.page_size = page;
        CHECK(RunOnDevice(other, inputs) == all);
      }
      for (int64_t b = 0; b < a.batch; ++b) {
        const int64_t keys = decode ? c.lengths[b] : a.seqlen_k;
        DeviceCase alone{{c.kernel, data::PlainAttention(1, 4, 1, 5, keys, head_dim, Mask::Causal(), Format::kBf16)}};
        for (int64_t kv = 0; kv < 2; ++kv) {
          const Outputs one = RunOnDevice(alone, Slice(a, inputs, b, kv, keys));
          const int64_t rows = 4 * 5, first = (b * 8 + kv * 4) * 5;
          CHECK(std::equal(one.o.begin(), one.o.end(), all.o.begin() + first * head_dim));
          CHECK(std::equal(one.lse.begin(), one.lse.end(), all.lse.begin() + first));
          CHECK(static_cast<int64_t>(one.lse.size()) == rows);
        }
      }
    }
  }
}

// Trivial where there is no TMA.
TEST_CASE("split-kv gives the same bits with TMA and with cp.async, for any number of query rows a KV head") {
  gpu::Stream stream;
  const struct {
    int64_t heads_q, heads_kv, seqlen_q, seqlen_k;
  } shapes[] = {{2, 2, 1, 1500},    // 1 row of a KV head
                {8, 2, 1, 1500},    // 4
                {8, 1, 2, 1500},    // 16
                {17, 1, 1, 1500},   // 17
                {64, 1, 1, 1500},   // 64
                {10, 2, 5, 1500},   // 25
                {13, 1, 10, 1500},  // 130
                {8, 2, 1, 1024},    // a single part
                {16, 1, 1, 63},    {32, 1, 2, 900}};
  for (const int64_t head_dim : kHeadDims) {
    for (const auto& s : shapes) {
      const Attention a = data::PlainAttention(2, s.heads_q, s.heads_kv, s.seqlen_q, s.seqlen_k, head_dim,
                                               Mask::Causal(), Format::kFp16);
      CAPTURE(data::ToString(a));
      const Inputs in = Generate({{"split-kv", a}});
      const auto upload = [&](const std::vector<uint16_t>& x) {
        gpu::Buffer buffer(static_cast<int64_t>(2 * x.size()));
        stream.ToDevice(buffer, x.data(), buffer.bytes());
        return buffer;
      };
      const gpu::Buffer q = upload(in.q), k = upload(in.k), v = upload(in.v), o(a.o_bytes()), lse(a.lse_bytes());
      const auto run = [&](const gpu::Kernel& kernel) {
        const gpu::Buffer workspace(kernel.WorkspaceBytes(a, {}));
        stream.Fill(workspace, 0xFF), stream.Fill(o, 0xFF), stream.Fill(lse, 0xFF);
        kernel.Launch(a, {}, gpu::ContiguousTensors(a, q.data(), k.data(), v.data(), o.data(), lse.as<float>()),
                      workspace.data(), stream);
        Outputs outputs{std::vector<uint16_t>(a.o_bytes() / 2), std::vector<uint32_t>(a.lse_bytes() / 4)};
        stream.ToHost(outputs.o.data(), o, o.bytes());
        stream.ToHost(outputs.lse.data(), lse, lse.bytes());
        return outputs;
      };
      CHECK(run(gpu::SplitKvDecode()) == run(gpu::SplitKvDecodePortable()));
    }
  }
}

TEST_CASE("one small launch of everything, for the sanitizer") {
  for (const gpu::Kernel& kernel : KernelsHere()) {
    for (const int64_t head_dim : kHeadDims) {
      DeviceCase c{
          {std::string(kernel.name), data::PlainAttention(2, 4, 2, 70, 150, head_dim, Mask::Causal(), Format::kFp16)}};
      if (kernel.name == "split-kv") {
        c.options = {.chunk = 64, .page_size = 16};
        c.lengths = {150, 37};
      }
      RunOnDevice(c, Generate(c), 1);
      if (kernel.packs_sequences) {
        c.lengths = {150, 37};
        c.queries = {1, 70};
      }
      c.attention.mask = Mask::Window(20, 3);
      c.options.page_size = 0;
      c.options.fp32_scores = true;
      RunOnDevice(c, Generate(c), 1);
    }
  }
}

TEST_CASE("what a kernel does not take is refused in words, before anything is launched") {
  gpu::Stream stream;
  const gpu::Buffer buffer(1 << 20);
  for (const gpu::Kernel& kernel : KernelsHere()) {
    CAPTURE(std::string(kernel.name));
    const Attention good = data::PlainAttention(1, 1, 1, 16, 16, 64, Mask::Full(), Format::kBf16);
    const auto launch = [&](const Attention& a, const gpu::Options& options, auto change) {
      gpu::Tensors t = gpu::ContiguousTensors(a, buffer.data(), buffer.data(), buffer.data(), buffer.data(), nullptr);
      change(t);
      kernel.Launch(a, options, t, buffer.data(), stream);
    };
    const auto nothing = [](gpu::Tensors&) {};
    Attention odd = good;
    odd.head_dim = odd.head_dim_v = 80;
    CHECK_THROWS_AS(launch(odd, {}, nothing), data::UsageError);
    odd = good;
    odd.format = Format::kFp32;
    CHECK_THROWS_AS(launch(odd, {}, nothing), data::UsageError);
    CHECK_THROWS_AS(launch(good, {}, [](gpu::Tensors& t) { t.q = static_cast<const char*>(t.q) + 8; }),
                    data::UsageError);
    CHECK_THROWS_AS(launch(good, {}, [](gpu::Tensors& t) { t.k_strides.row = 65; }), data::UsageError);
    CHECK_THROWS_AS(launch(good, {}, [](gpu::Tensors& t) { t.v = nullptr; }), data::UsageError);
    if (kernel.name == "split-kv") {
      CHECK_THROWS_AS(launch(good, {.chunk = 100}, nothing), data::UsageError);
      CHECK_THROWS_AS(launch(good, {.page_size = 24}, nothing), data::UsageError);
      CHECK_THROWS_AS(launch(good, {.page_size = 16}, nothing), data::UsageError);  // no block table
    }
    const auto packed = [&](gpu::Tensors& t) { t.cu_seqlens_q = t.cu_seqlens_k = buffer.as<int32_t>(); };
    if (!kernel.packs_sequences) CHECK_THROWS_AS(launch(good, {}, packed), data::UsageError);
    const auto half_packed = [&](gpu::Tensors& t) { t.cu_seqlens_q = buffer.as<int32_t>(); };
    CHECK_THROWS_AS(launch(good, {}, half_packed), data::UsageError);
    const auto lengths = [&](gpu::Tensors& t) { t.seqlens_k = buffer.as<int32_t>(); };
    if (!kernel.takes_key_lengths) CHECK_THROWS_AS(launch(good, {}, lengths), data::UsageError);
    if (!kernel.takes_pages) CHECK_THROWS_AS(launch(good, {.page_size = 16}, nothing), data::UsageError);
    CHECK_NOTHROW(launch(good, {}, nothing));
  }
  stream.Synchronize();
}

TEST_CASE("tensors with more than 2^31 elements: the last head is what it is alone" * doctest::test_suite("large")) {
  gpu::Stream stream;
  std::vector<uint16_t> block(64000008);
  const int64_t length = static_cast<int64_t>(block.size());
  data::Generate({.seed = 5, .seqlen = length}, Format::kBf16, 0, length, block.data());
  const struct {
    const char* kernel;
    Attention attention;
  } cases[] = {
      {"fa2", data::PlainAttention(2, 9, 1, 1000000, 100, 128, Mask::Full(), Format::kBf16)},  // Q and O
      {"standard",
       data::PlainAttention(1, 1, 1, 65000, 34000, 64, Mask::Full(), Format::kBf16)},  // S and P of one head
      {"split-kv", data::PlainAttention(33, 32, 32, 1, 16400, 128, Mask::Full(), Format::kBf16)},  // K and V
      {"fa3", data::PlainAttention(2, 9, 1, 1000000, 100, 128, Mask::Causal(), Format::kBf16)},    // Q and O
      {"fa3", data::PlainAttention(33, 32, 32, 8, 16400, 128, Mask::Full(), Format::kBf16)},       // K and V
  };
  for (const auto& each : cases) {
    const char* const name = each.kernel;
    const Attention& a = each.attention;  // clang 14 captures no structured bindings
    const gpu::Kernel* kernel = gpu::FindKernel(name);
    if (kernel == nullptr || !gpu::DeviceRefusal(*kernel, gpu::CurrentDevice()).empty()) continue;
    const std::string problem = std::string(name) + ": " + data::ToString(a);
    CAPTURE(problem);
    const LargeTensor q(stream, block, a.q_bytes() / 2), k(stream, block, a.k_bytes() / 2),
        v(stream, block, a.v_bytes() / 2);
    const gpu::Buffer o(a.o_bytes()), lse(a.lse_bytes()), workspace(kernel->WorkspaceBytes(a, {}));
    stream.Fill(o, 0xFF);
    const gpu::Tensors t = gpu::ContiguousTensors(a, q.at(0), k.at(0), v.at(0), o.data(), lse.as<float>());
    kernel->Launch(a, {}, t, workspace.data(), stream);
    stream.Synchronize();

    const int64_t rows = std::min<int64_t>(a.seqlen_q, 64);
    const int64_t last_row = a.batch * a.heads_q * a.seqlen_q - rows;
    const int64_t last_key = (a.batch * a.heads_kv - 1) * a.seqlen_k;
    const auto part = [&](int64_t row, int64_t count) {
      std::vector<uint16_t> out(count * a.head_dim);
      for (size_t n = 0; n < out.size(); ++n) out[n] = block[(row * a.head_dim + static_cast<int64_t>(n)) % length];
      return out;
    };
    std::vector<uint16_t> mine(rows * a.head_dim);
    stream.ToHost(mine.data(), o, 2 * rows * a.head_dim, 2 * last_row * a.head_dim);
    const DeviceCase alone{{name, data::PlainAttention(1, 1, 1, rows, a.seqlen_k, a.head_dim, a.mask, a.format)}};
    const std::vector<uint16_t> keys = part(last_key, a.seqlen_k);
    CHECK(mine == RunOnDevice(alone, {part(last_row, rows), keys, keys}, 1).o);
  }
}

TEST_CASE("rows that lie 2^25 elements apart" * doctest::test_suite("large")) {
  constexpr int64_t kRow = (1 << 25) + 8, kRows = 90;  // the last begins beyond 2^31
  gpu::Stream stream;
  const Attention a = data::PlainAttention(1, 1, 1, kRows, kRows, 128, Mask::Causal(), Format::kBf16);
  const int64_t columns = a.head_dim;
  const auto spread = [&](const std::vector<uint16_t>& x) {
    gpu::Buffer buffer(2 * (kRow * (kRows - 1) + columns));
    stream.Fill(buffer, 0xFF);
    for (int64_t r = 0; r < kRows && !x.empty(); ++r) {
      stream.ToDevice(buffer, x.data() + r * columns, 2 * columns, 2 * r * kRow);
    }
    return buffer;
  };
  for (const gpu::Kernel& kernel : KernelsHere()) {
    CAPTURE(std::string(kernel.name));
    const DeviceCase near{{std::string(kernel.name), a}};
    const Inputs inputs = Generate(near);
    const gpu::Buffer q = spread(inputs.q), k = spread(inputs.k), v = spread(inputs.v), o = spread({});
    const gpu::Buffer workspace(kernel.WorkspaceBytes(a, {}));
    const gpu::Strides far{0, 0, kRow};
    kernel.Launch(a, {},
                  {.q = q.data(),
                   .k = k.data(),
                   .v = v.data(),
                   .o = o.data(),
                   .q_strides = far,
                   .k_strides = far,
                   .v_strides = far,
                   .o_strides = far},
                  workspace.data(), stream);
    stream.Synchronize();
    std::vector<uint16_t> mine(kRows * columns);
    for (int64_t r = 0; r < kRows; ++r) stream.ToHost(mine.data() + r * columns, o, 2 * columns, 2 * r * kRow);
    CHECK(mine == RunOnDevice(near, inputs, 1).o);
  }
}

}  // namespace
}  // namespace bitflash::verify

// 77, which ctest takes for "skipped", where there is no device.
int main(int argc, char** argv) {
  if (bitflash::gpu::DeviceCount() == 0) {
    std::puts("no CUDA device: nothing was tested");
    return 77;
  }
  const bitflash::gpu::Device device = bitflash::gpu::CurrentDevice();
  std::printf("%s, %s, driver %s\n", device.name.c_str(), device.arch().c_str(), device.driver.c_str());
  return doctest::Context(argc, argv).run();
}
