#include "sim/l2/drift.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>
#include <vector>

#include "sim/dispatch.h"
#include "sim/l2/builds.h"
#include "sim/l2/parameters.h"
#include "sim/stream.h"

namespace bitflash::sim::l2 {
namespace {

// Reads of a slice by a block that are replayed: at least, if there are so many; of so many heads, if those are more;
// and at most. What is left of a longer launch goes on as the second half of them did.
constexpr double kLeastReads = 12e3, kHeads = 6, kMostReads = 3e5;

constexpr double kFarFromFull = 0.4;

constexpr double kTiny = 1e-9;  // of a slice: where rounding ends

double Uniform(uint64_t n) {
  n = (n + 1) * 0x9E3779B97F4A7C15;
  n = (n ^ (n >> 30)) * 0xBF58476D1CE4E5B9;
  return static_cast<double>((n ^ (n >> 27)) >> 11) * 0x1p-53;
}

// One partition of the L2: units of one size, the newest first.
class Stack {
 public:
  explicit Stack(size_t depth) : ids_(depth, kNothing) {}

  // How many units were touched since `id` was; its depth when it was not found.
  size_t Find(uint32_t id) const {
    size_t at = 0;
    while (at < ids_.size() && ids_[at] != id) ++at;
    return at;
  }
  // The same, and it is the newest then.
  size_t Touch(uint32_t id) {
    const size_t at = Find(id);
    Push(id, std::min(at, ids_.size() - 1));
    return at;
  }
  void Pass() { Push(kNothing, ids_.size() - 1); }

 private:
  static constexpr uint32_t kNothing = ~uint32_t{0};

  // In place of the unit at `old`.
  void Push(uint32_t id, size_t old) {
    std::copy_backward(ids_.begin(), ids_.begin() + static_cast<std::ptrdiff_t>(old),
                       ids_.begin() + static_cast<std::ptrdiff_t>(old + 1));
    ids_[0] = id;
  }

  std::vector<uint32_t> ids_;
};

// What the replay takes from a launch beside its schedule. Bytes.
struct Shared {
  double kv_bytes = 0;      // of K and V, a key of one head
  double stream_bytes = 0;  // that all blocks read or write beside them: they pass through L2 once
  double capacity = 0;      // of the L2, without what is always in use
  double younger = 1;       // Build::younger
  double regions = 1;       // how many different keys are read at once while blocks that share them keep in step
  int64_t blocks_per_sm = 1;
};

// The keys of a block, in slices, in the order of its visit.
struct Walk {
  double at = 0, end = 0, direction = 1;
  double left() const { return (end - at) * direction; }
};

class Replay {
 public:
  Replay(const LaunchSpec& spec, const Dispatch& dispatch, const Attention& a, const Tiling& t, const data::Gpu& gpu,
         const CacheParameters& cache, const Shared& launch)
      : dispatch_(dispatch),
        launch_(launch),
        partitions_(cache.partitions),
        sms_(gpu.sms),
        group_(t.pack_gqa ? 1 : a.group()),
        units_(UnitsOf(a, launch, cache)),
        unit_(launch.capacity / static_cast<double>(partitions_ * units_)),
        keys_per_slice_(unit_ * partitions_ / launch.kv_bytes),
        slices_(static_cast<int64_t>(static_cast<double>(a.seqlen_k) / keys_per_slice_) + 1),
        brought_(static_cast<size_t>(a.batch * a.heads_kv * slices_)),
        read_at_(2 * brought_.size(), -1),
        stacks_(static_cast<size_t>(partitions_), Stack(static_cast<size_t>(2 * units_))) {
    for (const BlockIndex& block : dispatch.blocks) walks_.push_back(WalkOf(spec.keys(block), t.Bc));
    // A set has room for set_granules of the granules that hashes send there.
    for (size_t n = 0; n < missed_.size(); ++n) {
      for (int64_t depth = 0; depth <= 2 * units_; ++depth) {
        const double load = static_cast<double>(depth) / static_cast<double>(units_) * kScales[n];
        const double sigmas = (load - 1) * std::sqrt(static_cast<double>(cache.set_granules) / std::max(load, kTiny));
        missed_[n].push_back(0.5 * std::erfc(-sigmas / std::sqrt(2.0)));
      }
    }
  }

