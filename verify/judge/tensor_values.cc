#include "verify/judge/tensor_values.h"

#include <algorithm>
#include <cassert>

#include "data/convert_simd.h"

namespace bitflash::verify {
namespace {

constexpr int64_t kPart = 1 << 14;  // elements that a thread converts at a time

// body(begin, count) for all parts of [0, total).
template <typename Body>
void InParts(int64_t total, Body body) {
#pragma omp parallel for schedule(static)
  for (int64_t begin = 0; begin < total; begin += kPart) body(begin, std::min(kPart, total - begin));
}

}  // namespace

std::vector<float> ToFloats(const data::Tensor& tensor) {
  std::vector<float> values(tensor.count());
  const data::Format format = tensor.type().format().value();
  const std::byte* bytes = tensor.ContiguousBytes().data();
  InParts(tensor.count(), [&](int64_t begin, int64_t count) {
    data::ToFloat(format, bytes + begin * tensor.type().bytes(), values.data() + begin, count);
  });
  return values;
}

std::vector<double> ToDoubles(const data::Tensor& tensor) {
  std::vector<double> values(tensor.count());
  const data::Format format = tensor.type().format().value();
  if (format == data::Format::kFp64) {
    std::ranges::copy(tensor.Elements<double>(), values.begin());
    return values;
  }
  const std::byte* bytes = tensor.ContiguousBytes().data();
  InParts(tensor.count(), [&](int64_t begin, int64_t count) {
    std::vector<float> floats(count);
    data::ToFloat(format, bytes + begin * tensor.type().bytes(), floats.data(), count);
    std::ranges::copy(floats, values.begin() + begin);
  });
  return values;
}

data::Tensor FromFloats(std::span<const float> values, data::Format format, std::vector<int64_t> shape) {
  data::Tensor tensor = data::Tensor::Zeros(format, std::move(shape));
  assert(static_cast<int64_t>(values.size()) == tensor.count());
  const data::Buffer buffer = tensor.ContiguousBytes();
  std::byte* bytes = buffer.data();
  InParts(tensor.count(), [&](int64_t begin, int64_t count) {
    data::FromFloat(format, values.data() + begin, bytes + begin * tensor.type().bytes(), count);
  });
  return tensor;
}

}  // namespace bitflash::verify
