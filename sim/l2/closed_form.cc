#include "sim/l2/closed_form.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <utility>

#include "sim/ceil_div.h"
#include "sim/l2/builds.h"
#include "sim/l2/drift.h"
#include "sim/l2/parameters.h"
#include "sim/operands.h"
#include "sim/runs.h"

namespace bitflash::sim::l2 {
namespace {

// How the blocks of a launch share K and V when they start in order and keep in step: wave after wave, all blocks of a
// wave at the same place of their keys.
struct Sharing {
  double blocks = 1;  // of the whole grid, persistent or not
  double low = 1;     // different K and V that a wave reads, at least
  double more = 0;    // share of the waves that read one more
  double passes = 1;  // over the K and V of a head, all heads together, if nothing stayed from one wave to the next
};

Sharing SharingOf(const Attention& a, const data::Gpu& gpu, const LaunchCount& launch) {
  const double slots = static_cast<double>(gpu.sms * std::max<int64_t>(1, launch.occupancy.blocks_per_sm));
  const double kv = static_cast<double>(a.batch * a.heads_kv);
  Sharing s;
  s.blocks = std::max(1.0, launch.waves * slots);
  const double of_one = s.blocks / kv;
  const double resident = std::min(slots, s.blocks);
  s.low = std::clamp(std::ceil(resident / of_one - 1e-9), 1.0, kv);
  s.more = resident < s.blocks && s.low < kv ? std::fmod(resident - 1, of_one) / of_one : 0;
  // A wave that begins inside a head and the wave before it both read that head.
  s.passes = kv + std::ceil(launch.waves - 1e-9) - 1;
  return s;
}

// Bytes of the K and V of one head that its blocks visit.
double VisitedBytes(const Attention& a, const LaunchCount& launch) {
  const Traffic k = At(launch.ledger.hbm_compulsory, TensorId::kK), v = At(launch.ledger.hbm_compulsory, TensorId::kV);
  return static_cast<double>(k.read + v.read) / static_cast<double>(a.batch * a.heads_kv);
}

double Copies(const CacheParameters& cache, bool shared) { return cache.partitions == 1 ? 1 : shared ? 2 : 1.5; }

// Local memory: every block that is resident has its place in L2, and the next block of its slot writes there again.
struct Spills {
  double places = 0;  // bytes, all slots together
  double again = 0;   // what later blocks write to the places, as far as it was out of L2 when they came: in all
  double leaked = 0;  // Build::leaked, of all key tiles
};

Spills SpillsOf(const Kernel& kernel, const Attention& a, const Tiling& t, const data::Gpu& gpu,
                const LaunchCount& launch) {
  const Build build = BuildOf(kernel, launch.name, a, t, gpu);
  const int64_t blocks = launch.grid.blocks();
  const int64_t resident = std::min(blocks, gpu.sms * std::max<int64_t>(1, launch.occupancy.blocks_per_sm));
  const auto bytes = [&](int64_t of, int64_t a_thread) {
    return static_cast<double>(of * launch.resources.threads * a_thread);
  };
  const int64_t places = std::min(blocks, std::max(resident, build.places * gpu.sms));
  const int64_t once = build.spilled_per_block + (build.places > 0 ? build.spilled_per_tile : 0);
  const double k_tile = static_cast<double>(t.Bc * a.head_dim * data::StorageBytes(a.format));
  const double tiles = static_cast<double>(At(launch.ledger.l2_to_sm, TensorId::kK).read) / k_tile;
  return {bytes(places, build.spilled_per_tile + build.spilled_per_block), bytes(blocks - places, once),
          build.leaked * tiles * static_cast<double>(launch.resources.threads * build.spilled_per_tile)};
}

// What a launch's lines would take if all of them stayed.
double Footprint(const CacheParameters& cache, const Kernel& kernel, const Attention& a, const Tiling& t,
                 const data::Gpu& gpu, const LaunchCount& launch) {
  double bytes = SpillsOf(kernel, a, t, gpu, launch).places * Copies(cache, false);
  for (int id = 0; id < kTensorCount; ++id) {
    const Traffic& once = launch.ledger.hbm_compulsory[static_cast<size_t>(id)];
    const Traffic& asked = launch.ledger.l2_to_sm[static_cast<size_t>(id)];
    if (HintOf(kernel, launch.name, static_cast<TensorId>(id), false, a, t) != Hint::kEvictFirst)
      bytes += static_cast<double>(once.read) * Copies(cache, asked.read > 2 * once.read);
    bytes += static_cast<double>(once.write) * Copies(cache, false);
  }
  return bytes;
}

// Of S and P, when lines leave L2 with being written back: what is dirty. The softmax reads S in the order in which it
// was written, and pushes out the next rows with every row that it misses; the output begins with the last rows of a
// head, and finds them unless much else comes before.
double KeptOfLeaving(TensorId tensor, double bytes, const CacheParameters& cache) {
  const double dirty = static_cast<double>(cache.dirty_bytes);
  if (bytes <= dirty) return 1;
  return tensor == TensorId::kP && bytes < 3 * dirty ? dirty / bytes : 0;
}

// The first FlashAttention's blocks hold keys, and Q, O and the row state of their heads pass by once a key tile: bytes
// of the heads in flight, each of them read by one block alone, over the capacity. 0: no launch of that kind, the only
// one that reads O.
double PassingLoad(const CacheParameters& cache, const LaunchCount& launch) {
  if (At(launch.ledger.l2_to_sm, TensorId::kO).read == 0) return 0;
  double bytes = 0;
  for (size_t id = 0; id < kTensorCount; ++id) {
    const Traffic& once = launch.ledger.hbm_compulsory[id];
    if (launch.ledger.l2_to_sm[id].read > once.read) bytes += static_cast<double>(std::max(once.read, once.write));
  }
  const double in_flight = std::min(1.0, 1 / std::max(1e-9, launch.waves));
  return bytes * in_flight * Copies(cache, false) / static_cast<double>(cache.bytes);
}

struct Reads {
  double dram = 0;
  double again = 0;  // of dram, what had been read before
};

// Every byte once, and what passes over too large a working set read again: `again` of the bytes of K and V asked for,
// where ReadAgain knows it. `scale` widens the working set.
Reads ReadsOf(const CacheParameters& cache, const Attention& a, const data::Gpu& gpu, const LaunchCount& launch,
              double scale, std::optional<double> again) {
  Reads reads;
  reads.dram = static_cast<double>(Sum(launch.ledger.hbm_compulsory).read);
  if (const double load = PassingLoad(cache, launch); load > 0) {
    reads.again = (static_cast<double>(Sum(launch.ledger.l2_to_sm).read) - reads.dram) * MissRate(load * scale);
    reads.dram += reads.again;
    return reads;
  }
  double once = 0, asked = 0;
  for (const TensorId id : {TensorId::kK, TensorId::kV}) {
    once += static_cast<double>(At(launch.ledger.hbm_compulsory, id).read);
    asked += static_cast<double>(At(launch.ledger.l2_to_sm, id).read);
  }
  if (again) {
    reads.again = *again * asked;
    reads.dram += reads.again;
    return reads;
  }
  if (asked <= once || launch.waves <= 1) return reads;
  const Sharing sharing = SharingOf(a, gpu, launch);
  const double uncached = sharing.passes * asked / sharing.blocks;
  const double head =
      once / static_cast<double>(a.batch * a.heads_kv) * Copies(cache, true) * scale / static_cast<double>(cache.bytes);
  const double miss =
      (1 - sharing.more) * MissRate(sharing.low * head) + sharing.more * MissRate((sharing.low + 1) * head);
  reads.again = std::max(0.0, uncached - once) * miss;
  reads.dram += reads.again;
  return reads;
}

}  // namespace

double MissRate(double load) {
  static constexpr std::array<std::pair<double, double>, 9> kTable = {{{0.95, 0.0},
                                                                       {1.00, 0.09},
                                                                       {1.04, 0.35},
                                                                       {1.08, 0.61},
                                                                       {1.12, 0.65},
                                                                       {1.16, 0.83},
                                                                       {1.24, 0.87},
                                                                       {1.28, 1.0},
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

double WorkingSet(const Attention& a, const data::Gpu& gpu, const LaunchCount& launch) {
  const CacheParameters cache = ParametersOf(gpu);
  if (const double load = PassingLoad(cache, launch); load > 0) return load;
  const Traffic once = At(launch.ledger.hbm_compulsory, TensorId::kK);
  const Traffic asked = At(launch.ledger.l2_to_sm, TensorId::kK);
  if (launch.waves <= 1 || asked.read < once.read + once.read / 8) return 0;  // read once: nothing to keep
  const Sharing sharing = SharingOf(a, gpu, launch);
  return (sharing.low + (sharing.more > 0 ? 1 : 0)) * VisitedBytes(a, launch) * Copies(cache, true) /
         static_cast<double>(cache.bytes);
}

Rereads RereadsOf(const Kernel& kernel, const Attention& a, const Tiling& t, const data::Gpu& gpu, const Count& count) {
  const CacheParameters cache = ParametersOf(gpu);
  std::vector<double> always_in_use;
  for (const LaunchCount& launch : count.launches) {
    always_in_use.push_back(SpillsOf(kernel, a, t, gpu, launch).places * Copies(cache, false));
  }
  return ReadAgain(kernel, a, t, gpu, count, always_in_use);
}

std::vector<Prediction> ClosedForm(const Kernel& kernel, const Attention& a, const Tiling& t, const data::Gpu& gpu,
                                   const Count& count, Start start, const Rereads& rereads) {
  const CacheParameters cache = ParametersOf(gpu);
  const double capacity = static_cast<double>(cache.bytes);
  const auto bytes = [](double x) { return static_cast<int64_t>(std::llround(std::max(0.0, x))); };
  std::vector<Prediction> predictions;
  double earlier = 0;                           // still dirty of what ran before
  double dirty = 0;                             // of this call
  std::array<double, kTensorCount> resident{};  // share of a tensor that the launches before left in L2
  const size_t rounds = start == Start::kAgain ? 2 : 1;
  for (size_t n = 0; n < rounds * count.launches.size(); ++n) {
    const LaunchCount& launch = count.launches[n % count.launches.size()];
    if (start == Start::kFlushed) earlier = static_cast<double>(cache.dirty_at_start), dirty = 0, resident = {};
    Prediction p;
    p.dirty_at_start = bytes(dirty);
    const double overhead = static_cast<double>(OverheadOf(gpu));
    double found = 0;
    for (int id = 0; id < kTensorCount; ++id) {
      found += resident[static_cast<size_t>(id)] *
               static_cast<double>(launch.ledger.hbm_compulsory[static_cast<size_t>(id)].read);
    }
    const auto reads = [&](size_t scale) {
      const std::optional<ByScale>& shares = rereads[n % count.launches.size()];
      return ReadsOf(cache, a, gpu, launch, kScales[scale], shares ? std::optional((*shares)[scale]) : std::nullopt);
    };
    const auto read = [&](size_t scale) { return bytes(reads(scale).dram - found + overhead); };
    p.dram_read = {read(0), read(1), read(2)};

    // Dirty lines leave in the order of everything else, once the launch has brought more than fits.
    const double footprint = Footprint(cache, kernel, a, t, gpu, launch) + reads(0).again * Copies(cache, true);
    const Spills spills = SpillsOf(kernel, a, t, gpu, launch);
    const double per_wave = footprint / std::max(1.0, launch.waves);
    const double outputs = static_cast<double>(Sum(launch.ledger.hbm_compulsory).write);
    const double load = PassingLoad(cache, launch);
    const double passing =
        load > 0 ? (static_cast<double>(Sum(launch.ledger.l2_to_sm).write) - outputs) * MissRate(load) : 0;
    const double written =
        outputs + passing + spills.places + spills.again * MissRate(per_wave / capacity) + spills.leaked;
    // Blocks that all fit at once write after the last read.
    const double fits = footprint > 0 && launch.waves > 1 ? std::min(1.0, capacity / footprint) : 1;
    // Spilled lines are written again and again: those of the last blocks stay.
    const double left = std::min(outputs * fits + spills.places, static_cast<double>(cache.dirty_bytes));
    const double stay = std::clamp((capacity - footprint) / (0.2 * capacity), 0.0, 1.0);  // of what was there before
    const double out_earlier = earlier * (1 - stay);
    // O and the row state that pass by are the lines that the launch before has left dirty.
    const double rewritten = load > 0 ? std::min(dirty * (1 - MissRate(load)), left) : 0;
    const double before =
        std::min(std::max(0.0, dirty * stay - rewritten), std::max(0.0, static_cast<double>(cache.dirty_bytes) - left));
    const double out = written - left + dirty - rewritten - before + out_earlier;
    // The same call again writes the same lines.
    const double others = n < count.launches.size() ? before : std::max(0.0, before - written);
    p.dram_write = {bytes(out), bytes(out - 0.1 * left), bytes(out + 0.25 * left)};
    p.earlier_write = bytes(out_earlier);
    p.dirty_at_end = {bytes(left + others), bytes(0.75 * left + others), bytes(1.1 * left + others)};
    p.fabric = cache.partitions == 1 ? 0 : bytes(footprint / 3);
    earlier -= out_earlier;
    dirty = left + others;
    // What the next launch finds: the newest lines, all of them while they fit.
    for (int id = 0; id < kTensorCount; ++id) {
      const Traffic& once = launch.ledger.hbm_compulsory[static_cast<size_t>(id)];
      const double size = static_cast<double>(std::max(once.read, once.write)) * Copies(cache, false);
      const bool touched = once.read + once.write > 0;
      const bool leaves =
          once.write > 0 && HintOf(kernel, launch.name, static_cast<TensorId>(id), true, a, t) == Hint::kEvictFirst;
      const double kept = leaves ? KeptOfLeaving(static_cast<TensorId>(id), static_cast<double>(once.write), cache)
                                 : 1 - MissRate(footprint / capacity);
      double& share = resident[static_cast<size_t>(id)];
      share = touched ? (size <= capacity ? kept : 0) : share * stay;
    }
    predictions.push_back(p);
  }
  predictions.erase(predictions.begin(), predictions.end() - static_cast<std::ptrdiff_t>(count.launches.size()));
  return predictions;
}

}  // namespace bitflash::sim::l2