  ByScale Run(const LaunchSpec& spec) {
    double of_head = 0;
    for (const Walk& walk : walks_) of_head += walk.left();
    const double most = std::min(std::max(kLeastReads, kHeads * of_head), kMostReads);
    const double all = of_head * static_cast<double>(spec.heads);
    blocks_ = static_cast<int64_t>(walks_.size()) * spec.heads;
    // As many blocks as that takes, and those that are at work when it is done.
    const double share = std::min(1.0, 2 * most / std::max(all, 1.0));
    order_ = InOrder(dispatch_, spec,
                     static_cast<size_t>(share * static_cast<double>(blocks_)) +
                         2 * static_cast<size_t>(sms_ * launch_.blocks_per_sm));
    slots_.resize(static_cast<size_t>(sms_ * launch_.blocks_per_sm));
    residents_.assign(static_cast<size_t>(sms_), 0);
    for (int64_t n = 0; n < static_cast<int64_t>(slots_.size()); ++n) Start(n % sms_, n);
    double half_asked = 0;
    ByScale half{};
    for (bool busy = true; busy && asked_ < most; ++step_) {
      busy = false;
      for (int64_t sm = 0; sm < sms_; ++sm) busy |= Advance(sm);
      if (half_asked == 0 && asked_ >= most / 2) half_asked = asked_, half = again_;
    }
    ByScale shares{};
    for (size_t n = 0; n < shares.size() && asked_ > 0; ++n) {
      const double rate = asked_ > half_asked ? (again_[n] - half[n]) / (asked_ - half_asked) : 0;
      shares[n] = (again_[n] + rate * std::max(0.0, all - asked_)) / all;
    }
    return shares;
  }

 private:
  struct Slot {
    int64_t head = 0;  // of K and V
    Walk walk;
    int64_t slice = -1;  // where it is; -1 before the first
    double speed = 1;
    int64_t next_own = 0;
  };

  // Slices of an eighth of a head at most, and so small that one from each of the regions in flight takes an eighth.
  static int64_t UnitsOf(const Attention& a, const Shared& launch, const CacheParameters& cache) {
    const double head = static_cast<double>(a.seqlen_k) * launch.kv_bytes * cache.partitions;
    return std::llround(std::clamp(8 * std::max(launch.capacity / head, launch.regions), 50.0, 400.0));
  }

  Walk WalkOf(const KeyRuns& runs, int64_t Bc) const {
    const Range keys = runs.keys();
    const double first = static_cast<double>(keys.begin) / keys_per_slice_;
    const double last = static_cast<double>(keys.begin + keys.count) / keys_per_slice_;
    const bool down = runs.tiles() > 0 && 2 * runs.begin()->first.j * Bc > 2 * keys.begin + keys.count;
    return down ? Walk{last, first, -1} : Walk{first, last, 1};
  }

  Slot* On(int64_t sm) { return &slots_[static_cast<size_t>(sm * launch_.blocks_per_sm)]; }

  int SideOf(int64_t sm) const { return partitions_ == 1 ? 0 : kSidesOfGpcs[GpcOf(sm, sms_)]; }

