#include "sim/l2/machine.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <queue>
#include <utility>

#include "sim/dispatch.h"
#include "sim/l2/builds.h"
#include "sim/l2/parameters.h"
#include "sim/l2/program.h"

namespace bitflash::sim::l2 {
namespace {

constexpr int64_t kGpcs = std::ssize(kSidesOfGpcs);  // of GA100, GH100 and GB100: 14 to 20 SMs each

constexpr uint64_t kSmSeed = 77;  // added to that of the blocks: other numbers

constexpr int64_t kMostLocals = 32;  // blocks of an SM: places in local memory

// Recorded programs are kept for the other heads up to this many moves, 32 bytes each.
constexpr int64_t kMostKept = int64_t{1} << 23;

// Rows of the softmax that move as one: a shorter simulation, the same bytes.
constexpr int64_t kRowsTogether = 16;

}  // namespace

// One launch.
class Machine::Run {
 public:
  Run(Machine& machine, const LaunchSpec& spec, const Body& body, int64_t blocks_per_sm)
      : m_(machine),
        spec_(spec),
        body_(body),
        clock_(ClockOf(machine.gpu_, spec.block.mma)),
        spread_(SpeedSpreadOf(spec.block.mma)),
        blocks_per_sm_(blocks_per_sm),
        dispatch_(DispatchOf(machine.kernel_, spec, machine.a_, machine.t_)),
        order_(InOrder(dispatch_, spec)),
        together_(spec.name == "standard_softmax" ? kRowsTogether : 1),
        build_(BuildOf(machine.kernel_, spec.name, machine.a_, machine.t_, machine.gpu_)),
        launch_(static_cast<int>(machine.launches_.size())) {
    for (size_t id = 0; id < hints_.size(); ++id) {
      for (const bool write : {false, true}) {
        hints_[id][write ? 1 : 0] = HintOf(m_.kernel_, spec_.name, static_cast<TensorId>(id), write, m_.a_, m_.t_);
      }
    }
  }

  int64_t moves() const { return moves_; }
  int64_t leaked() const { return std::llround(leaked_); }

  void Execute() {
    ChooseSides();
    if (together_ > 1) GroupRows();
    const int64_t sms = m_.gpu_.sms;
    const int64_t per_sm = std::max<int64_t>(1, blocks_per_sm_ / together_);
    slots_.resize(static_cast<size_t>(sms * per_sm));
    on_sm_.assign(static_cast<size_t>(sms), {});
    started_on_.assign(static_cast<size_t>(sms), 0);
    ready_.assign(static_cast<size_t>(m_.layout_.granules()), 0);
    programs_.resize(dispatch_.blocks.size());
    for (size_t n = 0; n < slots_.size(); ++n) {
      Slot& slot = slots_[n];
      slot.sm = SmOf(static_cast<int64_t>(n));
      slot.number = static_cast<int64_t>(n);
      slot.next_own = static_cast<int64_t>(n);
      slot.arrivals.assign(static_cast<size_t>(std::max<int64_t>(1, 2 * (m_.t_.stages - 1))), 0);
      if (Next(slot, 0)) queue_.push({slot.time, slot.number});
    }
    while (!queue_.empty()) {
      const auto [time, number] = queue_.top();
      queue_.pop();
      Slot& slot = slots_[static_cast<size_t>(number)];
      if (Step(slot)) queue_.push({slot.time, slot.number});
    }
  }

 private:
  struct Slot {
    double time = 0;
    double speed = 1;
    const Program* program = nullptr;
    size_t at = 0, end = 0;
    int64_t started = 0;  // how many blocks started before
    int64_t place = 0;    // in local memory
    int64_t sm = 0, number = 0;
    int64_t next_own = 0;  // of a persistent block with a fixed share
    DispatchedBlock work;
    std::shared_ptr<const Program> keep;
    std::vector<double> arrivals;  // of the last K and V tiles asked for, as many as may be on their way
  };

