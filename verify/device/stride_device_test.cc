// The CUDA kernels on tensors that lie in memory in any way that TMA takes, and what they say of the others.
#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <string>

#include "data/error.h"
#include "verify/device/device_case.h"

namespace bitflash::verify {
namespace {

using data::Attention;
using data::Mask;
using gpu::Inputs;
using gpu::Outputs;
using gpu::Strides;

struct Shape {
  int64_t batch, heads, rows, columns;
};

struct Arrangement {
  const char* name;
  std::function<Strides(Shape)> q, k;  // of Q and O; of K and V
};

const std::vector<Arrangement>& Arrangements() {
  const auto contiguous = [](Shape s) { return gpu::ContiguousStrides(s.heads, s.rows, s.columns); };
  static const std::vector<Arrangement> all = {
      {"heads outermost",
       [](Shape s) {
         return Strides{s.rows * s.columns, s.batch * s.rows * s.columns, s.columns};
       },
       [](Shape s) {
         return Strides{s.rows * s.columns, s.batch * s.rows * s.columns, s.columns};
       }},
      {"rows outermost",
       [](Shape s) {
         return Strides{s.heads * s.columns, s.columns, s.batch * s.heads * s.columns};
       },
       [](Shape s) {
         return Strides{s.heads * s.columns, s.columns, s.batch * s.heads * s.columns};
       }},
      {"Q, K and V of a row beside one another",
       [](Shape s) {
         return Strides{s.rows * 12 * s.columns, s.columns, 12 * s.columns};
       },
       [](Shape s) {
         return Strides{s.rows * 12 * s.columns, s.columns, 12 * s.columns};
       }},
      {"rows of 16 bytes more, heads of 48",
       [](Shape s) {
         return Strides{s.heads * (s.rows * (s.columns + 8) + 24), s.rows * (s.columns + 8) + 24, s.columns + 8};
       },
       [](Shape s) {
         return Strides{s.heads * (s.rows * (s.columns + 8) + 24), s.rows * (s.columns + 8) + 24, s.columns + 8};
       }},
      {"all KV heads the same", contiguous,
       [](Shape s) {
         return Strides{s.rows * s.columns, 0, s.columns};
       }},
      {"all sequences the same keys", contiguous,
       [](Shape s) {
         return Strides{0, s.rows * s.columns, s.columns};
       }},
      {"all keys the same", contiguous,
       [](Shape s) {
         return Strides{s.heads * s.columns, s.columns, 0};
       }},
      {"everything the same keys", contiguous,
       [](Shape) {
         return Strides{0, 0, 0};
       }},
  };
  return all;
}

// A tensor on the device by its strides, with NaN wherever it has no element.
class Spread {
 public:
  Spread(gpu::Stream& stream, Shape shape, Strides strides, const std::vector<uint16_t>* elements)
      : stream_(stream), shape_(shape), strides_(strides) {
    const int64_t last = At(shape.batch - 1, shape.heads - 1, shape.rows - 1);
    host_.assign(static_cast<size_t>(last + shape.columns + 4096), 0xFFFF);
    if (elements != nullptr) {
      Each([&](int64_t at, int64_t n) { std::copy_n(elements->data() + n, shape.columns, host_.data() + at); });
    }
    buffer_ = gpu::Buffer(static_cast<int64_t>(2 * host_.size()));
    stream.ToDevice(buffer_, host_.data(), buffer_.bytes());
  }

  void* data() const { return buffer_.data(); }
  // The elements in order; marks whether anything beside them is written.
  std::vector<uint16_t> Read(bool& wrote_beside) {
    stream_.ToHost(host_.data(), buffer_, buffer_.bytes());
    std::vector<uint16_t> elements(static_cast<size_t>(shape_.batch * shape_.heads * shape_.rows * shape_.columns));
    Each([&](int64_t at, int64_t n) {
      std::copy_n(host_.data() + at, shape_.columns, elements.data() + n);
      std::fill_n(host_.data() + at, shape_.columns, uint16_t{0xFFFF});
    });
    wrote_beside = std::ranges::any_of(host_, [](uint16_t bits) { return bits != 0xFFFF; });
    return elements;
  }

 private:
  // Of dimensions of one, whatever the stride.
  int64_t At(int64_t b, int64_t h, int64_t r) const {
    return (shape_.batch > 1 ? b * strides_.batch : 0) + (shape_.heads > 1 ? h * strides_.head : 0) +
           (shape_.rows > 1 ? r * strides_.row : 0);
  }
  template <class Body>
  void Each(const Body& body) const {
    for (int64_t n = 0; n < shape_.batch * shape_.heads * shape_.rows; ++n) {
      body(At(n / shape_.rows / shape_.heads, n / shape_.rows % shape_.heads, n % shape_.rows), n * shape_.columns);
    }
  }

