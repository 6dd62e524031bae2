// The L2 of a GPU as a cache of granules: one or two partitions, least recently used within sets, write-back. Every
// rule is what gpu/probes/l2_patterns.cu shows of a GH100 (README.md, "The cache").
#ifndef BITFLASH_SIM_L2_CACHE_H_
#define BITFLASH_SIM_L2_CACHE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace bitflash::sim::l2 {

// What the model knows about one GPU's L2. Bytes.
struct CacheParameters {
  int64_t bytes = 0;
  int partitions = 1;          // 1 or 2; with two, an SM keeps a copy of far lines in its own partition
  int64_t set_granules = 64;   // of kGranuleBytes that compete for a place: fewer blur the edge of the capacity
  int64_t dirty_bytes = 0;     // the most that stay dirty: beyond it the oldest dirty granule of a set is written back
  int64_t dirty_at_start = 0;  // dirty bytes of whatever ran before, oldest of all
  int64_t last_bytes = 0;      // the most that Hint::kEvictLast protects: beyond it the oldest become normal
};

inline constexpr int64_t kGranuleBytes = 4096;

// Bytes that moved, all counted from the construction or the last ResetCounts.
struct CacheCounts {
  int64_t dram_read = 0;
  int64_t dram_write = 0;
  int64_t fabric = 0;  // between the partitions, both directions
  int64_t misses = 0;  // of reads, a level that misses counts (the reader's partition, then the home of the line)
};

enum class Access : uint8_t { kRead, kWrite };

// Eviction priorities (PTX ISA, "Cache Eviction Priority Hints", and the cache operator .cs). The last access decides.
// - kEvictFirst: victims before all others, but while they are dirty only by their age, as if they were normal.
// - kEvictLast: victims after all others; a home is, a copy on the reader's side is normal.
enum class Hint : uint8_t { kEvictFirst, kNormal, kEvictLast };
inline constexpr size_t kHints = 3;

// Where a read was served; a write is kHit.
enum class Served : uint8_t { kHit, kFabric, kDram };

class Cache {
 public:
  // `granules` is the number of different granules; every one has a home partition, by a hash of its number and `seed`.
  Cache(const CacheParameters& parameters, int64_t granules, uint64_t seed);

  // An SM of partition `side` moves all `bytes` of a granule, always the same number for the same granule.
  Served Touch(int64_t granule, int64_t bytes, int side, Access access, Hint hint = Hint::kNormal);

  // What a use of every set would write back.
  void Settle();

  const CacheCounts& counts() const { return counts_; }
  void ResetCounts() { counts_ = {}; }
  int64_t dirty_bytes() const { return dirty_; }            // that this cache's owners wrote; without dirty_at_start
  int64_t foreign_dirty_bytes() const { return foreign_; }  // what is left of dirty_at_start
  int64_t resident_bytes() const;

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  // A copy of a granule in one partition: entry 2 * granule + partition.
  struct Entry {
    uint32_t newer = kNone, older = kNone;
    uint32_t bytes = 0;
    uint32_t used = 0;  // when last: counts accesses
    uint16_t set = 0;
    bool present = false, dirty = false;
    Hint hint = Hint::kNormal;
  };
  struct Set {
    std::array<uint32_t, kHints> newest = {kNone, kNone, kNone}, oldest = {kNone, kNone, kNone};  // by hint
    int64_t bytes = 0, dirty = 0, foreign = 0;
    int64_t last = 0;  // with kEvictLast
    int passed = 0;    // reads with kEvictFirst that left an older dirty granule of their kind
  };

  uint32_t At(int64_t granule, int partition) const { return static_cast<uint32_t>(2 * granule + partition); }
  int HomeOf(int64_t granule) const;
  bool Find(uint32_t entry, Hint hint);  // and makes it the newest of its kind
  // `passing`: read to go first.
  void Insert(uint32_t entry, int64_t granule, int partition, int64_t bytes, Hint hint, bool passing);
  void MakeDirty(uint32_t entry);
  void WriteBack(uint32_t entry);         // it stays, clean
  void CleanTo(Set& set, int64_t limit);  // writes back the oldest until no more is dirty
  void Unlink(uint32_t entry);
  void LinkNewest(uint32_t entry, Hint hint);
  void Link(uint32_t entry, Hint hint, uint32_t newer);
  void Evict(Set& set, uint32_t entry);
  uint32_t VictimOf(Set& set, uint32_t keep, bool passing);
  void Shrink(Set& set, uint32_t keep, bool passing);

  const CacheParameters parameters_;
  const uint64_t seed_;
  int64_t sets_per_partition_ = 1;
  int64_t set_bytes_ = 0;
  int64_t dirty_limit_ = 0, read_dirty_limit_ = 0;  // of a set, when it is written and when it is read
  int64_t last_limit_ = 0;                          // likewise
  uint32_t now_ = 0;                                // accesses
  std::vector<Entry> entries_;
  std::vector<Set> sets_;
  CacheCounts counts_;
  int64_t dirty_ = 0, foreign_ = 0;
};

}  // namespace bitflash::sim::l2

#endif  // BITFLASH_SIM_L2_CACHE_H_
