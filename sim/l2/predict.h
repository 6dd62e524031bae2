// What a kernel moves between HBM and L2, launch by launch: the question that this folder answers. Two ways to the same
// fields: the exact mode replays every tile (machine.h), the closed form is arithmetic on the counted bytes
// (closed_form.h).
#ifndef BITFLASH_SIM_L2_PREDICT_H_
#define BITFLASH_SIM_L2_PREDICT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "sim/count.h"
#include "sim/l2/drift.h"
#include "sim/l2/machine.h"

namespace bitflash::sim::l2 {

enum class Mode : uint8_t {
  kExact,       // event by event
  kClosedForm,  // microseconds
};

// What is in L2 when a launch begins.
enum class Start : uint8_t {
  kFlushed,  // nothing, before every launch: as a profiler counts by default
  kStream,   // nothing before the first launch; later ones find what the launches before them left
  kAgain,    // what the same call left, which ran just before
};

// A value, and the least and the most over the runs; in the closed form over the width of the capacity's edge.
struct Estimate {
  int64_t value = 0, low = 0, high = 0;
  Estimate& operator+=(const Estimate& other);
  bool operator==(const Estimate&) const = default;
};

// Of a working set over the capacity: here small things decide what is read again.
inline bool InKnee(double working_set) { return working_set >= 0.7 && working_set <= 1.3; }

// Bytes of one launch, or of all of them.
struct Prediction {
  std::string name;
  Estimate dram_read, dram_write;  // during the launch: what a profiler counts
  int64_t earlier_write = 0;       // of dram_write: lines that were dirty before the call
  int64_t dirty_at_start = 0;      // left in L2 by the launches before: they may be written now
  int64_t before_write = 0;        // written between the launch before and this one: the total's dram_write has it
  Estimate dirty_at_end;           // written by the call so far, and still only in L2
  int64_t fabric = 0;              // reads and writes that cross between the partitions of the L2

  // Bounds that hold for Start::kFlushed: compulsory <= dram_read <= requested, but for the launch's own overhead and
  // for what spills push out.
  int64_t compulsory_read = 0, requested_read = 0;
  int64_t compulsory_write = 0, requested_write = 0;

  // Bytes of K and V that are read again and again while other heads wait, copies in both partitions counted, over the
  // capacity.
  double working_set = 0;
  bool in_knee() const { return InKnee(working_set); }

  // Bytes that are written to HBM, now or when the last lines leave the L2.
  int64_t written_in_the_end() const { return dram_write.value - earlier_write - dirty_at_start + dirty_at_end.value; }

  // All bytes between HBM and L2 that the launch, or the call, causes.
  int64_t hbm_bytes() const { return dram_read.value + written_in_the_end(); }
};

struct Predicted {
  std::vector<Prediction> launches;
  Prediction total;
  Mode mode = Mode::kExact;
};

struct PredictOptions {
  Mode mode = Mode::kExact;
  Start start = Start::kStream;
  int seeds = 1;      // exact mode: runs, each with other hashes; the first gives the values, the others also try a
                      // capacity 6 % smaller and larger
  Observer observer;  // exact mode: of the first run
  const Rereads* rereads = nullptr;  // closed form: RereadsOf the same arguments, where they are known
};

// Most of the closed form's work, and the same for every Start: for callers that ask for several.
Rereads RereadsOf(const Kernel& kernel, const Attention& attention, const Tiling& tiling, const data::Gpu& gpu,
                  const Count& count);

// `count` is CountKernel's answer for the same kernel, problem, tiling and GPU.
Predicted Predict(const Kernel& kernel, const Attention& attention, const Tiling& tiling, const data::Gpu& gpu,
                  const Count& count, const PredictOptions& options = {});

// How much work the exact mode would be: granules to look up and blocks to start, about 20 million a second.
int64_t ExactCost(const Count& count);

// The working set over the capacity that Prediction reports.
double WorkingSet(const Attention& attention, const data::Gpu& gpu, const LaunchCount& launch);

}  // namespace bitflash::sim::l2

#endif  // BITFLASH_SIM_L2_PREDICT_H_
