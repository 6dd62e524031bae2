// Every tile, number of warps, stages and splits that a kernel could take for a problem on a GPU: counted, timed and
// ranked, or rejected with the reason. The analysis behind `bitflash tune`.
#ifndef BITFLASH_VERIFY_PREDICT_TUNE_H_
#define BITFLASH_VERIFY_PREDICT_TUNE_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "sim/count.h"
#include "sim/time/estimate.h"

namespace bitflash::verify {

struct TuneInput {
  const sim::Kernel* kernel = nullptr;
  data::Attention attention;
  data::Gpu gpu;
  sim::TilingChoice fixed;  // what the user has decided; the rest is tried
};

struct TuneCandidate {
  sim::Tiling tiling;
  bool published = false;  // the kernel's own choice, with what the user has decided
  bool reference = false;  // what others publish (sim::Kernel::Published)
  sim::Count count;
  sim::TimeEstimate time;
  size_t main_launch = 0;       // index of the launch with the most matrix operations
  int64_t hbm_bytes = 0;        // predicted behind the L2 in closed form, all launches
  int64_t requested_bytes = 0;  // between L2 and the SMs
};

struct TuneRejection {
  sim::Tiling tiling;
  bool published = false, reference = false;
  std::string reason;
};

// Why a choice is not first; kFirst: it is.
enum class TuneVerdict : uint8_t {
  kFirst,       // nothing is estimated to be faster
  kWithin,      // slower than the first by less than the estimate's own error (kTuneMargin)
  kSlower,      // slower by more: `because` names the part of the time that makes the difference
  kInfeasible,  // it does not run here
};
// "first", "within", "slower", "infeasible": the word in JSON.
std::string_view Name(TuneVerdict verdict);

// Tiles whose measured times differ by a tenth the estimate puts in the measured order, 234 of 238 pairs; nearer ones
// it cannot tell apart (sim/time/README.md).
inline constexpr double kTuneMargin = 0.1;

// Where a choice stands.
struct TunePlace {
  TuneVerdict verdict = TuneVerdict::kInfeasible;
  size_t rank = 0;      // index into ranked, or, when it is infeasible, into rejected
  double slowdown = 0;  // its time over the first's, minus 1
  // What it spends more on than the first, and how many seconds more.
  sim::Limit because = sim::Limit::kTensor;
  double because_seconds = 0;
};

struct TuneResult {
  std::vector<TuneCandidate> ranked;    // by time to three digits, then by bytes; at least one
  std::vector<TuneRejection> rejected;  // in the order of trial
  TunePlace published;                  // the kernel's own choice
  std::optional<TunePlace> reference;   // what others publish, where the user has not decided otherwise
};

// What others publish, in the tiling that is tried for it; empty: nobody does, or the user has decided otherwise.
std::optional<sim::Tiling> ReferenceTiling(const TuneInput& input);

// The tilings that are tried: the kernel's own first, then what others publish, then the grid in tune.cc.
std::vector<sim::Tiling> TuneGrid(const TuneInput& input);

// `progress` hears how many candidates are done, and of how many. Throws UsageError with the first reason when nothing
// is feasible.
TuneResult Tune(const TuneInput& input, const std::function<void(int64_t, int64_t)>& progress = nullptr);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_PREDICT_TUNE_H_
