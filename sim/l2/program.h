// What one thread block asks of the L2, in order, read off the kernel's own text.
#ifndef BITFLASH_SIM_L2_PROGRAM_H_
#define BITFLASH_SIM_L2_PROGRAM_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "sim/block.h"
#include "sim/stream.h"

namespace bitflash::sim::l2 {

// One tile that moves between L2 and an SM, once the block has done `flops` of its matrix work.
struct Move {
  int64_t flops = 0;
  int32_t row = 0, rows = 0, col = 0, cols = 0;
  TensorId tensor = TensorId::kQ;
  bool write = false;
};

struct Program {
  std::vector<Move> moves;
  std::vector<size_t> after_writes;  // for every move that writes, the index of the one after it
  int64_t flops = 0;                 // of the whole block
};

// Evaluates the body of one block, tile by tile.
Program Record(const LaunchSpec& spec, const Stream::Body& body, const Tiling& tiling, const BlockIndex& index);

}  // namespace bitflash::sim::l2

#endif  // BITFLASH_SIM_L2_PROGRAM_H_
