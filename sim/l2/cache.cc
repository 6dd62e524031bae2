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
  const auto kind = static_cast<size_t>(hint);
  e.hint = hint;
  e.newer = kNone;
  e.older = set.newest[kind];
  (set.newest[kind] == kNone ? set.oldest[kind] : entries_[set.newest[kind]].newer) = at;
  set.newest[kind] = at;
  if (hint != Hint::kEvictLast) return;
  set.last += e.bytes;
  while (set.last > last_limit_) {
    const uint32_t oldest = set.oldest[kind];
    Unlink(oldest);
    LinkNewest(oldest, Hint::kNormal);
  }
}

bool Cache::Find(uint32_t at, Hint hint) {
  if (!entries_[at].present) return false;
  if (hint == Hint::kEvictFirst) return true;
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

// Evicts until the set fits, but not `keep`; what was dirty before everything goes first.
void Cache::Shrink(Set& set, uint32_t keep) {
  if (set.bytes > set_bytes_ && set.foreign > 0) {
    const int64_t out = std::min(set.foreign, set.bytes - set_bytes_);
    set.foreign -= out, set.bytes -= out, foreign_ -= out;
    counts_.dram_write += out;
  }
  for (size_t kind = 0; kind < kHints;) {
    if (set.bytes <= set_bytes_) return;
    uint32_t victim = set.oldest[kind];
    if (victim == keep && victim != kNone) victim = entries_[victim].newer;
    if (victim == kNone) {
      ++kind;
    } else {
      Evict(set, victim);
    }
  }
}

void Cache::Insert(uint32_t at, int64_t granule, int partition, int64_t bytes, Hint hint) {
  Entry& e = entries_[at];
  const uint64_t hash = Mixed((static_cast<uint64_t>(granule) << 1 | static_cast<uint64_t>(partition)) + seed_);
  e.set = static_cast<uint16_t>(partition * sets_per_partition_ +
                                static_cast<int64_t>(hash % static_cast<uint64_t>(sets_per_partition_)));
  e.bytes = static_cast<uint32_t>(bytes);
  e.present = true;
  e.dirty = e.leaves = false;
  LinkNewest(at, hint);
  Set& set = sets_[e.set];
  set.bytes += bytes;
  Shrink(set, at);
}

void Cache::WriteBack(uint32_t at) {
  Entry& e = entries_[at];
  Set& set = sets_[e.set];
  if (e.leaves) {
    Evict(set, at);
    const uint32_t other = at ^ 1;  // the writer's own copy
    if (entries_[other].present) Evict(sets_[entries_[other].set], other);
    return;
  }
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
  if (set.dirty + set.foreign > dirty_limit_ && set.foreign > 0) {  // these are oldest
    const int64_t out = std::min(set.foreign, set.dirty + set.foreign - dirty_limit_);
    set.foreign -= out, set.bytes -= out, foreign_ -= out;
    counts_.dram_write += out;
  }
  for (size_t kind = 0; kind < kHints; ++kind) {
    for (uint32_t n = set.oldest[kind]; set.dirty > dirty_limit_ && n != kNone;) {
      const uint32_t newer = entries_[n].newer;
      if (entries_[n].dirty) WriteBack(n);
      n = newer;
    }
  }
}

Served Cache::Touch(int64_t granule, int64_t bytes, int side, Access access, Hint hint) {
  const int home = HomeOf(granule);
  const bool far = parameters_.partitions == 2 && side != home;
  const uint32_t at_home = At(granule, home);
  if (access == Access::kWrite) {
    const bool leaves = hint == Hint::kEvictFirst;
    if (leaves) hint = Hint::kNormal;
    if (!Find(at_home, hint)) Insert(at_home, granule, home, bytes, hint);
    entries_[at_home].leaves = leaves;
    MakeDirty(at_home);
    const uint32_t other = At(granule, 1 - home);
    if (far) {
      counts_.fabric += bytes;
      if (!Find(other, hint)) Insert(other, granule, side, bytes, hint);  // the writer's own copy
    } else if (entries_[other].present) {                                 // a copy of what was there before
      Unlink(other);
      sets_[entries_[other].set].bytes -= entries_[other].bytes;
      entries_[other].present = false;
    }
    return Served::kHit;
  }
  const uint32_t copy = At(granule, side);
  if (far) {
    if (Find(copy, hint)) return Served::kHit;
    counts_.fabric += bytes;
    counts_.misses += bytes;
  }
  const bool at_its_home = Find(at_home, hint);
  if (!at_its_home) {
    counts_.misses += bytes;
    counts_.dram_read += bytes;
    Insert(at_home, granule, home, bytes, hint);
  }
  if (far) Insert(copy, granule, side, bytes, hint);
  return at_its_home ? (far ? Served::kFabric : Served::kHit) : Served::kDram;
}

int64_t Cache::resident_bytes() const {
  int64_t bytes = 0;
  for (const Set& set : sets_) bytes += set.bytes;
  return bytes;
}

}  // namespace bitflash::sim::l2
