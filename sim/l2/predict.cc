#include "sim/l2/predict.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "sim/l2/closed_form.h"
#include "sim/l2/parameters.h"

namespace bitflash::sim::l2 {
namespace {

void Widen(Estimate& estimate, int64_t value, bool first) {
  if (first) estimate.value = estimate.low = estimate.high = value;
  estimate.low = std::min(estimate.low, value);
  estimate.high = std::max(estimate.high, value);
}

void FillBounds(Prediction& p, const LaunchCount& launch) {
  p.name = launch.name;
  p.compulsory_read = Sum(launch.ledger.hbm_compulsory).read;
  p.compulsory_write = Sum(launch.ledger.hbm_compulsory).write;
  p.requested_read = Sum(launch.ledger.l2_to_sm).read;
  p.requested_write = Sum(launch.ledger.l2_to_sm).write;
}

// What the runs do not show: how far recorded launches in the knee are from the prediction (recorded_test.cc).
void WidenInKnee(Prediction& p, Mode mode) {
  const double share = mode == Mode::kExact ? 0.05 : 0.15;
  const auto scaled = [](int64_t bytes, double by) {
    return static_cast<int64_t>(std::llround(by * static_cast<double>(bytes)));
  };
  Estimate& read = p.dram_read;
  read.low = std::max(scaled(read.low, 1 - share), std::min(read.low, p.compulsory_read));
  read.high = scaled(read.high, 1 + share);
}

std::vector<LaunchTraffic> Replay(const Kernel& kernel, const Attention& a, const Tiling& t, const data::Gpu& gpu,
                                  const Count& count, const PredictOptions& options, int seed) {
  // The edge of the capacity is about 12 % wide (gpu/probes/l2_counters.py): runs beside the first try both of its
  // ends.
  constexpr double kEdge = 0.06;
  MachineOptions machine_options;
  machine_options.seed = static_cast<uint64_t>(seed);
  machine_options.capacity = seed == 1 ? 1 : seed % 2 == 0 ? 1 - kEdge : 1 + kEdge;
  const bool again = options.start == Start::kAgain;
  const int launches = static_cast<int>(count.launches.size());
  if (seed == 1 && options.observer) {
    machine_options.observer = [&, launches](const Event& event) {
      if (!again) return options.observer(event);
      if (event.launch < launches) return;
      Event shifted = event;
      shifted.launch -= launches;
      options.observer(shifted);
    };
  }
  Machine machine(kernel, a, t, gpu, count, std::move(machine_options));
  machine.set_flush_between(options.start == Start::kFlushed);
  kernel.Run(machine, a, t, kernel.recipe);
  if (again) kernel.Run(machine, a, t, kernel.recipe);
  return machine.launches();
}

}  // namespace

Estimate& Estimate::operator+=(const Estimate& other) {
  value += other.value, low += other.low, high += other.high;
  return *this;
}

int64_t ExactCost(const Count& count) {
  int64_t cost = (Sum(count.total.l2_to_sm).read + Sum(count.total.l2_to_sm).write) / kGranuleBytes;
  for (const LaunchCount& launch : count.launches) cost += launch.grid.blocks();
  return cost;
}

Predicted Predict(const Kernel& kernel, const Attention& a, const Tiling& t, const data::Gpu& gpu, const Count& count,
                  const PredictOptions& options) {
  Predicted predicted;
  predicted.mode = options.mode;
  if (options.mode == Mode::kClosedForm) {
    predicted.launches = ClosedForm(kernel, a, t, gpu, count, options.start,
                                    options.rereads ? *options.rereads : RereadsOf(kernel, a, t, gpu, count));
  } else {
    predicted.launches.resize(count.launches.size());
    for (int seed = 1; seed <= std::max(1, options.seeds); ++seed) {
      const std::vector<LaunchTraffic> traffic = Replay(kernel, a, t, gpu, count, options, seed);
      const size_t first = traffic.size() - predicted.launches.size();  // of the second call with Start::kAgain
      for (size_t n = 0; n < predicted.launches.size(); ++n) {
        Prediction& p = predicted.launches[n];
        const LaunchTraffic& launch = traffic[first + n];
        Widen(p.dram_read, launch.dram_read, seed == 1);
        Widen(p.dram_write, launch.dram_write, seed == 1);
        Widen(p.dirty_at_end, launch.dirty_at_end, seed == 1);
        if (seed > 1) continue;
        p.earlier_write = launch.earlier_write;
        p.fabric = launch.fabric;
        if (first + n > 0 && options.start != Start::kFlushed) {
          p.before_write = launch.before_write;
          p.dirty_at_start = traffic[first + n - 1].dirty_at_end - p.before_write;
        }
      }
    }
  }
  for (size_t n = 0; n < predicted.launches.size(); ++n) {
    Prediction& p = predicted.launches[n];
    FillBounds(p, count.launches[n]);
    p.working_set = WorkingSet(a, gpu, count.launches[n]);
    if (p.in_knee()) WidenInKnee(p, options.mode);
    Prediction& total = predicted.total;
    total.dram_read += p.dram_read;
    total.dram_write += p.dram_write;
    total.earlier_write += p.earlier_write;
    total.fabric += p.fabric;
    total.compulsory_read += p.compulsory_read, total.compulsory_write += p.compulsory_write;
    total.requested_read += p.requested_read, total.requested_write += p.requested_write;
    total.working_set = std::max(total.working_set, p.working_set);
    if (n == 0) total.dirty_at_start = p.dirty_at_start;
    if (n > 0) total.dram_write += {p.before_write, p.before_write, p.before_write};
    total.dirty_at_end = p.dirty_at_end;  // of the last launch: of the whole call
    if (options.start == Start::kFlushed && n > 0) {
      // Every launch began without the dirty lines of the one before: they are written all the same.
      const Estimate& before = predicted.launches[n - 1].dirty_at_end;
      total.dram_write += before;
    }
  }
  predicted.total.name = "total";
  return predicted;
}

}  // namespace bitflash::sim::l2