  // A grid that leaves slots empty leaves them all over the GPU: of 132 SMs, those that get one of 256 blocks in the
  // place of two are about every 16th (gpu/probes/sm_sides.cu; the parts of PyTorch's split keys end so, too).
  int64_t SmOf(int64_t slot) const {
    const int64_t sms = m_.gpu_.sms, in_round = slot % sms;
    const int64_t left = std::ssize(order_) - (slot - in_round);
    return slot >= sms && in_round < left && left < sms ? in_round * sms / left : in_round;
  }

  // Consecutive rows of one head become one block of `together` rows.
  void GroupRows() {
    std::vector<DispatchedBlock> grouped;
    for (const DispatchedBlock& work : order_) {
      if (!grouped.empty() && grouped.back().head == work.head && grouped.back().tile < together_ &&
          grouped.back().block + grouped.back().tile == work.block) {
        ++grouped.back().tile;
        continue;
      }
      grouped.push_back({work.head, work.block, 1});
    }
    order_ = std::move(grouped);
  }

  std::shared_ptr<const Program> ProgramOf(int32_t block) {
    std::shared_ptr<const Program>& kept = programs_[static_cast<size_t>(block)];
    if (kept) return kept;
    auto program =
        std::make_shared<const Program>(Record(spec_, body_, m_.t_, dispatch_.blocks[static_cast<size_t>(block)]));
    // A block with tiles of its own comes again for each of them.
    if ((spec_.heads > 1 && kept_moves_ < kMostKept) || dispatch_.block_per_tile) {
      kept_moves_ += static_cast<int64_t>(program->moves.size());
      kept = program;
    }
    return program;
  }

  // The moves of one key tile of a launch with a block for each: up to the tile of S that it writes.
  static std::pair<size_t, size_t> TileMoves(const Program& program, int32_t tile) {
    const std::vector<size_t>& after = program.after_writes;
    const size_t n = static_cast<size_t>(tile);
    if (n >= after.size()) return {program.moves.size(), program.moves.size()};
    return {n == 0 ? 0 : after[n - 1], after[n]};
  }

  // Gives the slot its next block, at `time`; false when there is none.
  bool Next(Slot& slot, double time) {
    auto& resident = on_sm_[static_cast<size_t>(slot.sm)];
    std::erase(resident, slot.number);
    int64_t& next = dispatch_.fixed_shares ? slot.next_own : next_;
    if (next >= static_cast<int64_t>(order_.size())) {
      slot.keep.reset();
      return false;
    }
    slot.work = order_[static_cast<size_t>(next)];
    next += dispatch_.fixed_shares ? static_cast<int64_t>(slots_.size()) : 1;
    slot.keep = ProgramOf(slot.work.block);
    slot.program = slot.keep.get();
    slot.at = 0;
    slot.end = slot.program->moves.size();
    if (dispatch_.block_per_tile) std::tie(slot.at, slot.end) = TileMoves(*slot.program, slot.work.tile);
    slot.started = started_++;
    slot.speed = 1 + spread_.block * (Uniform(m_.options_.seed, static_cast<uint64_t>(slot.started)) - 0.5) +
                 spread_.sm * (Uniform(m_.options_.seed + kSmSeed, static_cast<uint64_t>(slot.sm)) - 0.5);
    if (IsRoomy(slot.sm)) slot.speed /= build_.roomy_cpc;
    slot.time = time + clock_.block_seconds * slot.speed;
    resident.push_back(slot.number);
    int64_t& on_this_sm = started_on_[static_cast<size_t>(slot.sm)];
    slot.place = build_.places == 0 ? slot.number : slot.sm * build_.places + on_this_sm % build_.places;
    ++on_this_sm;
    StoreSpilled(slot, kSpillGranules / 2, build_.spilled_per_block);
    return true;
  }

