#include "sim/tile.h"

namespace bitflash::sim {

std::string_view Name(TensorId tensor) {
  constexpr std::string_view kNames[kTensorCount] = {"q",   "k", "v", "s",         "p",          "o",
                                                     "lse", "m", "l", "o_partial", "block_table"};
  return kNames[static_cast<int>(tensor)];
}

}  // namespace bitflash::sim
