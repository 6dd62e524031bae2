// How many blocks of a launch one SM holds at once, and which limit decides it.
#ifndef BITFLASH_SIM_OCCUPANCY_H_
#define BITFLASH_SIM_OCCUPANCY_H_

#include <cstdint>
#include <string>

#include "data/gpu.h"

namespace bitflash::sim {

// What one block asks of an SM.
struct Resources {
  int64_t threads = 0;
  int64_t registers_per_thread = 0;  // 32-bit, estimated from the tiles that live in registers
  int64_t shared_bytes = 0;          // tiles in shared memory
  bool operator==(const Resources&) const = default;
};

struct Occupancy {
  int64_t blocks_per_sm = 0;  // 0: the block does not fit
  std::string limit;          // "shared memory", "registers", "threads" or "blocks": the smallest limit
};

// CUDA C++ Programming Guide, "Hardware Multithreading": shared memory plus the reserve per block; registers are
// allocated per warp in units of 256.
Occupancy Occupy(const Resources& resources, const data::Gpu& gpu);

// Why one block cannot run at all on this GPU, naming the limit, what is needed and what there is; empty when it can.
std::string Infeasible(const Resources& resources, const data::Gpu& gpu);

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_OCCUPANCY_H_