  // Gives the SM its next block, as its youngest; false when there is none.
  bool Start(int64_t sm, int64_t own) {
    int64_t next = own;
    if (!dispatch_.fixed_shares) next = next_++;
    if (next >= static_cast<int64_t>(order_.size())) return false;
    const DispatchedBlock& work = order_[static_cast<size_t>(next)];
    Slot& slot = On(sm)[residents_[static_cast<size_t>(sm)]++];
    slot = {work.head / group_, walks_[static_cast<size_t>(work.block)], -1,
            1 / (1 + kSpeedSpread * (Uniform(static_cast<uint64_t>(started_++)) - 0.5)),
            own + static_cast<int64_t>(slots_.size())};
    // Q and O pass.
    const double bytes = launch_.stream_bytes / static_cast<double>(blocks_);
    for (int side = 0; side < partitions_; ++side) {
      double& passed = passed_[static_cast<size_t>(side)];
      passed += bytes / (side == SideOf(sm) ? 1 : 2);
      for (; passed > unit_; passed -= unit_) stacks_[static_cast<size_t>(side)].Pass();
    }
    return true;
  }

  // All blocks of an SM, together by a slice for every block that it has room for.
  bool Advance(int64_t sm) {
    int64_t& residents = residents_[static_cast<size_t>(sm)];
    double all = 0, weight = 1;
    for (int64_t n = 0; n < residents; ++n, weight *= launch_.younger) all += weight;
    double mine = static_cast<double>(launch_.blocks_per_sm) / all;
    for (int64_t left = residents, n = 0; left > 0; --left, mine *= launch_.younger) {
      double by = mine * On(sm)[n].speed;
      int64_t at = n++;
      while (!Move(On(sm)[at], by, SideOf(sm))) {
        // The block has ended: those behind it move up, and the next one comes last.
        const int64_t own = On(sm)[at].next_own;
        std::move(On(sm) + at + 1, On(sm) + residents, On(sm) + at);
        --residents;
        if (at < n) --n;
        if (!Start(sm, own)) break;
        at = residents - 1;
      }
    }
    return residents > 0;
  }

  // False when the block ends before it has gone so far; `by` is what is left of it then.
  bool Move(Slot& slot, double& by, int side) {
    Walk& w = slot.walk;
    while (by > 0) {
      const double left = w.left();
      if (left <= kTiny) return false;
      const auto slice = static_cast<int64_t>(w.direction > 0 ? std::floor(w.at + kTiny) : std::ceil(w.at - kTiny) - 1);
      const double to = static_cast<double>(w.direction > 0 ? slice + 1 : slice);
      const double here = std::min(left, std::abs(to - w.at));
      if (slice != slot.slice) {
        slot.slice = slice;
        Read(slot.head * slices_ + slice, here, side);
      }
      const double go = std::min(by, here);
      w.at += go * w.direction;
      by -= go;
    }
    return true;
  }

  void Read(int64_t slice, double part, int side) {
    asked_ += part;
    float& brought = brought_[static_cast<size_t>(slice)];
    const double before = std::min<double>(part, brought);
    brought = std::max(brought, static_cast<float>(part));
    int64_t& read_at = read_at_[static_cast<size_t>(2 * slice + side)];
    if (read_at == step_) return;  // another block of this side reads it now
    read_at = step_;
    const auto id = static_cast<uint32_t>(slice);
    Stack& here = stacks_[static_cast<size_t>(side)];
    const size_t home = here.Touch(2 * id);
    if (partitions_ == 1) return Count(before, home, 0, false);
    // Half of the lines are at home here, of the others there may be a copy.
    Count(before / 2, home, 0, false);
    const size_t copy = here.Touch(2 * id + 1);
    Stack& there = stacks_[static_cast<size_t>(1 - side)];
    if (missed_[2][copy] < kTiny) return;
    Count(before / 2, copy, missed_[0][copy] > 0.5 ? there.Touch(2 * id) : there.Find(2 * id), true);
  }

  void Count(double part, size_t depth, size_t home, bool of_copy) {
    for (size_t n = 0; n < again_.size(); ++n) {
      again_[n] += part * missed_[n][depth] * (of_copy ? missed_[n][home] : 1);
    }
  }

