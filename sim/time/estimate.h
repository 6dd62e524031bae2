// How long a kernel takes on a GPU: an estimate, with what limits it. Floors (verify/predict/explain.h) are bounds;
// this is neither bound nor measurement. Valid for a launch that starts with an empty L2, at the clock of the data
// sheet.
#ifndef BITFLASH_SIM_TIME_ESTIMATE_H_
#define BITFLASH_SIM_TIME_ESTIMATE_H_

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "sim/count.h"
#include "sim/l2/drift.h"
#include "sim/time/calibration.h"
#include "sim/time/schedule.h"

namespace bitflash::sim {

// What time goes to. The first six are units of the GPU: work over rate, as if it were the only work.
enum class Limit : uint8_t {
  kTensor,   // tensor cores, at the rate of the kernel's instruction
  kSpecial,  // special-function units
  kFp32,     // CUDA cores
  kShared,   // shared memory
  kL2,       // bytes between L2 and the SMs
  kHbm,      // bytes between HBM and L2 (hbm_bytes.h)
  kStalls,   // units wait for one another within an SM: dependences, barriers, latency
  kIdleSms,  // SMs wait for blocks: the last wave, blocks of different lengths, too few of them
  kLaunch,   // starting and ending a launch
};
inline constexpr int kLimitCount = 9;
inline constexpr int kUnitCount = 6;

// "tensor", ..., "idle_sms": the word in JSON. And for people: "tensor cores", ..., "idle SMs".
std::string_view Name(Limit limit);
std::string_view Title(Limit limit);

struct LaunchTime {
  double seconds = 0;
  // Seconds by Limit. Those of the slowest unit, kStalls, kIdleSms and kLaunch add up to `seconds`; those of the other
  // units pass meanwhile.
  std::array<double, kLimitCount> part{};
  Limit bottleneck = Limit::kLaunch;  // the largest part

  double of(Limit limit) const { return part[static_cast<size_t>(limit)]; }
  // Of those that are within 5 % of one another the first in the order of Limit.
  Limit slowest_unit() const;
};

struct TimeEstimate {
  std::vector<LaunchTime> launches;  // one after another
  double seconds = 0;
  Limit bottleneck = Limit::kLaunch;  // of the sum of the launches' parts
  // True where the constants were fitted to times of these kernels on this architecture. Elsewhere they are those of
  // the nearest kernel, on an H100: an order, not a figure.
  bool calibrated = false;
};

// What the schedule of one launch is simulated from, and the seconds of the units.
struct LaunchModel {
  LaunchWork work;
  SmModel sm;
  const Calibration* calibration = nullptr;
  std::array<double, kUnitCount> unit_seconds{};
  double clock_hz = 0;
  Traffic hbm;  // HbmWhileRunning
};
std::vector<LaunchModel> ModelsOf(const Kernel& kernel, const Attention& attention, const Tiling& tiling,
                                  const Gpu& gpu, const Count& count, const l2::Rereads* rereads = nullptr);
// The same with given constants: for fitting them.
LaunchModel ModelOf(const Calibration& calibration, const Kernel& kernel, const Attention& attention,
                    const Tiling& tiling, const Gpu& gpu, const LaunchCount& launch, const Traffic& hbm,
                    LaunchWork work);

LaunchTime TimeOf(const LaunchModel& model);

// `count` is CountKernel's of the same arguments, `rereads` as in l2::PredictOptions. Microseconds to milliseconds.
TimeEstimate EstimateTime(const Kernel& kernel, const Attention& attention, const Tiling& tiling, const Gpu& gpu,
                          const Count& count, const l2::Rereads* rereads = nullptr);

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_TIME_ESTIMATE_H_
