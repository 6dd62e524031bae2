#include "verify/tensor_values.h"

#include <algorithm>

#include "data/convert_simd.h"

namespace bitflash::verify {

std::vector<double> ToDoubles(const data::Tensor& tensor) {
  std::vector<double> values(tensor.count());
  const data::Format format = tensor.type().format().value();
  if (format == data::Format::kFp64) {
    std::ranges::copy(tensor.Elements<double>(), values.begin());
    return values;
  }
  constexpr int64_t kPart = 1 << 14;
  const std::byte* bytes = tensor.ContiguousBytes().data();
#pragma omp parallel for schedule(static)
  for (int64_t begin = 0; begin < tensor.count(); begin += kPart) {
    const int64_t count = std::min(kPart, tensor.count() - begin);
    std::vector<float> floats(count);
    data::ToFloat(format, bytes + begin * tensor.type().bytes(), floats.data(), count);
    std::ranges::copy(floats, values.begin() + begin);
  }
  return values;
}

}  // namespace bitflash::verify
