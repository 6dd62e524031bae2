// What the model takes from a GPU's fact file, and the constants that it has beside it.
#ifndef BITFLASH_SIM_L2_PARAMETERS_H_
#define BITFLASH_SIM_L2_PARAMETERS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>

#include "data/gpu.h"
#include "sim/block.h"
#include "sim/l2/cache.h"

namespace bitflash::sim::l2 {

CacheParameters ParametersOf(const data::Gpu& gpu);

// DRAM bytes that a launch reads beside its tensors: instructions, arguments, descriptors.
int64_t OverheadOf(const data::Gpu& gpu);

// Of two partitions, which one the SMs of a GPC are near to. Blocks fill one GPC after the other, this is their order
// on an H100 (gpu/probes/sm_sides.cu); other chips have others.
inline constexpr std::array<int, 8> kSidesOfGpcs = {0, 1, 1, 1, 0, 0, 0, 1};
inline size_t GpcOf(int64_t sm, int64_t sms) { return static_cast<size_t>(sm * std::ssize(kSidesOfGpcs) / sms); }

// A number in [0, 1) that looks random.
double Uniform(uint64_t seed, uint64_t n);

inline constexpr double kSpeedSpread = 0.02;  // blocks differ in speed by a percent

// How long things take, as far as it decides which block asks first. Coarse on purpose: bytes depend on the order of
// events, not on their speed.
struct Clock {
  double seconds_per_flop = 0;  // of one SM
  double dram_seconds_per_byte = 0;
  double l2_seconds_per_byte = 0;
  double dram_latency = 0;
  double block_seconds = 0;  // between a block's start and its first request
};
Clock ClockOf(const data::Gpu& gpu, MmaInstruction mma);

}  // namespace bitflash::sim::l2

#endif  // BITFLASH_SIM_L2_PARAMETERS_H_
