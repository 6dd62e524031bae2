#include "sim/l2/parameters.h"

#include <cstdlib>

namespace bitflash::sim::l2 {

CacheParameters ParametersOf(const data::Gpu& gpu) {
  CacheParameters p;
  p.bytes = 53l << 20;
  if (gpu.name == "h200") p.bytes = 63l << 20;
  p.partitions = static_cast<int>(gpu.l2_partitions.value_or(1));
  p.set_granules = 256;
  p.dirty_share = 0.47;
  p.dirty_chance = 0.5;
  p.dirty_at_start = 2300000;
  if (const char* e = std::getenv("L2_MIB")) p.bytes = static_cast<int64_t>(std::atof(e) * (1 << 20));
  if (const char* e = std::getenv("L2_CHANCE")) p.dirty_chance = std::atof(e);
  if (const char* e = std::getenv("L2_SETS")) p.set_granules = std::atoi(e);
  return p;
}

int64_t OverheadOf(const data::Gpu&) { return 26000; }

Clock ClockOf(const data::Gpu& gpu, MmaInstruction mma) {
  const double efficiency = mma == MmaInstruction::kWgmma ? 0.65 : gpu.arch == "sm90" ? 0.38 : 0.6;
  Clock c;
  c.seconds_per_flop = static_cast<double>(gpu.sms) / (gpu.tensor_16bit_flops * efficiency);
  c.dram_seconds_per_byte = 1 / gpu.hbm_read_bytes_per_second.value_or(0.9 * gpu.hbm_bytes_per_second);
  c.l2_seconds_per_byte = 1 / gpu.l2_read_bytes_per_second.value_or(3 * gpu.hbm_bytes_per_second);
  c.dram_latency = 0.7e-6;
  c.block_seconds = 1e-6;
  c.younger = 0.67;
  if (const char* e = std::getenv("L2_YOUNGER")) c.younger = std::atof(e);
  return c;
}

}  // namespace bitflash::sim::l2
