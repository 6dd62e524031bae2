// The first launch of flash-decoding on compute capability 9.0: split_kv_decode.cuh with TMA in place of cp.async, and
// with up to 8 query rows as columns (Rows8). Same bits.
//
// A slice of K or V is one instruction of one lane, which brings whole rows in the order of memory.
#ifndef BITFLASH_GPU_SPLIT_KV_HOPPER_CUH_
#define BITFLASH_GPU_SPLIT_KV_HOPPER_CUH_

#include "gpu/hopper.cuh"
#include "gpu/split_kv_pages.cuh"
#include "gpu/split_kv_part.cuh"
#include "gpu/split_kv_rows16.cuh"
#include "gpu/split_kv_rows8.cuh"

namespace bitflash::gpu::split_kv::hopper {

// The slices of a part, each on a barrier of its own (DecodePart).
template <class C>
class TmaFeed {
  using Pages = std::conditional_t<C::kPaged, PageWindow, NoPages>;

 public:
  static constexpr int kBarrierBytes = C::kStages * 8;

  // By all lanes, before a fence and a barrier.
  __device__ __forceinline__ static void InitBarriers(uint32_t barriers, int lane) {
    if (lane < C::kStages) MbarrierInit(barriers + lane * 8, 1);
  }

  __device__ __forceinline__ TmaFeed(const Parameters& p, const Part<C>& part, const CUtensorMap& k_map,
                                     const CUtensorMap& v_map, uint32_t ring, uint32_t barriers, int lane)
      : k_map_(k_map),
        v_map_(v_map),
        k_pages_(p, part.batch, part.keys, part.tiles.begin * C::Bc, lane),
        v_pages_(k_pages_),
        ring_(ring),
        barriers_(barriers),
        head_(part.kv_head),
        batch_(static_cast<int>(part.batch)),
        begin_(part.tiles.begin),
        end_(part.tiles.end),
        keys_(part.keys),
        log2_page_(p.log2_page),
        log2_box_(p.log2_box),
        lane_(lane) {}

  __device__ __forceinline__ void Start() {
#pragma unroll
    for (int s = 0; s < C::kStages; ++s) Load(s, s % kPositions, begin_ + s / kPositions);
  }
  __device__ __forceinline__ uint32_t Wait(int n, int j) {
    const int stage = kWholeBlocks ? n : stage_;
    const uint32_t slice = ring_ + stage * C::kSliceBytes;
    MbarrierWait(barriers_ + stage * 8, kWholeBlocks ? (j - begin_) & 1 : phase_);
    if (n >= C::kSlices) ZeroBeyond(slice, keys_ - FirstKey(n, j));
    return slice;
  }
  __device__ __forceinline__ void Refill(int n, int j) {
    __syncwarp();
    const int ahead = n + C::kStages;
    Load(kWholeBlocks ? n : stage_, ahead % kPositions, j + ahead / kPositions);
    if (!kWholeBlocks && ++stage_ == C::kStages) stage_ = 0, phase_ ^= 1;
  }

 private:
  static constexpr int kPositions = 2 * C::kSlices;  // of a block
  // Where the ring holds one block, a position is its stage.
  static constexpr bool kWholeBlocks = C::kStages == kPositions;

  __device__ __forceinline__ static int FirstKey(int n, int j) { return j * C::Bc + n % C::kSlices * C::kSliceKeys; }

  // Starts position n of block j, if the part has it.
  __device__ __forceinline__ void Load(int stage, int n, int j) {
    if (j >= end_) return;
    const uint32_t barrier = barriers_ + stage * 8, to = ring_ + stage * C::kSliceBytes;
    if (n < C::kSlices) {
      LoadRows(k_map_, k_pages_, barrier, to, FirstKey(n, j));
    } else {
      LoadRows(v_map_, v_pages_, barrier, to, FirstKey(n, j));
    }
  }

  // Boxes without a key of the sequence stay away.
  __device__ __forceinline__ void LoadRows(const CUtensorMap& map, Pages& pages, uint32_t barrier, uint32_t to,
                                           int key) {
    if constexpr (C::kPaged) {
      const int first_page = key >> log2_page_;
      const int page = pages.At(first_page, C::kSliceKeys >> log2_box_, lane_);
      const int boxes = max(0, (min(keys_ - key, C::kSliceKeys) + (1 << log2_box_) - 1) >> log2_box_);
      if (lane_ == 0) MbarrierArriveExpect(barrier, boxes * (C::D * 2) << log2_box_);
      __syncwarp();
      if (lane_ < boxes) {
        TmaLoadRows(to + lane_ * (C::D * 2 << log2_box_), map, barrier, kEvictNormal, key & ((1 << log2_page_) - 1),
                    head_, page);
      }
    } else if (ElectOne()) {
      const bool any = key < keys_;
      MbarrierArriveExpect(barrier, any ? C::kSliceBytes : 0);
      if (any) TmaLoadRows(to, map, barrier, kEvictNormal, key, head_, batch_);
    }
  }

  // What lies behind the last key may be anything, even NaN, which a probability of 0 would not silence in V. Nothing
  // is loaded into a slice that has such rows again.
  __device__ __forceinline__ void ZeroBeyond(uint32_t slice, int rows) const {
    if (rows >= C::kSliceKeys) return;
    for (int at = max(rows, 0) * (C::D * 2) + lane_ * 8; at < C::kSliceBytes; at += 32 * 8) {
      StoreShared(slice + at, 0, 0);
    }
    __syncwarp();
  }

  const CUtensorMap &k_map_, &v_map_;
  Pages k_pages_, v_pages_;
  uint32_t ring_, barriers_;
  int head_, batch_, begin_, end_, keys_, log2_page_, log2_box_, lane_;
  int stage_ = 0;
  uint32_t phase_ = 0;
};

// Shared memory: the ring, Q, barriers.
template <class C>
inline constexpr int kSharedBytes = C::kRingBytes + C::kQBytes + TmaFeed<C>::kBarrierBytes;

// At least four blocks an SM would fit anyway. Saying so makes ptxas 13.0 fetch fragments well before they are
// multiplied; otherwise it saves registers for occupancy that the shared memory forbids.
template <class C>
__global__ void __launch_bounds__(32, 4)
    split_kv_decode(const __grid_constant__ Parameters p, const __grid_constant__ CUtensorMap k_map,
                    const __grid_constant__ CUtensorMap v_map) {
#if BITFLASH_HOPPER_DEVICE
  extern __shared__ __align__(1024) uint8_t shared[];
  const uint32_t ring = SharedAddress(shared), Qi = ring + C::kRingBytes, barriers = Qi + C::kQBytes;
  const int lane = threadIdx.x;
  LaunchDependents();
  TmaFeed<C>::InitBarriers(barriers, lane);
  MbarrierInitFence();
  if (lane == 0) PrefetchMap(k_map), PrefetchMap(v_map);
  __syncwarp();
  WaitForPrimary();

  const Part<C> part(p);
  if (part.IsSkipped(p)) return;
  TmaFeed<C> feed(p, part, k_map, v_map, ring, barriers, lane);
  feed.Start();
  LoadQ(p, part, Qi, lane);
  CpAsyncCommit();
  std::conditional_t<C::Br == 8, Rows8<C>, Rows16<C>> rows(Qi, lane);
  rows.template TakeQ<0>();
  DecodePart(p, part, rows, feed);
#else
  __trap();  // fail, not do nothing
#endif
}

}  // namespace bitflash::gpu::split_kv::hopper

#endif  // BITFLASH_GPU_SPLIT_KV_HOPPER_CUH_
