#include "data/random.h"

namespace bitflash::data {

void FillHashNormal(uint64_t seed, uint64_t first, std::span<float> out) {
  for (size_t k = 0; k < out.size(); ++k) out[k] = HashNormal(seed, first + k);
}

}  // namespace bitflash::data
