// The schedule of a kernel as a trace that Perfetto (ui.perfetto.dev) and chrome://tracing open: blocks on SMs, their
// tiles, and what moves to and from L2 and HBM meanwhile. Times are the time model's (sim/time), not measured.
#ifndef BITFLASH_VERIFY_PREDICT_TRACE_H_
#define BITFLASH_VERIFY_PREDICT_TRACE_H_

#include <cstdint>
#include <string>

#include "sim/count.h"
#include "sim/time/estimate.h"

namespace bitflash::verify {

// What a trace may grow to. About 150 bytes an event.
struct TraceLimits {
  int64_t sms = 8;                // SMs that are drawn, from the first on; counters are of all
  int64_t most_events = 300'000;  // of a launch: tiles are left out first, then the last blocks
};

struct TraceSummary {
  int64_t events = 0;
  int64_t bytes = 0;
  int64_t blocks = 0;           // of all launches
  int64_t drawn_blocks = 0;     // as slices
  bool tiles_left_out = false;  // of some launch
};

// Writes Chrome's trace-event JSON ("JSON Object Format" of the Trace Event Format) to `path`, which is replaced once
// the trace is complete. One process: its first thread shows the launches, every slot of an SM has a thread for its
// blocks and one for their loads; counters add up the bytes of all launches. Timestamps are microseconds, whole
// nanoseconds; the launches follow one another and end at EstimateTime's total. otherData says what was left out.
// Throws InputError (`path`) and what the time model throws.
TraceSummary WriteTrace(const std::string& path, const sim::Kernel& kernel, const data::Attention& attention,
                        const sim::Tiling& tiling, const data::Gpu& gpu, const sim::Count& count,
                        const TraceLimits& limits = {});

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_PREDICT_TRACE_H_