  gpu::Stream& stream_;
  Shape shape_;
  Strides strides_;
  std::vector<uint16_t> host_;
  gpu::Buffer buffer_;
};

// What elements become when those at stride 0 are one: the last that a Spread writes there stands for all.
std::vector<uint16_t> Shared(std::vector<uint16_t> x, Shape s, const Strides& strides) {
  for (int64_t n = 0; n < s.batch * s.heads * s.rows; ++n) {
    const int64_t b = strides.batch == 0 ? s.batch - 1 : n / s.rows / s.heads;
    const int64_t h = strides.head == 0 ? s.heads - 1 : n / s.rows % s.heads;
    const int64_t r = strides.row == 0 ? s.rows - 1 : n % s.rows;
    std::copy_n(x.begin() + ((b * s.heads + h) * s.rows + r) * s.columns, s.columns, x.begin() + n * s.columns);
  }
  return x;
}

void CheckArrangement(const gpu::Kernel& kernel, const Attention& a, const Strides& of_q, const Strides& of_k) {
  const Shape queries{a.batch, a.heads_q, a.seqlen_q, a.head_dim}, keys{a.batch, a.heads_kv, a.seqlen_k, a.head_dim};
  const DeviceCase c{{std::string(kernel.name), a}};
  CAPTURE(ToString(c));
  Inputs inputs = Generate(c);
  inputs.k = Shared(inputs.k, keys, of_k);
  inputs.v = Shared(inputs.v, keys, of_k);
  gpu::Stream stream;
  const Spread q(stream, queries, of_q, &inputs.q), k(stream, keys, of_k, &inputs.k), v(stream, keys, of_k, &inputs.v);
  Spread o(stream, queries, of_q, nullptr);
  const gpu::Buffer workspace(kernel.WorkspaceBytes(a, {}));
  gpu::Tensors t{.q = q.data(), .k = k.data(), .v = v.data(), .o = o.data()};
  t.q_strides = t.o_strides = of_q;
  t.k_strides = t.v_strides = of_k;
  kernel.Launch(a, {}, t, workspace.data(), stream);
  stream.Synchronize();
  bool wrote_beside = false;
  CHECK(o.Read(wrote_beside) == RunOnDevice(c, inputs, 1).o);
  CHECK(!wrote_beside);
}

TEST_CASE("tensors that lie in memory in any way") {
  for (const gpu::Kernel& kernel : KernelsHere()) {
    for (const int64_t head_dim : {64, 96, 128, 256}) {
      for (const int64_t rows : {70, 1}) {
        const Attention a = data::PlainAttention(2, 6, 3, rows, 150, head_dim, Mask::Causal(), data::Format::kBf16);
        for (const Arrangement& each : Arrangements()) {
          CAPTURE(each.name);
          CheckArrangement(kernel, a, each.q({2, 6, rows, head_dim}), each.k({2, 3, 150, head_dim}));
        }
      }
    }
  }
}

TEST_CASE("strides of dimensions of one do not matter") {
  for (const gpu::Kernel& kernel : KernelsHere()) {
    for (const int64_t rows : {1, 70}) {
      const Attention a = data::PlainAttention(1, 1, 1, rows, rows, 128, Mask::Full(), data::Format::kFp16);
      const int64_t row = rows == 1 && kernel.name == "fa3" ? -3 : 128;
      for (const int64_t odd : {int64_t{1}, int64_t{-7}, int64_t{0}, int64_t{1} << 50}) {
        CAPTURE(odd);
        CheckArrangement(kernel, a, {odd, odd, row}, {odd, odd, row});
      }
    }
  }
}

TEST_CASE("other strides are refused with the tensor, the stride, and what is accepted") {
  gpu::Stream stream;
  const gpu::Buffer buffer(1 << 20);
  const Attention a = data::PlainAttention(2, 2, 2, 16, 16, 64, Mask::Full(), data::Format::kBf16);
  for (const gpu::Kernel& kernel : KernelsHere()) {
    const std::string name(kernel.name);
    CAPTURE(name);
    const auto message = [&](auto change) -> std::string {
      gpu::Tensors t = gpu::ContiguousTensors(a, buffer.data(), buffer.data(), buffer.data(), buffer.data(), nullptr);
      change(t);
      try {
        kernel.Launch(a, {}, t, buffer.data(), stream);
      } catch (const data::UsageError& error) {
        return error.what();
      }
      return "not refused";
    };
    CHECK(message([](gpu::Tensors& t) { t.k_strides.row = 65; }) ==
          name + ": K has a stride of 65 elements from one row to the next: a multiple of 8 (16 bytes) is needed");
    CHECK(message([](gpu::Tensors& t) { t.q_strides.head = -1; }) ==
          name + ": Q has a stride of -1 elements from one head to the next: a multiple of 8 (16 bytes) is needed");
    CHECK(message([](gpu::Tensors& t) { t.o_strides.batch = 0; }) ==
          name + ": O has a stride of 0 elements from one sequence to the next: what is written may not overlap");
    if (name != "fa3") continue;  // others do without TMA
    const std::string accepted = "TMA takes multiples of 8 from 0 to 549755813880";
    CHECK(message([](gpu::Tensors& t) { t.k_strides.row = int64_t{1} << 39; }) ==
          "K has a stride of 549755813888 elements from one row to the next: " + accepted);
    CHECK(message([](gpu::Tensors& t) { t.v_strides.head = -64; }) ==
          "V has a stride of -64 elements from one head to the next: " + accepted);
    CHECK(message([](gpu::Tensors& t) { t.q_strides.batch = -64; }) ==
          "Q has a stride of -64 elements from one sequence to the next: " + accepted);
    CHECK(message([](gpu::Tensors& t) { t.o_strides.row = -64; }) ==
          "O has a stride of -64 elements from one row to the next: " + accepted);
    const auto packed = [&](gpu::Tensors& t) {
      t.cu_seqlens_q = t.cu_seqlens_k = buffer.as<int32_t>();
      t.k_strides.row = int64_t{1} << 34;
    };
    CHECK(message(packed) ==
          "K has a stride of 17179869184 elements from one row to the next: "
          "TMA takes multiples of 8 from 0 to 17179869176");
  }
}

}  // namespace
}  // namespace bitflash::verify
