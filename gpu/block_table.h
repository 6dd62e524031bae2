// Which page of a paged KV cache holds which keys. For tests and verification: the pages of a sequence are scattered,
// so that a kernel that ignores the table reads other keys. Header only: verify/ needs it where gpu/ is not built.
#ifndef BITFLASH_GPU_BLOCK_TABLE_H_
#define BITFLASH_GPU_BLOCK_TABLE_H_

#include <cstdint>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "data/random.h"

namespace bitflash::gpu {

struct BlockTable {
  // [sequences, pages_per_sequence]; INT32_MAX, far outside every cache, where the sequence has no key: not to be read.
  std::vector<int32_t> pages;
  int64_t pages_per_sequence = 0;
  int64_t pool = 0;  // pages of the cache
};

// For sequences of `lengths` keys, each at most seqlen_k; `unused` pages belong to nobody. Hashing decides the order:
// the same on every machine.
inline BlockTable ScatterPages(std::span<const int64_t> lengths, int64_t seqlen_k, int64_t page_size,
                               int64_t unused = 0) {
  const auto pages_of = [&](int64_t keys) { return (keys + page_size - 1) / page_size; };
  BlockTable table{.pages_per_sequence = pages_of(seqlen_k), .pool = unused};
  for (const int64_t keys : lengths) table.pool += pages_of(keys);
  std::vector<int32_t> order(static_cast<size_t>(table.pool));
  std::iota(order.begin(), order.end(), 0);
  for (size_t n = order.size(); n > 1; --n) std::swap(order[n - 1], order[data::SplitMix64(n) % n]);
  auto next = order.begin();
  for (const int64_t keys : lengths) {
    table.pages.insert(table.pages.end(), next, next + pages_of(keys));
    table.pages.resize(table.pages.size() + static_cast<size_t>(table.pages_per_sequence - pages_of(keys)), INT32_MAX);
    next += pages_of(keys);
  }
  return table;
}

}  // namespace bitflash::gpu

#endif  // BITFLASH_GPU_BLOCK_TABLE_H_
