// Published or probed facts about one GPU, each with its source.
#ifndef BITFLASH_DATA_GPU_H_
#define BITFLASH_DATA_GPU_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bitflash::data {

// Where a fact comes from. `checked_by` names the device query or probe that confirmed it; empty: nobody has.
struct FactSource {
  std::string source;
  std::string checked_by;
};

// One GPU. An empty optional is a fact that no public source states reliably and only a probe can fill in, or a unit
// that the GPU does not have (8-bit tensor cores before sm89); its source says which.
struct Gpu {
  std::string name;   // "h200"; what --gpu takes
  std::string title;  // "NVIDIA H200 SXM 141GB"
  std::string arch;   // "sm90"

  int64_t sms = 0;
  double clock_mhz = 0;                             // the clock that tensor_16bit_flops is stated for
  double hbm_bytes_per_second = 0;                  // data sheet
  std::optional<double> hbm_read_bytes_per_second;  // sustained, measured
  int64_t hbm_bytes = 0;                            // capacity
  int64_t l2_bytes = 0;                             // what the device reports
  std::optional<int64_t> l2_bytes_effective;        // what a probe finds usable
  std::optional<int64_t> l2_partitions;
  std::optional<int64_t> l2_lru_bytes;             // capacity, replacement taken for LRU
  std::optional<int64_t> l2_ways;                  // granules of 4096 bytes that compete for a place
  std::optional<int64_t> l2_dirty_bytes;           // the most that stay dirty
  std::optional<int64_t> l2_dirty_at_start_bytes;  // dirty before a launch under a profiler that flushes caches
  std::optional<int64_t> launch_dram_bytes;        // read by a launch beside its tensors
  std::optional<double> l2_read_bytes_per_second;  // measured, all SMs reading shared data
  int64_t shared_bytes_per_sm = 0;
  int64_t shared_bytes_per_block = 0;  // the most a block may ask for
  int64_t shared_bytes_reserved = 0;   // per block, taken by the system
  int64_t registers_per_sm = 0;        // 32-bit
  int64_t registers_per_thread = 255;  // the most a thread may use
  int64_t threads_per_sm = 0;
  int64_t threads_per_block = 1024;
  int64_t blocks_per_sm = 0;
  double tensor_16bit_flops = 0;  // dense, fp32 accumulator, per second
  std::optional<double> tensor_8bit_flops;
  double fp32_flops = 0;          // outside the tensor cores, a fused multiply-add counts as two
  double mufu_per_clock_sm = 16;  // special-function results per clock and SM
  double shared_bytes_per_clock_sm = 128;

  // Field name -> source, for arch and every field after it that has a value (and for those without one that say why).
  std::map<std::string, FactSource> sources;
};

// One field of Gpu as the JSON files know it, in the order of the struct.
struct GpuField {
  std::string name;     // "hbm_bytes_per_second"
  std::string unit;     // "bytes/s"; empty for a plain count
  std::string meaning;  // one line
  bool required;        // false: the file may leave it out, or give null
};
std::vector<GpuField> GpuFields();

// One fact of a GPU, to be printed.
struct GpuFact {
  std::string field;
  std::string value;  // exact: digits, or the shortest text that reads back as the same double; "unknown"
  std::string unit;
  std::string source;
  std::string checked_by;
};
std::vector<GpuFact> Describe(const Gpu& gpu);

// The file that ParseGpu reads back as the same Gpu; one fact a line.
std::string ToJson(const Gpu& gpu);

// Names of the GPUs that are built in, sorted.
std::vector<std::string> GpuNames();

// A built-in GPU by name, or one read from a JSON file when `name_or_file` ends in ".json" or contains a '/'.
// Throws UsageError (unknown name, with the accepted ones) or InputError (file).
Gpu LoadGpu(std::string_view name_or_file);

// One GPU from JSON text; `origin` is what errors call it. Throws InputError that names the field and what it must be.
Gpu ParseGpu(std::string_view json, std::string_view origin);

// True when the architecture has wgmma and TMA (sm90).
bool HasWgmma(const Gpu& gpu);

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_GPU_H_
