// Flash-decoding for sm_80 and newer: the keys of a sequence are cut into parts of a fixed number of keys; one warp
// takes one part of one KV head, and a second kernel combines the parts in order (split_kv_combine.cuh). Dao, Haziza,
// Massa, Sizov 2023. Twin: sim/kernels/split_kv_decode.cc.
//
// Decoding reads each key once and computes little, so the warp's work is to keep bytes in flight: K and V arrive in
// slices of 16 keys, and a slice's place is refilled with the next block's as soon as it was multiplied. No two warps
// wait for one another. Here cp.async brings them; split_kv_hopper.cuh does the same with TMA.
#ifndef BITFLASH_GPU_SPLIT_KV_DECODE_CUH_
#define BITFLASH_GPU_SPLIT_KV_DECODE_CUH_

#include "gpu/split_kv_part.cuh"
#include "gpu/split_kv_rows16.cuh"

namespace bitflash::gpu::split_kv {

// A ring of one block: K and V in slices of 16 keys.
template <class T, int D, int Br, bool kPaged>
using CopyConfig = Config<T, D, Br, kPaged, 16, 8, false>;

// The pages of a sequence, 32 entries of the block table at a time, one in each lane.
class Pages {
 public:
  __device__ __forceinline__ Pages(const Parameters& p, int64_t batch, int keys)
      : table_(p.t.block_table + batch * p.t.pages_per_sequence),
        count_((keys + (1 << p.log2_page) - 1) >> p.log2_page) {}

  // All lanes ask, each for a page of its own: the first lane's or the next, which is then in the same 32.
  __device__ __forceinline__ int At(int page, int lane) {
    const int base = __shfl_sync(~0u, page, 0) & ~31;
    if (base != base_) {
      base_ = base;
      entry_ = base_ + lane < count_ ? __ldg(table_ + base_ + lane) : 0;
    }
    return __shfl_sync(~0u, entry_, page - base_);
  }

 private:
  const int32_t* table_;
  int count_, base_ = -1, entry_ = 0;
};

// K or V of one sequence and head as a stream of slices of 16 keys.
template <class C>
class Slices {
  using T = typename C::T;

 public:
  // `matrix` is the head's first row (of the first page), `key` the first key to load, `keys` the sequence's length.
  __device__ __forceinline__ Slices(const Parameters& p, const T* matrix, const Strides& strides, int64_t batch,
                                    int key, int keys, int lane)
      : pages_(p, batch, keys),
        page_stride_(strides.batch),
        stride_(strides.row),
        key_(key),
        keys_(keys),
        log2_page_(p.log2_page),
        lane_(lane) {
    from_ = matrix + (kFixedColumn ? lane % kUnits * 8 : 0);
    if (!C::kPaged) from_ += (key + (kFixedColumn ? lane / kUnits : 0)) * stride_;
  }

  // Starts the copy of the next slice; zeros beyond the last key.
  __device__ __forceinline__ void Load(uint32_t to) {
    int page = 0;
    if constexpr (C::kPaged) page = pages_.At(min(key_ + lane_ % 16, keys_ - 1) >> log2_page_, lane_);
    const T* from = from_;
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      // In a fixed column only the row changes, by a constant, and with it the exchange of units.
      const int unit = lane_ + pass * 32;
      const int r = kFixedColumn ? lane_ / kUnits + pass * kStep : unit / kUnits, u = unit % kUnits;
      const uint32_t at =
          kFixedColumn
              ? to + ((UnitOffset<C::kSliceKeys, C::D>(lane_ / kUnits, lane_ % kUnits) ^ (pass * kStep % 8 << 4)) +
                      pass * kStep * 128)
              : to + UnitOffset<C::kSliceKeys, C::D>(r, u);
      if constexpr (C::kPaged) {
        // The page of key i was looked up by lane i.
        const int64_t of_row = __shfl_sync(~0u, page, r);
        from = from_ + of_row * page_stride_ + ((key_ + r) & ((1 << log2_page_) - 1)) * stride_ +
               (kFixedColumn ? 0 : u * 8);
      } else if (!kFixedColumn) {
        from = from_ + r * stride_ + u * 8;
      }
      CpAsync16(at, from, key_ + r < keys_);
      if (kFixedColumn && !C::kPaged) from += kStep * stride_;
    }
    key_ += C::kSliceKeys;
    if (!C::kPaged) from_ += C::kSliceKeys * stride_;
  }

 private:
  static constexpr int kUnits = C::D / 8, kPasses = C::kSliceKeys * kUnits / 32;  // of 16 bytes a row; of a warp
  // A lane stays in its column when the warp copies whole rows.
  static constexpr bool kFixedColumn = 32 % kUnits == 0;
  static constexpr int kStep = kFixedColumn ? 32 / kUnits : 0;  // rows a pass

  Pages pages_;
  const T* from_;
  int64_t page_stride_, stride_;
  int key_, keys_, log2_page_, lane_;
};

// The slices of a part, each a group of cp.async (DecodePart).
template <class C>
class CopyFeed {
  using T = typename C::T;

 public:
  static_assert(C::kStages == 2 * C::kSlices);
  __device__ __forceinline__ CopyFeed(const Parameters& p, const Part<C>& part, uint32_t ring, int lane)
      : k_(p, HeadOf<const T>(p.t.k, p.t.k_strides, C::kPaged ? 0 : part.batch, part.kv_head), p.t.k_strides,
           part.batch, part.tiles.begin * C::Bc, part.keys, lane),
        v_(p, HeadOf<const T>(p.t.v, p.t.v_strides, C::kPaged ? 0 : part.batch, part.kv_head), p.t.v_strides,
           part.batch, part.tiles.begin * C::Bc, part.keys, lane),
        ring_(ring),
        begin_(part.tiles.begin),
        end_(part.tiles.end) {}

  // Copies that were started before belong to the first group.
  __device__ __forceinline__ void Start() {
#pragma unroll
    for (int n = 0; n < C::kStages; ++n) Load(n, begin_);
  }
  __device__ __forceinline__ uint32_t Wait(int n, int) {
    CpAsyncWait<C::kStages - 1>();
    __syncwarp();
    return ring_ + n * C::kSliceBytes;
  }
  __device__ __forceinline__ void Refill(int n, int j) {
    __syncwarp();
    Load(n, j + 1);
  }

 private:
  __device__ __forceinline__ void Load(int n, int j) {
    if (j < end_) (n < C::kSlices ? k_ : v_).Load(ring_ + n * C::kSliceBytes);
    CpAsyncCommit();  // also of nothing: waiting counts groups
  }

  Slices<C> k_, v_;
  uint32_t ring_;
  int begin_, end_;
};

template <class C>
__global__ void __launch_bounds__(32) split_kv_decode(const __grid_constant__ Parameters p) {
  extern __shared__ __align__(1024) uint8_t shared[];
  LaunchDependents();
  const int lane = threadIdx.x;
  const Part<C> part(p);
  if (part.IsSkipped(p)) return;
  const uint32_t ring = SharedAddress(shared), Qi = ring + C::kRingBytes;
  LoadQ(p, part, Qi, lane);
  CopyFeed<C> feed(p, part, ring, lane);
  feed.Start();
  Rows16<C> rows(Qi, lane);
  rows.template TakeQ<C::kStages - 1>();
  DecodePart(p, part, rows, feed);
}

}  // namespace bitflash::gpu::split_kv

#endif  // BITFLASH_GPU_SPLIT_KV_DECODE_CUH_
