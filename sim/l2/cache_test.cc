// The cache alone, on sequences short enough to follow by hand.
#include "sim/l2/cache.h"

#include <doctest/doctest.h>

#include <algorithm>

namespace bitflash::sim::l2 {
namespace {

constexpr int64_t kSize = kGranuleBytes;

// One set per partition, so that replacement is exactly least recently used.
CacheParameters Small(int partitions, int64_t granules_each) {
  return {.bytes = partitions * granules_each * kSize,
          .partitions = partitions,
          .set_granules = granules_each,
          .dirty_bytes = partitions * granules_each * kSize,
          .dirty_at_start = 0};
}

TEST_CASE("one partition: a pass over what fits is read once, a pass over one granule more is read every time") {
  Cache cache(Small(1, 8), 64, 1);
  for (int pass = 0; pass < 5; ++pass) {
    for (int64_t g = 0; g < 8; ++g) cache.Touch(g, kSize, 0, Access::kRead);
  }
  CHECK(cache.counts().dram_read == 8 * kSize);
  CHECK(cache.counts().fabric == 0);
  Cache thrashed(Small(1, 8), 64, 1);
  for (int pass = 0; pass < 5; ++pass) {
    for (int64_t g = 0; g < 9; ++g) thrashed.Touch(g, kSize, 0, Access::kRead);
  }
  CHECK(thrashed.counts().dram_read == 5 * 9 * kSize);
}

TEST_CASE("two partitions: what both read lies there twice, crosses once, and comes from DRAM once") {
  Cache cache(Small(2, 64), 64, 1);
  for (int pass = 0; pass < 3; ++pass) {
    for (int64_t g = 0; g < 64; ++g) {
      for (const int side : {0, 1}) cache.Touch(g, kSize, side, Access::kRead);
    }
  }
  CHECK(cache.counts().dram_read == 64 * kSize);
  CHECK(cache.counts().fabric == 64 * kSize);
  CHECK(cache.counts().misses == 2 * 64 * kSize);
  CHECK(cache.resident_bytes() == 2 * 64 * kSize);
}

TEST_CASE("two partitions: half the capacity is what both can read again and again") {
  // Homes are as good as random, so a set's load varies: well below and well above half.
  for (const auto& [granules, again] : {std::pair<int64_t, bool>{48, false}, {80, true}}) {
    Cache cache(Small(2, 64), 128, 1);
    for (int pass = 0; pass < 4; ++pass) {
      for (int64_t g = 0; g < granules; ++g) {
        for (const int side : {0, 1}) cache.Touch(g, kSize, side, Access::kRead);
      }
    }
    CHECK((cache.counts().dram_read > granules * kSize) == again);
  }
}

TEST_CASE("a copy that is read again does not keep its home alive") {
  Cache cache(Small(2, 64), 4096, 1);
  // Granule 0 from both sides, then from the far side only, while others push the home out.
  int far = 0;
  for (const int side : {0, 1}) {
    const int64_t before = cache.counts().fabric;
    cache.Touch(0, kSize, side, Access::kRead);
    if (cache.counts().fabric != before) far = side;
  }
  for (int64_t g = 1; g < 1000; ++g) {
    cache.Touch(g, kSize, 1 - far, Access::kRead);
    cache.Touch(0, kSize, far, Access::kRead);
  }
  const int64_t before = cache.counts().dram_read;
  cache.Touch(0, kSize, far, Access::kRead);
  CHECK(cache.counts().dram_read == before);
  cache.Touch(0, kSize, 1 - far, Access::kRead);
  CHECK(cache.counts().dram_read == before + kSize);
}

TEST_CASE("written lines go to DRAM when they are pushed out or when too much is dirty, never both") {
  CacheParameters p = Small(1, 16);
  p.dirty_bytes = 8 * kSize;
  Cache cache(p, 256, 1);
  for (int64_t g = 0; g < 12; ++g) cache.Touch(g, kSize, 0, Access::kWrite);
  CHECK(cache.counts().dram_write == 4 * kSize);
  CHECK(cache.dirty_bytes() == 8 * kSize);
  CHECK(cache.counts().dram_read == 0);  // whole lines are not fetched
  for (int64_t g = 0; g < 12; ++g) cache.Touch(g, kSize, 0, Access::kRead);
  CHECK(cache.counts().dram_read == 0);  // written back, and still there
  // The last write-back waited for the next use of the set.
  CHECK(cache.counts().dram_write == 5 * kSize);
  for (int64_t g = 100; g < 116; ++g) cache.Touch(g, kSize, 0, Access::kRead);
  CHECK(cache.counts().dram_write == 12 * kSize);
  CHECK(cache.dirty_bytes() == 0);
}

TEST_CASE("what was dirty before is written first, and never counted as the owner's") {
  CacheParameters p = Small(1, 16);
  p.dirty_at_start = 3 * kSize;
  Cache cache(p, 256, 1);
  CHECK(cache.foreign_dirty_bytes() == 3 * kSize);
  for (int64_t g = 0; g < 15; ++g) cache.Touch(g, kSize, 0, Access::kRead);
  CHECK(cache.counts().dram_write == 2 * kSize);
  CHECK(cache.dirty_bytes() == 0);
  CHECK(cache.foreign_dirty_bytes() == kSize);
}

TEST_CASE("what may go first goes first, as a rule") {
  for (const Hint hint : {Hint::kEvictFirst, Hint::kNormal}) {
    Cache cache(Small(1, 64), 256, 1);
    for (int64_t g = 0; g < 63; ++g) cache.Touch(g, kSize, 0, Access::kRead);
    for (int64_t g = 100; g < 200; ++g) cache.Touch(g, kSize, 0, Access::kRead, hint);
    const int64_t before = cache.counts().dram_read;
    for (int64_t g = 62; g >= 0; --g) cache.Touch(g, kSize, 0, Access::kRead);
    const int64_t lost = (cache.counts().dram_read - before) / kSize;
    const bool kept = hint == Hint::kEvictFirst;
    CHECK((kept ? lost < 32 : lost == 63));
  }
}

TEST_CASE("what should stay stays, as far as it is protected, and the oldest of it is ordinary again") {
  for (const int64_t last : {0, 16, 64}) {
    CacheParameters p = Small(1, 64);
    p.last_bytes = last * kSize;
    Cache cache(p, 1024, 1);
    for (int64_t g = 0; g < 32; ++g) cache.Touch(g, kSize, 0, Access::kRead, Hint::kEvictLast);
    for (int64_t g = 100; g < 300; ++g) cache.Touch(g, kSize, 0, Access::kRead);
    const int64_t before = cache.counts().dram_read;
    for (int64_t g = 31; g >= 0; --g) cache.Touch(g, kSize, 0, Access::kRead, Hint::kEvictLast);
    CHECK((cache.counts().dram_read - before) / kSize == 32 - std::min<int64_t>(last, 32));
  }
}

TEST_CASE("what should stay does so at home: the copy of another reader is ordinary") {
  CacheParameters p = Small(2, 64);
  p.last_bytes = 64 * kSize;
  Cache cache(p, 1024, 1);
  for (int64_t g = 0; g < 16; ++g) cache.Touch(g, kSize, 0, Access::kRead, Hint::kEvictLast);
  const int64_t crossed = cache.counts().fabric;
  CHECK(crossed > 0);
  for (int64_t g = 100; g < 400; ++g) cache.Touch(g, kSize, 0, Access::kRead);
  const CacheCounts before = cache.counts();
  for (int64_t g = 0; g < 16; ++g) cache.Touch(g, kSize, 0, Access::kRead, Hint::kEvictLast);
  CHECK(cache.counts().dram_read == before.dram_read);
  CHECK(cache.counts().fabric == before.fabric + crossed);
}

TEST_CASE("what is written to go first goes by its age while it is dirty, and first when it is clean") {
  CacheParameters p = Small(1, 64);
  p.dirty_bytes = 16 * kSize;
  Cache cache(p, 1024, 1);
  for (int64_t g = 100; g < 132; ++g) cache.Touch(g, kSize, 0, Access::kRead);                   // older
  for (int64_t g = 0; g < 32; ++g) cache.Touch(g, kSize, 0, Access::kWrite, Hint::kEvictFirst);  // 16 of them clean
  CHECK(cache.counts().dram_write == 16 * kSize);
  const auto reads = [&](int64_t begin, int64_t end) {
    const int64_t before = cache.counts().dram_read;
    for (int64_t g = begin; g < end; ++g) cache.Touch(g, kSize, 0, Access::kRead);
    return (cache.counts().dram_read - before) / kSize;
  };
  CHECK(reads(200, 216) == 16);  // take the places of the clean ones, 17 by now, and not of what is older
  CHECK(reads(100, 132) == 0);
  CHECK(reads(17, 32) == 0);
}

TEST_CASE("reads that go first displace what is dirty of their kind, but seldom") {
  CacheParameters p = Small(1, 64);
  p.dirty_bytes = 64 * kSize;
  Cache cache(p, 4096, 1);
  for (int64_t g = 0; g < 16; ++g) cache.Touch(g, kSize, 0, Access::kWrite, Hint::kEvictFirst);
  for (int64_t g = 100; g < 200; ++g) cache.Touch(g, kSize, 0, Access::kRead, Hint::kEvictFirst);
  CHECK(cache.dirty_bytes() >= 14 * kSize);
  for (int64_t g = 200; g < 1200; ++g) cache.Touch(g, kSize, 0, Access::kRead, Hint::kEvictFirst);
  CHECK(cache.dirty_bytes() == 0);
  CHECK(cache.counts().dram_write == 16 * kSize);
}

TEST_CASE("the writer of a far line finds it on its own side; the other side's old copy is gone") {
  Cache cache(Small(2, 64), 256, 1);
  for (int64_t g = 0; g < 20; ++g) cache.Touch(g, kSize, 0, Access::kWrite);
  const int64_t crossed = cache.counts().fabric;
  CHECK(crossed > 0);
  CHECK(crossed < 20 * kSize);
  for (int64_t g = 0; g < 20; ++g) cache.Touch(g, kSize, 0, Access::kRead);
  CHECK(cache.counts().fabric == crossed);
  CHECK(cache.counts().misses == 0);
}

}  // namespace
}  // namespace bitflash::sim::l2
