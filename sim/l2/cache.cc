#include "sim/l2/cache.h"

#include <algorithm>
#include <cassert>

namespace bitflash::sim::l2 {
namespace {

// 64 bits that look random (SplitMix64, Steele, Lea and Flood 2014).
uint64_t Mixed(uint64_t x) {
  x += 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

// A write that makes a line too many dirty is followed by a write-back only when its set is used again: a stream of
// writes ends with 25.1 MB dirty, and with 22.6 MB when anything is read after it, be it 2 MiB or the same lines.
constexpr double kReadDirtyShare = 0.9;

// A read to go first takes the place of an older one of its kind that is dirty once in so many times (fitted: P, which
// is written to go first, is lost while 0.5 GB of it are read so, and found while 67 MB are).
constexpr int kPassings = 24;

}  // namespace

Cache::Cache(const CacheParameters& p, int64_t granules, uint64_t seed)
    : parameters_(p), seed_(Mixed(seed)), entries_(static_cast<size_t>(2 * granules)) {
  assert(p.partitions == 1 || p.partitions == 2);
  const int64_t partition_bytes = p.bytes / p.partitions;
  sets_per_partition_ =
      std::clamp<int64_t>(partition_bytes / (p.set_granules * kGranuleBytes), 1, UINT16_MAX / p.partitions);
  set_bytes_ = partition_bytes / sets_per_partition_;
  last_limit_ = p.last_bytes / (p.partitions * sets_per_partition_);
  dirty_limit_ = p.dirty_bytes / (p.partitions * sets_per_partition_);
  read_dirty_limit_ = static_cast<int64_t>(kReadDirtyShare * static_cast<double>(dirty_limit_));
  sets_.resize(static_cast<size_t>(p.partitions * sets_per_partition_));
  foreign_ = std::min(p.dirty_at_start, p.bytes);
  for (size_t n = 0; n < sets_.size(); ++n) {  // the remainder goes to the first sets
    const int64_t count = static_cast<int64_t>(sets_.size());
    sets_[n].foreign = foreign_ / count + (static_cast<int64_t>(n) < foreign_ % count);
    sets_[n].bytes = sets_[n].foreign;
  }
}

int Cache::HomeOf(int64_t granule) const {
  return parameters_.partitions == 1 ? 0 : static_cast<int>(Mixed(static_cast<uint64_t>(granule) ^ seed_) >> 63);
}

void Cache::Unlink(uint32_t at) {
  Entry& e = entries_[at];
  Set& set = sets_[e.set];
  const auto kind = static_cast<size_t>(e.hint);
  (e.newer == kNone ? set.newest[kind] : entries_[e.newer].older) = e.older;
  (e.older == kNone ? set.oldest[kind] : entries_[e.older].newer) = e.newer;
  if (e.hint == Hint::kEvictLast) set.last -= e.bytes;
}

void Cache::LinkNewest(uint32_t at, Hint hint) {
  Entry& e = entries_[at];
  Set& set = sets_[e.set];
  e.used = now_;
  Link(at, hint, kNone);
  while (set.last > last_limit_) {
    const uint32_t oldest = set.oldest[static_cast<size_t>(Hint::kEvictLast)];
    Unlink(oldest);
    // As if it had been normal from its last use.
    uint32_t newer = kNone, older = set.newest[static_cast<size_t>(Hint::kNormal)];
    while (older != kNone && entries_[older].used > entries_[oldest].used) newer = older, older = entries_[older].older;
    Link(oldest, Hint::kNormal, newer);
  }
}

// Before `newer` in the list of `hint`, as the newest where that is kNone.
void Cache::Link(uint32_t at, Hint hint, uint32_t newer) {
  Entry& e = entries_[at];
  Set& set = sets_[e.set];
  const auto kind = static_cast<size_t>(hint);
  e.hint = hint;
  e.newer = newer;
  e.older = newer == kNone ? set.newest[kind] : entries_[newer].older;
  (newer == kNone ? set.newest[kind] : entries_[newer].older) = at;
  (e.older == kNone ? set.oldest[kind] : entries_[e.older].newer) = at;
  if (hint == Hint::kEvictLast) set.last += e.bytes;
}

bool Cache::Find(uint32_t at, Hint hint) {
  Entry& e = entries_[at];
  if (!e.present) return false;
  if (e.hint == hint && e.newer == kNone) {  // it is the newest already
    e.used = now_;
    return true;
  }
  Unlink(at);
  LinkNewest(at, hint);
  return true;
}

void Cache::Evict(Set& set, uint32_t at) {
  Entry& e = entries_[at];
  Unlink(at);
  set.bytes -= e.bytes;
  e.present = false;
  if (!e.dirty) return;
  e.dirty = false;
  set.dirty -= e.bytes, dirty_ -= e.bytes;
  counts_.dram_write += e.bytes;
}

// What goes next, but not `keep`; kNone when there is nothing else.
uint32_t Cache::VictimOf(Set& set, uint32_t keep, bool passing) {
  const auto oldest = [&](Hint hint, bool clean) {
    uint32_t at = set.oldest[static_cast<size_t>(hint)];
    while (at != kNone && (at == keep || (clean && entries_[at].dirty))) at = entries_[at].newer;
    return at;
  };
  const uint32_t first = oldest(Hint::kEvictFirst, false);
  if (first != kNone) {
    if (passing && entries_[first].dirty && ++set.passed == kPassings) {
      set.passed = 0;
      return first;
    }
    const uint32_t clean = oldest(Hint::kEvictFirst, true);
    if (clean != kNone) return clean;
  }
  const uint32_t normal = oldest(Hint::kNormal, false);
  if (first != kNone && (normal == kNone || entries_[first].used < entries_[normal].used)) return first;
  return normal != kNone ? normal : oldest(Hint::kEvictLast, false);
}

// Evicts until the set fits, but not `keep`; what was dirty before everything goes first.
void Cache::Shrink(Set& set, uint32_t keep, bool passing) {
  if (set.bytes > set_bytes_ && set.foreign > 0) {
    const int64_t out = std::min(set.foreign, set.bytes - set_bytes_);
    set.foreign -= out, set.bytes -= out, foreign_ -= out;
    counts_.dram_write += out;
  }
  while (set.bytes > set_bytes_) {
    const uint32_t victim = VictimOf(set, keep, passing);
    if (victim == kNone) return;
    Evict(set, victim);
  }
}

void Cache::Insert(uint32_t at, int64_t granule, int partition, int64_t bytes, Hint hint, bool passing) {
  Entry& e = entries_[at];
  const uint64_t hash = Mixed((static_cast<uint64_t>(granule) << 1 | static_cast<uint64_t>(partition)) + seed_);
  e.set = static_cast<uint16_t>(partition * sets_per_partition_ +
                                static_cast<int64_t>(hash % static_cast<uint64_t>(sets_per_partition_)));
  e.bytes = static_cast<uint32_t>(bytes);
  e.present = true;
  e.dirty = false;
  LinkNewest(at, hint);
  Set& set = sets_[e.set];
  set.bytes += bytes;
  Shrink(set, at, passing);
}

void Cache::WriteBack(uint32_t at) {
  Entry& e = entries_[at];
  Set& set = sets_[e.set];
  e.dirty = false;
  set.dirty -= e.bytes, dirty_ -= e.bytes;
  counts_.dram_write += e.bytes;
}

void Cache::MakeDirty(uint32_t at) {
  Entry& e = entries_[at];
  Set& set = sets_[e.set];
  if (!e.dirty) {
    e.dirty = true;
    set.dirty += e.bytes, dirty_ += e.bytes;
  }
  CleanTo(set, dirty_limit_);
}

void Cache::CleanTo(Set& set, int64_t limit) {
  if (set.dirty + set.foreign <= limit) return;
  if (set.foreign > 0) {  // these are oldest
    const int64_t out = std::min(set.foreign, set.dirty + set.foreign - limit);
    set.foreign -= out, set.bytes -= out, foreign_ -= out;
    counts_.dram_write += out;
  }
  std::array<uint32_t, kHints> at = set.oldest;
  while (set.dirty > limit) {
    uint32_t oldest = kNone;
    for (uint32_t& n : at) {
      while (n != kNone && !entries_[n].dirty) n = entries_[n].newer;
      if (n != kNone && (oldest == kNone || entries_[n].used < entries_[oldest].used)) oldest = n;
    }
    assert(oldest != kNone);
    WriteBack(oldest);
  }
}

void Cache::Settle() {
  for (Set& set : sets_) CleanTo(set, read_dirty_limit_);
}

Served Cache::Touch(int64_t granule, int64_t bytes, int side, Access access, Hint hint) {
  ++now_;
  const int home = HomeOf(granule);
  const bool far = parameters_.partitions == 2 && side != home;
  const uint32_t at_home = At(granule, home);
  const Hint copy_hint = std::min(hint, Hint::kNormal);
  if (access == Access::kWrite) {
    if (!Find(at_home, hint)) Insert(at_home, granule, home, bytes, hint, false);
    MakeDirty(at_home);
    const uint32_t other = At(granule, 1 - home);
    if (far) {  // the writer's own copy
      counts_.fabric += bytes;
      if (!Find(other, copy_hint)) Insert(other, granule, side, bytes, copy_hint, false);
    } else if (entries_[other].present) {  // a copy of what was there before
      Unlink(other);
      sets_[entries_[other].set].bytes -= entries_[other].bytes;
      entries_[other].present = false;
    }
    return Served::kHit;
  }
  const bool passing = hint == Hint::kEvictFirst;
  const uint32_t nearest = far ? At(granule, side) : at_home;
  bool found = Find(nearest, far ? copy_hint : hint);
  Served served = Served::kHit;
  if (!found) {
    counts_.misses += bytes;
    if (far) {
      counts_.fabric += bytes;
      found = Find(at_home, hint);
      if (!found) counts_.misses += bytes;
    }
    if (!found) {
      counts_.dram_read += bytes;
      Insert(at_home, granule, home, bytes, hint, passing);
    }
    if (far) Insert(nearest, granule, side, bytes, copy_hint, passing);
    served = found ? Served::kFabric : Served::kDram;
    CleanTo(sets_[entries_[at_home].set], read_dirty_limit_);
  }
  CleanTo(sets_[entries_[nearest].set], read_dirty_limit_);
  return served;
}

int64_t Cache::resident_bytes() const {
  int64_t bytes = 0;
  for (const Set& set : sets_) bytes += set.bytes;
  return bytes;
}

}  // namespace bitflash::sim::l2
