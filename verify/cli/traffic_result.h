// What `traffic` found, and its three forms: JSON, CSV, and tables for people.
#ifndef BITFLASH_VERIFY_CLI_TRAFFIC_RESULT_H_
#define BITFLASH_VERIFY_CLI_TRAFFIC_RESULT_H_

#include <optional>
#include <string>
#include <vector>

#include "sim/count.h"
#include "sim/l2/predict.h"
#include "sim/time/estimate.h"
#include "verify/cli/assertion.h"
#include "verify/cli/output.h"
#include "verify/cli/workload.h"

namespace bitflash::verify {

// One kernel on one problem.
struct TrafficResult {
  const sim::Kernel* kernel = nullptr;
  data::Attention attention;
  sim::Tiling tiling;
  sim::Count count;
  std::optional<sim::l2::Predicted> l2;  // behind the L2; empty when that was not asked for
  sim::TimeEstimate time;
  std::vector<Outcome> outcomes;  // of the assertions, in their order; empty when the point is infeasible
  std::string infeasible;         // why the kernel cannot run this point; then nothing is counted
};

// How `traffic` looks behind the L2: --l2 and --l2-start.
struct L2Choice {
  enum class Mode : uint8_t { kAuto, kExact, kClosedForm, kOff };
  Mode mode = Mode::kAuto;  // exact where that takes no more than seconds; closed form in sweeps
  sim::l2::Start start = sim::l2::Start::kStream;
};

// Throws UsageError with the accepted words.
L2Choice ParseL2(const std::optional<std::string>& mode, const std::optional<std::string>& start);

// HBM bytes that are shown as written: of a launch those written while it runs, in total also those that leave L2
// later.
inline int64_t WrittenBehindL2(const sim::l2::Prediction& l2, bool total) {
  return total ? l2.written_in_the_end() : l2.dram_write.value - l2.earlier_write;
}

// Empty with Mode::kOff. In the knee the exact mode runs three seeds, for the range.
std::optional<sim::l2::Predicted> PredictL2(const L2Choice& choice, bool sweep, const sim::Kernel& kernel,
                                            const data::Attention& attention, const sim::Tiling& tiling,
                                            const data::Gpu& gpu, const sim::Count& count,
                                            const sim::l2::Rereads* rereads = nullptr);

// {"hbm": {"read": {"compulsory", "predicted", "requested"}, "write": ...}, "l2_to_sm": ..., "shared": ...,
// "register": {"read"}, "l2": {...}, "flops": {"matrix"}, "ops": {"special", "fp32"}, "tensors": {"q": ..., ...}}.
// `predicted` is null without a prediction, and for single tensors. Of writes it is what a launch writes while it runs;
// of all launches together, what they write in the end.
Json LedgerJson(const sim::Ledger& ledger, const sim::l2::Prediction* l2, bool total);

Json ProblemJson(const data::Attention& attention);
Json TilingJson(const sim::Tiling& tiling);
Json GpuJson(const data::Gpu& gpu);

// One result: verify/schemas/traffic.schema.json. Several: traffic-sweep.schema.json, where an infeasible point has its
// reason and no counts; every assertion about it fails.
Json TrafficJson(const Workload& workload, const std::vector<Assertion>& assertions,
                 const std::vector<TrafficResult>& results);

// One line per kernel, point, launch (and "total") and tensor (and "all"); bytes as whole numbers. An infeasible point
// has one line, with its reason and empty counts.
std::string TrafficCsv(const std::vector<TrafficResult>& results);

// Level x tensor for each launch and in total.
std::string TrafficTables(const Workload& workload, const TrafficResult& result, bool color);

// One line per point and kernel.
std::string TrafficSweepTable(const Workload& workload, const std::vector<TrafficResult>& results, bool color);

// "hbm.read.requested = 1,090,519,040 holds: hbm.read<=1.2GB", one line each.
std::string AssertionLines(const std::vector<Assertion>& assertions, const TrafficResult& result, bool color);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_TRAFFIC_RESULT_H_
