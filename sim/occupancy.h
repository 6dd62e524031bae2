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
  int64_t registers_per_thread = 0;  // 32-bit, allocated at launch
  int64_t registers_needed = 0;      // by the thread that needs most: tiles in registers and kRegisterOverhead
  int64_t registers_limit = 255;     // what that thread may have: 255, or what setmaxnreg gives a consumer
  int64_t shared_bytes = 0;          // tiles in shared memory
  bool operator==(const Resources&) const = default;
};

// Registers a thread needs beside its tiles: addresses, m, l, loop state. Rule of thumb of builds with and without
// spills on sm_90a (tiles + 28 compiled clean, tiles + 24 did not).
inline constexpr int64_t kRegisterOverhead = 28;

// Registers per thread of a block that uses the whole register file alone: 65536 / threads, rounded down to a multiple
// of 8, at most 248. What every thread of a warp-specialised kernel owns at launch.
int64_t RegistersAtEntry(int64_t threads);

// Registers per consumer thread after setmaxnreg, for `consumers` warpgroups and one producer warpgroup: the pool is
// what the block owned at launch, the producer keeps 40 (1 or 2 consumers), 32 (3) or 24, the rest is shared out in
// multiples of 8 up to 240. PTX ISA, "setmaxnreg"; the sums were confirmed by runs on an H200.
int64_t ConsumerRegisters(int64_t consumers);

struct Occupancy {
  int64_t blocks_per_sm = 0;  // 0: the block does not fit
  std::string limit;          // "shared memory", "registers", "threads" or "blocks": the smallest limit
};

// CUDA C++ Programming Guide, "Hardware Multithreading", and the occupancy calculator of the CUDA toolkit
// (cuda_occupancy.h): shared memory in units of 128 bytes plus the reserve per block; registers per warp in units of
// 256, a quarter of the register file for each of the four sub-partitions.
Occupancy Occupy(const Resources& resources, const data::Gpu& gpu);

// Why one block cannot run at all on this GPU, naming the limit, what is needed and what there is; empty when it can.
std::string Infeasible(const Resources& resources, const data::Gpu& gpu);

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_OCCUPANCY_H_