  // Seconds that this block needs for `flops` while it shares its SM with younger and older blocks.
  double Compute(const Slot& slot, int64_t flops) const {
    double mine = 1, all = 0, weight = 1;
    for (const int64_t other : on_sm_[static_cast<size_t>(slot.sm)]) {  // the oldest first
      if (other == slot.number) mine = weight;
      all += weight;
      weight *= build_.younger;
    }
    return static_cast<double>(flops) * clock_.seconds_per_flop * slot.speed * all / mine;
  }

  // All that the block asks for now; then to when it asks again.
  bool Step(Slot& slot) {
    const double now = slot.time;
    if (slot.at == slot.end) return Next(slot, now);
    const std::vector<Move>& moves = slot.program->moves;
    const int64_t flops = moves[slot.at].flops;
    double ready = now;
    for (; slot.at < slot.end && moves[slot.at].flops == flops; ++slot.at) {
      ready = std::max(ready, Do(slot, moves[slot.at], now));
      if (moves[slot.at].tensor != TensorId::kK) continue;
      StoreSpilled(slot, 0, build_.spilled_per_tile);
      leaked_ += build_.leaked * static_cast<double>(build_.spilled_per_tile * spec_.block.all_threads());
    }
    const int64_t until = slot.at < moves.size() ? moves[slot.at].flops : slot.program->flops;
    // The ring has room for what is asked for now while the tiles before it are at work.
    std::rotate(slot.arrivals.begin(), slot.arrivals.begin() + 1, slot.arrivals.end());  // clang 14 lacks ranges::
    slot.arrivals.back() = ready;
    slot.time = std::max(now + Compute(slot, until - flops), slot.arrivals.front());
    return true;
  }

  double Do(const Slot& slot, const Move& move, double now) {
    ++moves_;
    double ready = now;
    Event event;
    const int side = SideOf(slot.sm);
    const Hint hint = hints_[static_cast<size_t>(move.tensor)][move.write ? 1 : 0];
    const int64_t rows = together_ > 1 && move.rows == 1 ? slot.work.tile : move.rows;
    m_.layout_.ForGranules(
        move.tensor, slot.work.head, move.row, rows, move.col, move.cols, [&](int64_t granule, int64_t bytes) {
          const Served served =
              m_.cache_->Touch(granule, bytes, side, move.write ? Access::kWrite : Access::kRead, hint);
          l2_free_ = std::max(l2_free_, now) + static_cast<double>(bytes) * clock_.l2_seconds_per_byte;
          if (move.write) {
            event.hit_bytes += bytes;
            return;
          }
          float& filled = ready_[static_cast<size_t>(granule)];
          if (served == Served::kDram) {
            dram_free_ = std::max(dram_free_, now) + static_cast<double>(bytes) * clock_.dram_seconds_per_byte;
            filled = static_cast<float>(dram_free_ + clock_.dram_latency);
          }
          (served == Served::kDram     ? event.dram_bytes
           : served == Served::kFabric ? event.fabric_bytes
                                       : event.hit_bytes) += bytes;
          ready = std::max(ready, static_cast<double>(filled));
        });
    if (m_.options_.observer) {
      event.launch = launch_;
      event.sm = slot.sm, event.slot = slot.number;
      event.head = slot.work.head;
      event.block = dispatch_.blocks[static_cast<size_t>(slot.work.block)];
      event.seconds = now;
      event.tensor = move.tensor;
      event.write = move.write;
      m_.options_.observer(event);
    }
    return std::max(ready, l2_free_);
  }

  // Registers that do not fit go to local memory, of which every slot has its own place: the next block writes the same
  // lines again. What a block writes once goes to HBM when other bytes push it out before; what it writes for every key
  // tile stays.
  void StoreSpilled(const Slot& slot, int64_t first, int64_t per_thread) {
    const int64_t bytes = per_thread * spec_.block.all_threads();
    for (int64_t done = 0, n = first; done < bytes && n < kSpillGranules; done += kGranuleBytes, ++n) {
      const int64_t granule = m_.layout_.granules() + slot.place * kSpillGranules + n;
      m_.cache_->Touch(granule, std::min(kGranuleBytes, bytes - done), SideOf(slot.sm), Access::kWrite);
    }
  }

