// Recorded DRAM counters beside what the model says of the same launches. For tests.
#ifndef BITFLASH_SIM_L2_RECORDED_CALLS_H_
#define BITFLASH_SIM_L2_RECORDED_CALLS_H_

#include <string>
#include <vector>

#include "sim/l2/predict.h"

namespace bitflash::sim::l2 {

// The counters of one launch.
struct RecordedLaunch {
  size_t step = 0;
  int64_t dram_read = 0, dram_write = 0, sm_read = 0;
  int64_t fabric = 0;  // between the partitions of the L2; 0 where it was not counted
};

// One call of a kernel, as a row or several of data/golden describe it.
struct RecordedCall {
  std::string id;  // "fa2/b1_h16-16_s4096x4096_d128_bf16_full"
  std::string gpu;
  bool held_out = false;
  Start start = Start::kFlushed;
  const Kernel* kernel = nullptr;
  Attention attention;
  Tiling tiling;
  std::vector<RecordedLaunch> launches;
};

// data/golden/l2/h100-80gb-hbm3_cold.csv or _warm.csv; without the decode kernels of cuDNN, which are not modelled.
std::vector<RecordedCall> ReadH100(const std::string& which);

// data/golden/h200_nsight_l2_to_sm.csv: PyTorch's FlashAttention-2 and cuDNN, prefill and decode, caches flushed. Held
// out by the same rule: bit 32 of the FNV-1a hash of "h200/CASE/BACKEND".
std::vector<RecordedCall> ReadH200();

// data/golden/own/h200_nsight.csv: our fa2 and fa3, caches flushed. Nothing was fitted to them.
std::vector<RecordedCall> ReadOwnForward();

// One launch, predicted and counted.
struct Compared {
  std::string id;
  std::string launch;
  bool held_out = false;
  bool in_knee = false;
  Start start = Start::kFlushed;
  Prediction predicted;
  RecordedLaunch counted;
  const Kernel* kernel = nullptr;
  Attention attention;
  Tiling tiling;
  data::Gpu gpu;

  double read_error() const;     // relative, signed
  double sm_read_error() const;  // relative, signed
  double fabric_error() const;   // relative, signed
  int64_t write_error() const;   // bytes, signed
  bool read_within() const;      // 5 % or 2 MB
  bool write_within() const;     // 5 % or 2 MB
};

std::vector<Compared> Compare(const std::vector<RecordedCall>& calls, Mode mode, int seeds = 1);

// Without launches that read less than this many bytes, where a launch's own overhead decides.
std::vector<Compared> Reading(const std::vector<Compared>& launches, int64_t bytes);

// The p-th part of the absolute read errors, 0.5 for the median; 0 when there are none.
double ReadError(const std::vector<Compared>& launches, double p);

// Likewise of the bytes between the partitions, where they were counted and are 5 MB or more.
double FabricError(const std::vector<Compared>& launches, double p);

}  // namespace bitflash::sim::l2

#endif  // BITFLASH_SIM_L2_RECORDED_CALLS_H_
