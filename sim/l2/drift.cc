#include "sim/l2/drift.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "sim/dispatch.h"
#include "sim/l2/builds.h"
#include "sim/l2/parameters.h"
#include "sim/l2/skew.h"
#include "sim/stream.h"

namespace bitflash::sim::l2 {
namespace {

constexpr double kFarFromFull = 0.4;  // of the capacity

// Takes the launches as they come.
class Launches final : public Stream {
 public:
  Launches(const Kernel& kernel, const Attention& a, const Tiling& t, const data::Gpu& gpu, const Count& count,
           const std::vector<double>& always_in_use, ReplayWork* work)
      : kernel_(kernel), a_(a), t_(t), gpu_(gpu), count_(count), always_in_use_(always_in_use), work_(work) {}

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
    if (IsBlockPerTile(spec)) return std::nullopt;
    Skew skew(kernel_, spec, a_, t_, gpu_, cache, shared);
    const ByScale again = skew.Replay();
    if (work_) work_->reads += skew.reads(), work_->blocks += skew.blocks();
    return again;
  }

  const Kernel& kernel_;
  const Attention& a_;
  const Tiling& t_;
  const data::Gpu& gpu_;
  const Count& count_;
  const std::vector<double>& always_in_use_;
  ReplayWork* const work_;
  Rereads again_;
};

}  // namespace

Rereads ReadAgain(const Kernel& kernel, const Attention& a, const Tiling& t, const data::Gpu& gpu, const Count& count,
                  const std::vector<double>& always_in_use, ReplayWork* work) {
  Launches launches(kernel, a, t, gpu, count, always_in_use, work);
  kernel.Run(launches, a, t, kernel.recipe);
  return std::move(launches.again());
}

}  // namespace bitflash::sim::l2