  // Two of every eleven SMs: 24 of 132.
  static bool IsRoomy(int64_t sm) { return sm % 11 < 2; }

  int SideOf(int64_t sm) const { return sides_[GpcOf(sm, m_.gpu_.sms)]; }

  // Blocks fill one GPC after the other, and all SMs of a GPC are on one side (gpu/probes/sm_sides.cu): what a few
  // neighbouring blocks share is seldom copied. Half of the GPCs belong to each partition; in which order, differs from
  // chip to chip.
  void ChooseSides() {
    sides_ = kSidesOfGpcs;
    if (m_.options_.seed == 1) return;
    std::vector<std::pair<double, size_t>> shuffled;
    for (size_t n = 0; n < kGpcs; ++n) shuffled.push_back({Uniform(~m_.options_.seed, n), n});
    std::ranges::sort(shuffled);
    for (size_t n = 0; n < kGpcs; ++n) sides_[shuffled[n].second] = static_cast<int>(n & 1);
  }

  Machine& m_;
  const LaunchSpec& spec_;
  const Body& body_;
  const Clock clock_;
  const SpeedSpread spread_;
  const int64_t blocks_per_sm_;
  const Dispatch dispatch_;
  std::vector<DispatchedBlock> order_;
  const int64_t together_;
  const Build build_;
  const int launch_;
  std::array<std::array<Hint, 2>, kTensorCount> hints_{};  // by tensor, of reads and of writes
  std::array<int, kGpcs> sides_{};
  std::vector<Slot> slots_;
  std::vector<std::vector<int64_t>> on_sm_;
  std::vector<int64_t> started_on_;  // blocks, by SM
  std::vector<float> ready_;         // when a granule's fill ends
  std::vector<std::shared_ptr<const Program>> programs_;
  int64_t kept_moves_ = 0, next_ = 0, started_ = 0, moves_ = 0;
  double dram_free_ = 0, l2_free_ = 0;
  double leaked_ = 0;  // bytes, Build::leaked
  std::priority_queue<std::pair<double, int64_t>, std::vector<std::pair<double, int64_t>>, std::greater<>> queue_;
};

Machine::Machine(const Kernel& kernel, const Attention& a, const Tiling& t, const data::Gpu& gpu, const Count& count,
                 MachineOptions options)
    : kernel_(kernel),
      a_(a),
      t_(t),
      gpu_(gpu),
      count_(count),
      options_(std::move(options)),
      parameters_(ParametersOf(gpu)),
      layout_(a_, t_, kernel) {
  Empty();
}

Machine::~Machine() = default;

void Machine::Empty() {
  CacheParameters parameters = parameters_;
  parameters.bytes = std::llround(options_.capacity * static_cast<double>(parameters.bytes));
  if (!flush_between_) parameters.dirty_at_start = 0;
  const int64_t spill = gpu_.sms * kMostLocals * kSpillGranules;
  cache_ = std::make_unique<Cache>(parameters, layout_.granules() + spill, options_.seed);
}

void Machine::Launch(const LaunchSpec& spec, const Body& body) {
  if (flush_between_) Empty();
  cache_->ResetCounts();
  cache_->Settle();  // whatever runs between two launches uses every set
  const int64_t before = cache_->counts().dram_write;
  cache_->ResetCounts();
  const int64_t foreign = cache_->foreign_dirty_bytes();
  Run run(*this, spec, body, count_.launches[launches_.size() % count_.launches.size()].occupancy.blocks_per_sm);
  run.Execute();
  const CacheCounts& c = cache_->counts();
  launches_.push_back({c.dram_read + OverheadOf(gpu_), c.dram_write + run.leaked(),
                       foreign - cache_->foreign_dirty_bytes(), before, c.fabric, c.misses, cache_->dirty_bytes(),
                       run.moves()});
}

}  // namespace bitflash::sim::l2
