#include "sim/l2/closed_form.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "sim/ceil_div.h"
#include "sim/l2/builds.h"
#include "sim/l2/parameters.h"
#include "sim/operands.h"
#include "sim/runs.h"

namespace bitflash::sim::l2 {
namespace {

bool IsKeysOrValues(TensorId tensor) { return tensor == TensorId::kK || tensor == TensorId::kV; }

// How the blocks of a launch share K and V.
struct Sharing {
  double in_flight = 1;  // different K and V that are being read at a time
  double together = 1;   // blocks that read the same K and V at the same time
};

Sharing SharingOf(const Attention& a, const Tiling& t, const data::Gpu& gpu, const LaunchCount& launch) {
  const double slots = static_cast<double>(gpu.sms * std::max<int64_t>(1, launch.occupancy.blocks_per_sm));
  const double kv = static_cast<double>(a.batch * a.heads_kv);
  const double blocks = std::max(1.0, launch.waves * slots);  // of the whole grid, persistent or not
  const double of_one = blocks / kv;
  Sharing s;
  const double resident = std::min(slots, blocks);
  // A wave seldom begins with a head: it reaches into one more.
  s.in_flight = std::clamp(std::ceil(resident / of_one - 1e-9) + (of_one > 1 && resident < blocks ? 1 : 0), 1.0, kv);
  s.together = std::max(1.0, std::min(resident, of_one));
  (void)t;
  return s;
}

// Bytes of the K and V of one head that its blocks visit.
double VisitedBytes(const Attention& a, const LaunchCount& launch) {
  const Traffic k = At(launch.ledger.hbm_compulsory, TensorId::kK), v = At(launch.ledger.hbm_compulsory, TensorId::kV);
  return static_cast<double>(k.read + v.read) / static_cast<double>(a.batch * a.heads_kv);
}

double Copies(const CacheParameters& cache, bool shared) { return cache.partitions == 1 ? 1 : shared ? 2 : 1.5; }

// What a launch's lines would take if all of them stayed.
double Footprint(const CacheParameters& cache, const LaunchCount& launch) {
  double bytes = 0;
  for (int id = 0; id < kTensorCount; ++id) {
    const Traffic& once = launch.ledger.hbm_compulsory[static_cast<size_t>(id)];
    const Traffic& asked = launch.ledger.l2_to_sm[static_cast<size_t>(id)];
    bytes += static_cast<double>(once.read) * Copies(cache, asked.read > 2 * once.read);
    bytes += static_cast<double>(once.write) * Copies(cache, false);
  }
  return bytes;
}

struct Reads {
  double dram = 0, again = 0, most_again = 0;  // again: of dram, what had been read before
};

// Every byte once, and what passes over too large a working set read again.
Reads ReadsOf(const Kernel& kernel, const Attention& a, const Tiling& t, const data::Gpu& gpu,
              const LaunchCount& launch, double load) {
  const Build build = BuildOf(kernel, launch.name, a, t);
  const Sharing sharing = SharingOf(a, t, gpu, launch);
  // Blocks of an SM that do not keep in step read on their own.
  const double groups =
      build.younger < 1 ? static_cast<double>(std::max<int64_t>(1, launch.occupancy.blocks_per_sm)) : 1;
  Reads reads;
  for (int id = 0; id < kTensorCount; ++id) {
    const double once = static_cast<double>(launch.ledger.hbm_compulsory[static_cast<size_t>(id)].read);
    reads.dram += once;
    if (!IsKeysOrValues(static_cast<TensorId>(id))) continue;
    const double asked = static_cast<double>(launch.ledger.l2_to_sm[static_cast<size_t>(id)].read);
    const double uncached = asked * groups / sharing.together;
    reads.most_again += std::max(0.0, uncached - once);
  }
  reads.again = reads.most_again * MissRate(load);
  reads.dram += reads.again;
  return reads;
}

}  // namespace

double MissRate(double load) {
  static constexpr std::array<std::pair<double, double>, 9> kTable = {{{0.90, 0.0},
                                                                       {0.94, 0.09},
                                                                       {0.98, 0.35},
                                                                       {1.02, 0.61},
                                                                       {1.06, 0.65},
                                                                       {1.09, 0.83},
                                                                       {1.17, 0.87},
                                                                       {1.21, 1.0},
                                                                       {1e30, 1.0}}};
  if (load <= kTable.front().first) return 0;
  for (size_t n = 1; n < kTable.size(); ++n) {
    if (load > kTable[n].first) continue;
    const auto [x0, y0] = kTable[n - 1];
    const auto [x1, y1] = kTable[n];
    return y0 + (y1 - y0) * (load - x0) / (x1 - x0);
  }
  return 1;
}

double WorkingSet(const Kernel& kernel, const Attention& a, const Tiling& t, const data::Gpu& gpu,
                  const LaunchCount& launch) {
  (void)kernel;
  const CacheParameters cache = ParametersOf(gpu);
  const Traffic once = At(launch.ledger.hbm_compulsory, TensorId::kK);
  const Traffic asked = At(launch.ledger.l2_to_sm, TensorId::kK);
  if (once.read == 0 || asked.read < once.read + once.read / 8) return 0;  // read once: nothing to keep
  const double in_flight = SharingOf(a, t, gpu, launch).in_flight;
  return in_flight * VisitedBytes(a, launch) * Copies(cache, true) / static_cast<double>(cache.bytes);
}

std::vector<Prediction> ClosedForm(const Kernel& kernel, const Attention& a, const Tiling& t, const data::Gpu& gpu,
                                   const Count& count, Start start) {
  constexpr double kEdge = 0.15;  // of the working set: what nobody knows about it
  const CacheParameters cache = ParametersOf(gpu);
  const double capacity = static_cast<double>(cache.bytes);
  const auto bytes = [](double x) { return static_cast<int64_t>(std::llround(std::max(0.0, x))); };
  std::vector<Prediction> predictions;
  double earlier = static_cast<double>(cache.dirty_at_start);  // still dirty
  double dirty = 0;                                            // of this call
  std::array<double, kTensorCount> resident{};                 // share of a tensor that the launches before left in L2
  for (const LaunchCount& launch : count.launches) {
    if (start == Start::kFlushed) earlier = static_cast<double>(cache.dirty_at_start), dirty = 0, resident = {};
    Prediction p;
    const double load = WorkingSet(kernel, a, t, gpu, launch);
    const double overhead = static_cast<double>(OverheadOf(gpu));
    double found = 0;
    for (int id = 0; id < kTensorCount; ++id) {
      found += resident[static_cast<size_t>(id)] *
               static_cast<double>(launch.ledger.hbm_compulsory[static_cast<size_t>(id)].read);
    }
    const auto read = [&](double at) { return bytes(ReadsOf(kernel, a, t, gpu, launch, at).dram - found + overhead); };
    p.dram_read = {read(load), read(load * (1 - kEdge)), read(load * (1 + kEdge))};

    // Dirty lines leave in the order of everything else, once the launch has brought more than fits.
    const double written = static_cast<double>(Sum(launch.ledger.hbm_compulsory).write);
    const double footprint =
        Footprint(cache, launch) + ReadsOf(kernel, a, t, gpu, launch, load).again * Copies(cache, true);
    const double fits = footprint > 0 ? std::min(1.0, capacity / footprint) : 1;
    const double left = std::min(written * fits, static_cast<double>(cache.dirty_bytes));
    const double stay = std::clamp((capacity - footprint) / (0.2 * capacity), 0.0, 1.0);  // of what was there before
    const double out_earlier = earlier * (1 - stay);
    const double before = std::min(dirty * stay, std::max(0.0, static_cast<double>(cache.dirty_bytes) - left));
    const double out = written - left + dirty - before + out_earlier;
    p.dram_write = {bytes(out), bytes(out - 0.1 * left), bytes(out + 0.25 * left)};
    p.earlier_write = bytes(out_earlier);
    p.dirty_at_end = {bytes(left + before), bytes(0.75 * left + before), bytes(1.1 * left + before)};
    p.fabric = cache.partitions == 1 ? 0 : bytes(footprint / 3);
    earlier -= out_earlier;
    dirty = left + before;
    // What the next launch finds: the newest lines, all of them while they fit.
    for (int id = 0; id < kTensorCount; ++id) {
      const Traffic& once = launch.ledger.hbm_compulsory[static_cast<size_t>(id)];
      const double size = static_cast<double>(std::max(once.read, once.write)) * Copies(cache, false);
      const bool touched = once.read + once.write > 0;
      const double kept = 1 - MissRate(footprint / capacity);
      double& share = resident[static_cast<size_t>(id)];
      share = touched ? (size <= capacity ? kept : 0) : share * stay;
    }
    predictions.push_back(p);
  }
  if (start == Start::kAgain) {
    // As the first call, but that a footprint which fits is found again.
    for (size_t n = 0; n < predictions.size(); ++n) {
      const double footprint = Footprint(cache, count.launches[n]);
      const double kept = 1 - MissRate(footprint / capacity);
      Estimate& r = predictions[n].dram_read;
      for (int64_t* value : {&r.value, &r.low, &r.high}) *value = bytes(static_cast<double>(*value) * (1 - kept));
    }
  }
  return predictions;
}

}  // namespace bitflash::sim::l2
