#include "sim/l2/parameters.h"

#include <cmath>

namespace bitflash::sim::l2 {
namespace {

// For GPUs that nobody has probed: the H100's ratios (data/gpus/h100.json).
constexpr double kDirtyShare = 0.48;  // of l2_lru_bytes
constexpr int64_t kWays = 64;
// Of l2_lru_bytes, what evict_last protects: of 4 to 32 MiB that are read so, 9.4 MiB outlive 64 MiB of other reads
// (last_*_read_64_again), three sixteenths; it is what an H200 reports as launch__persisting_l2_cache_size, too.
constexpr double kLastShare = 3.0 / 16;

}  // namespace

CacheParameters ParametersOf(const data::Gpu& gpu) {
  CacheParameters p;
  p.partitions = gpu.l2_partitions.value_or(1) > 1 ? 2 : 1;
  p.bytes = gpu.l2_lru_bytes.value_or(p.partitions == 2 ? gpu.l2_bytes : gpu.l2_bytes_effective.value_or(gpu.l2_bytes));
  p.set_granules = gpu.l2_ways.value_or(kWays);
  p.dirty_bytes =
      gpu.l2_dirty_bytes.value_or(static_cast<int64_t>(std::llround(kDirtyShare * static_cast<double>(p.bytes))));
  p.last_bytes = static_cast<int64_t>(std::llround(kLastShare * static_cast<double>(p.bytes)));
  p.dirty_at_start = gpu.l2_dirty_at_start_bytes.value_or(0);
  return p;
}

double Uniform(uint64_t seed, uint64_t n) {
  uint64_t x = seed * 0x9E3779B97F4A7C15 + n;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return static_cast<double>((x ^ (x >> 31)) >> 11) * 0x1p-53;
}

int64_t OverheadOf(const data::Gpu& gpu) { return gpu.launch_dram_bytes.value_or(0); }

Clock ClockOf(const data::Gpu& gpu, MmaInstruction mma) {
  // Shares of the peak that fused kernels reach: FlashAttention-3 and cuDNN with wgmma on an H100; FlashAttention-2 on
  // an H100 and on an A100.
  const double efficiency = mma == MmaInstruction::kWgmma ? 0.65 : data::HasWgmma(gpu) ? 0.38 : 0.6;
  Clock c;
  c.seconds_per_flop = static_cast<double>(gpu.sms) / (gpu.tensor_16bit_flops * efficiency);
  c.dram_seconds_per_byte = 1 / gpu.hbm_read_bytes_per_second.value_or(0.9 * gpu.hbm_bytes_per_second);
  c.l2_seconds_per_byte = 1 / gpu.l2_read_bytes_per_second.value_or(3 * gpu.hbm_bytes_per_second);
  c.dram_latency = 0.7e-6;
  c.block_seconds = 1e-6;
  return c;
}

}  // namespace bitflash::sim::l2
