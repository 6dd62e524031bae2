// The block table of a paged cache, as the warp that starts TMA copies reads it.
#ifndef BITFLASH_GPU_SPLIT_KV_PAGES_CUH_
#define BITFLASH_GPU_SPLIT_KV_PAGES_CUH_

#include "gpu/split_kv_part.cuh"

namespace bitflash::gpu::split_kv {

// The pages of a sequence, 32 entries of the block table at a time, one in each lane; the next 32 are on their way.
class PageWindow {
 public:
  __device__ __forceinline__ PageWindow(const Parameters& p, int64_t batch, int keys, int first_key, int lane)
      : table_(p.t.block_table + batch * p.t.pages_per_sequence + lane),
        count_(((keys + (1 << p.log2_page) - 1) >> p.log2_page) - lane),
        base_(first_key >> p.log2_page & ~31),
        entry_(Read(base_)),
        next_(Read(base_ + 32)) {}

  // In lane i the entry of page first + i % count. `first` is the same in all lanes, at least the last one and at most
  // 32 further; `count`, a power of two, divides it.
  __device__ __forceinline__ int At(int first, int count, int lane) {
    if (first >= base_ + 32) {
      base_ += 32;
      entry_ = next_;
      next_ = Read(base_ + 32);
    }
    return __shfl_sync(~0u, entry_, first - base_ + (lane & (count - 1)));
  }

 private:
  // Entries beyond the sequence are not read.
  __device__ __forceinline__ int Read(int page) const { return page < count_ ? __ldg(table_ + page) : 0; }

  const int32_t* table_;
  int count_, base_, entry_, next_;
};
struct NoPages {  // of a contiguous cache
  __device__ __forceinline__ NoPages(const Parameters&, int64_t, int, int, int) {}
};

}  // namespace bitflash::gpu::split_kv

#endif  // BITFLASH_GPU_SPLIT_KV_PAGES_CUH_
