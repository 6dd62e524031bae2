#include "sim/occupancy.h"

#include <algorithm>
#include <cassert>

#include "sim/ceil_div.h"

namespace bitflash::sim {
namespace {

constexpr int64_t kRegisterFile = 65536;  // 32-bit registers of an SM, compute capability 7.0 and newer

// Registers that a warp takes: allocated in units of 256.
int64_t RegistersPerWarp(const Resources& r) {
  constexpr int64_t kUnit = 256;
  return std::max(kUnit, CeilDiv(r.registers_per_thread * 32, kUnit) * kUnit);
}

int64_t Warps(const Resources& r) { return std::max<int64_t>(1, CeilDiv(r.threads, 32)); }

// Warps that the register file holds. Each of the four sub-partitions of an SM has a quarter of it, and a warp lives in
// one of them.
int64_t ResidentWarps(const Resources& r, const data::Gpu& gpu) {
  constexpr int64_t kPartitions = 4;
  return kPartitions * (gpu.registers_per_sm / kPartitions / RegistersPerWarp(r));
}

// Shared memory is allocated in units of 128 bytes from compute capability 8.0 on, of 256 before.
int64_t SharedBytes(const Resources& r, const data::Gpu& gpu) {
  const int64_t unit = std::stoi(gpu.arch.substr(2)) >= 80 ? 128 : 256;
  return CeilDiv(r.shared_bytes, unit) * unit + gpu.shared_bytes_reserved;
}

std::string Exceeds(const std::string& what, int64_t needed, const std::string& unit, int64_t limit,
                    const std::string& of) {
  return what + " needs " + std::to_string(needed) + " " + unit + ", the limit is " + std::to_string(limit) + " " + of;
}

}  // namespace

int64_t RegistersAtEntry(int64_t threads) { return std::min<int64_t>(kRegisterFile / threads / 8 * 8, 248); }

int64_t ConsumerRegisters(int64_t consumers) {
  assert(consumers >= 1);
  const int64_t pool = RegistersAtEntry(128 * (consumers + 1)) * (consumers + 1);
  const int64_t producer = consumers <= 2 ? 40 : consumers == 3 ? 32 : 24;
  return std::min<int64_t>((pool - producer) / consumers / 8 * 8, 240);
}

Occupancy Occupy(const Resources& r, const data::Gpu& gpu) {
  struct Limit {
    int64_t blocks;
    const char* name;
  };
  const Limit limits[] = {
      {gpu.shared_bytes_per_sm / std::max<int64_t>(1, SharedBytes(r, gpu)), "shared memory"},
      {ResidentWarps(r, gpu) / Warps(r), "registers"},
      {gpu.threads_per_sm / std::max<int64_t>(1, r.threads), "threads"},
      {gpu.blocks_per_sm, "blocks"},
  };
  const Limit* least = std::min_element(std::begin(limits), std::end(limits),
                                        [](const Limit& a, const Limit& b) { return a.blocks < b.blocks; });
  return {Infeasible(r, gpu).empty() ? least->blocks : 0, least->name};
}

std::string Infeasible(const Resources& r, const data::Gpu& gpu) {
  if (r.threads > gpu.threads_per_block) {
    return Exceeds("a block", r.threads, "threads", gpu.threads_per_block, "threads per block on " + gpu.name);
  }
  if (r.shared_bytes > gpu.shared_bytes_per_block) {
    return Exceeds("a block", r.shared_bytes, "bytes of shared memory", gpu.shared_bytes_per_block,
                   "bytes per block on " + gpu.name);
  }
  if (r.registers_needed > std::min(r.registers_limit, gpu.registers_per_thread)) {
    return Exceeds("a thread", r.registers_needed,
                   "registers (tiles and " + std::to_string(kRegisterOverhead) + " more)",
                   std::min(r.registers_limit, gpu.registers_per_thread), "registers per thread");
  }
  if (Warps(r) > ResidentWarps(r, gpu)) {
    return Exceeds("a block", Warps(r) * RegistersPerWarp(r), "registers", gpu.registers_per_sm,
                   "registers per SM on " + gpu.name);
  }
  return "";
}

}  // namespace bitflash::sim