  const Dispatch& dispatch_;
  const Shared& launch_;
  const int partitions_;
  const int64_t sms_, group_;
  const int64_t units_;  // of a partition
  const double unit_, keys_per_slice_;
  const int64_t slices_;          // of a head
  std::vector<float> brought_;    // of every slice, how much of it was ever read
  std::vector<int64_t> read_at_;  // by slice and side: the last step
  std::vector<Stack> stacks_;
  std::vector<Walk> walks_;
  std::vector<DispatchedBlock> order_;
  std::vector<Slot> slots_;  // by SM, the oldest block first
  std::vector<int64_t> residents_;
  std::array<std::vector<double>, kScales.size()> missed_;  // by depth
  ByScale again_{};
  std::array<double, 2> passed_{};
  double asked_ = 0;
  int64_t next_ = 0, started_ = 0, step_ = 0, blocks_ = 0;
};

// Takes the launches as they come.
class Launches final : public Stream {
 public:
  Launches(const Kernel& kernel, const Attention& a, const Tiling& t, const data::Gpu& gpu, const Count& count,
           const std::vector<double>& always_in_use)
      : kernel_(kernel), a_(a), t_(t), gpu_(gpu), count_(count), always_in_use_(always_in_use) {}

  void Launch(const LaunchSpec& spec, const Body&) override { again_.push_back(Of(spec)); }

  Rereads& again() { return again_; }

 private:
  std::optional<ByScale> Of(const LaunchSpec& spec) const {
    const LaunchCount& launch = count_.launches[again_.size()];
    const Traffic all = Sum(launch.ledger.l2_to_sm), k = At(launch.ledger.l2_to_sm, TensorId::kK);
    const Traffic v = At(launch.ledger.l2_to_sm, TensorId::kV);
    const int64_t once = At(launch.ledger.hbm_compulsory, TensorId::kK).read;
    const bool looks_at_v = a_.v_is_in_k || v.read > 0;
    if (!spec.keys || !looks_at_v || once == 0 || k.read <= once) return std::nullopt;
    const CacheParameters cache = ParametersOf(gpu_);
    Shared shared;
    const int64_t columns = a_.head_dim + (a_.v_is_in_k ? 0 : a_.head_dim_v);
    shared.kv_bytes = static_cast<double>(columns * data::StorageBytes(a_.format));
    shared.stream_bytes = static_cast<double>(all.read + all.write - k.read - v.read);
    shared.capacity = std::max(0.1 * static_cast<double>(cache.bytes),
                               static_cast<double>(cache.bytes) - always_in_use_[again_.size()]);
    shared.younger = BuildOf(kernel_, spec.name, a_, t_, gpu_).younger;
    shared.blocks_per_sm = std::max<int64_t>(1, launch.occupancy.blocks_per_sm);
    const auto slots = static_cast<double>(gpu_.sms * shared.blocks_per_sm);
    shared.regions =
        std::min(slots, std::max(1.0, launch.waves * slots)) * static_cast<double>(once) / static_cast<double>(k.read);
    // Those keys, and as many heads that begin and end, are far from filling it.
    const double head = static_cast<double>(a_.seqlen_k) * shared.kv_bytes * cache.partitions;
    if ((shared.regions + 2) * head < kFarFromFull * shared.capacity) return ByScale{};
    const Dispatch dispatch = DispatchOf(kernel_, spec, a_, t_);
    return dispatch.block_per_tile ? std::nullopt
                                   : std::optional(Replay(spec, dispatch, a_, t_, gpu_, cache, shared).Run(spec));
  }

  const Kernel& kernel_;
  const Attention& a_;
  const Tiling& t_;
  const data::Gpu& gpu_;
  const Count& count_;
  const std::vector<double>& always_in_use_;
  Rereads again_;
};

}  // namespace

Rereads ReadAgain(const Kernel& kernel, const Attention& a, const Tiling& t, const data::Gpu& gpu, const Count& count,
                  const std::vector<double>& always_in_use) {
  Launches launches(kernel, a, t, gpu, count, always_in_use);
  kernel.Run(launches, a, t, kernel.recipe);
  return std::move(launches.again());
}

}  // namespace bitflash::sim::l2
