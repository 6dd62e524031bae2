// Tensors of more elements than 32 bits count, for tests of offsets.
#ifndef BITFLASH_VERIFY_DEVICE_LARGE_TENSOR_H_
#define BITFLASH_VERIFY_DEVICE_LARGE_TENSOR_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "gpu/device.h"

namespace bitflash::verify {

// Filled with copies of one block whose length divides no power of two, so that an offset that wraps around lands
// elsewhere.
class LargeTensor {
 public:
  LargeTensor(gpu::Stream& stream, const std::vector<uint16_t>& block, int64_t elements) : buffer_(2 * elements) {
    const int64_t length = static_cast<int64_t>(block.size());
    for (int64_t at = 0; at < elements; at += length) {
      stream.ToDevice(buffer_, block.data(), 2 * std::min(length, elements - at), 2 * at);
    }
  }
  const uint16_t* at(int64_t element) const { return buffer_.as<uint16_t>() + element; }

 private:
  gpu::Buffer buffer_;
};

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_DEVICE_LARGE_TENSOR_H_
