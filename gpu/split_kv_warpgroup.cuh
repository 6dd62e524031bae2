// The first launch of flash-decoding on compute capability 9.0 with wgmma: a warpgroup multiplies up to 64 query rows
// with each key, and a fifth warp keeps K and V on their way (TMA). Same bits as split_kv_decode.cuh: both instructions
// add 16 products at a time, in the same way (sim/tensor_core.cc).
#ifndef BITFLASH_GPU_SPLIT_KV_WARPGROUP_CUH_
#define BITFLASH_GPU_SPLIT_KV_WARPGROUP_CUH_

#include "gpu/online_softmax.cuh"
#include "gpu/split_kv_pages.cuh"
#include "gpu/split_kv_part.cuh"
#include "gpu/warp_specialized.cuh"
#include "gpu/wgmma.cuh"

namespace bitflash::gpu::split_kv::warpgroup {

// K and V of a block of Bc keys lie in a ring of kStages halves, in the order in which they are needed: K, V, the next
// block's K. Images of chunks of 64 columns (gpu/ptx.cuh).
template <class T_, int D_, bool kPaged_, int kStages_, int kBlocksPerSm_>
struct Config {
  using T = T_;
  static constexpr int D = D_, Br = 64, Bc = 64, kStages = kStages_, kBlocksPerSm = kBlocksPerSm_;
  static constexpr int kSliceKeys = Bc;
  static constexpr bool kPaged = kPaged_;
  static constexpr int kThreads = 128 + 32;
  static constexpr int kChunks = D / 64, kChunkBytes = Bc * 128, kHalfBytes = kChunks * kChunkBytes;
  static constexpr int kRingBytes = kStages * kHalfBytes;
  static constexpr int kQBytes = kTileBytes<Br, D>;
};

template <class C>
using KeyValueRing = Ring<C::kStages, 4>;

// Shared memory: the ring, Q, barriers.
template <class C>
inline constexpr int kSharedBytes = C::kRingBytes + C::kQBytes + KeyValueRing<C>::kBytes;

// The fifth warp.
template <class C>
class Producer {
 public:
  __device__ __forceinline__ Producer(const Parameters& p, const Part<C>& part, const CUtensorMap& k_map,
                                      const CUtensorMap& v_map, uint32_t halves, KeyValueRing<C> ring)
      : p_(p),
        part_(part),
        k_map_(k_map),
        v_map_(v_map),
        halves_(halves),
        ring_(ring),
        lane_(threadIdx.x % 32),
        pages_(p, part.batch, part.keys, part.tiles.begin * C::Bc, lane_) {}

  __device__ __forceinline__ void Run() {
#pragma unroll 1
    for (int j = part_.tiles.begin; j < part_.tiles.end; ++j) {
      Load(k_map_, j * C::Bc);
      Load(v_map_, j * C::Bc);
    }
  }

 private:
  // A box of a chunk by each lane. Boxes without a key of the sequence stay away.
  __device__ __forceinline__ void Load(const CUtensorMap& map, int key) {
    const int most = C::Bc >> p_.log2_box, box = lane_ & (most - 1), chunk = lane_ >> (6 - p_.log2_box);
    int row = key, batch = static_cast<int>(part_.batch), boxes = 1;
    if constexpr (C::kPaged) {
      batch = pages_.At(key >> p_.log2_page, most, lane_);
      row = key & ((1 << p_.log2_page) - 1);
      boxes = (min(part_.keys - key, C::Bc) + (1 << p_.log2_box) - 1) >> p_.log2_box;
    }
    ring_.WaitEmpty();
    if (lane_ == 0) MbarrierArriveExpect(ring_.full(), boxes * (C::D * 2) << p_.log2_box);
    __syncwarp();
    if (box < boxes && chunk < C::kChunks) {
      TmaLoad(halves_ + ring_.stage() * C::kHalfBytes + chunk * C::kChunkBytes + (box * 128 << p_.log2_box), map,
              ring_.full(), kEvictNormal, chunk * 64, row, part_.kv_head, batch);
    }
    ring_.Advance();
  }

  const Parameters& p_;
  const Part<C>& part_;
  const CUtensorMap &k_map_, &v_map_;
  uint32_t halves_;
  KeyValueRing<C> ring_;
  int lane_;
  std::conditional_t<C::kPaged, PageWindow, NoPages> pages_;
};

// The warpgroup.
template <class C>
class Consumer {
  using T = typename C::T;

 public:
  __device__ __forceinline__ Consumer(const Parameters& p, const Part<C>& part, uint32_t halves, uint32_t Qi,
                                      KeyValueRing<C> ring)
      : p_(p),
        part_(part),
        halves_(halves),
        Qi_(Qi),
        ring_(ring),
        lane_(threadIdx.x % 32),
        row_(part.row0 + WarpOfGroup() * 16),
        live_(row_ < p.rows) {}

  __device__ __forceinline__ void Run() {
#pragma unroll
    for (int i = 0; i < C::D / 2; ++i) O_[i] = 0;
#pragma unroll
    for (int i = 0; i < C::Bc / 4; ++i) P_[i] = 0;
    int j = part_.tiles.begin;
    if (j < part_.tiles.end) {
      TakeQ();
      Scores();
      WgmmaWait<0>();
      Pin(S_);
      Release();
      while (true) {
        if (live_) Softmax(j);
        if (j + 1 >= part_.tiles.end) break;
        Output(j);
        Scores();
        WgmmaWait<0>();
        Pin(S_);
        Pin(O_);
        Release();
        Release();
        ++j;
      }
      Output(j);
      WgmmaWait<0>();
      Pin(O_);
    }
    if (live_) Store();
  }

 private:
  __device__ __forceinline__ void TakeQ() {
    LoadQ<C, 128>(p_, part_, Qi_, threadIdx.x);
    CpAsyncCommit();
    CpAsyncWait<0>();
    ProxyFence();
    NamedBarrier(1, 128);
  }

  // The oldest half that was not handed back.
  __device__ __forceinline__ void Release() {
    ring_.Release(released_);
    if (++released_ == C::kStages) released_ = 0;
  }
  __device__ __forceinline__ uint32_t NextHalf() {
    ring_.WaitFull();
    const uint32_t half = halves_ + ring_.stage() * C::kHalfBytes;
    ring_.Advance();
    return half;
  }

  __device__ __forceinline__ void Scores() {
    const uint64_t K = RowMajorOperand(NextHalf()), Q = RowMajorOperand(Qi_);
    WgmmaFence();
#pragma unroll
    for (int k = 0; k < C::D / 16; ++k) {
      const int at = k / 4 * (C::kChunkBytes / 16) + k % 4 * 2;
      Wgmma<T, false>(S_, Q + at, K + at, k != 0);
    }
    WgmmaCommit();
  }

  __device__ __forceinline__ void Output(int j) {
    const uint32_t half = NextHalf();
    ZeroBeyond(half, part_.keys - j * C::Bc);
    const uint64_t V = ColumnMajorOperand<C::Bc>(half);
    WgmmaFence();
#pragma unroll
    for (int k = 0; k < C::Bc / 16; ++k) Wgmma<T, true>(O_, P_ + 4 * k, V + k * (16 * 128 / 16), true);
    WgmmaCommit();
  }

  // What lies behind the last key may be anything, even NaN, which a probability of 0 would not silence.
  __device__ __forceinline__ void ZeroBeyond(uint32_t half, int rows) const {
    if (rows >= C::Bc) return;
#pragma unroll
    for (int chunk = 0; chunk < C::kChunks; ++chunk) {
      for (int at = rows * 128 + threadIdx.x * 8; at < C::kChunkBytes; at += 128 * 8) {
        StoreShared(half + chunk * C::kChunkBytes + at, 0, 0);
      }
    }
    ProxyFence();
    NamedBarrier(1, 128);
  }

  __device__ __forceinline__ void Softmax(int j) {
    auto& S = reinterpret_cast<float(&)[C::Bc / 8][4]>(S_);
    if (j < part_.tiles.plain_begin || j >= part_.tiles.plain_end) {
      const int token = (row_ + lane_ / 4) / p_.group, below = (row_ + lane_ / 4 + 8) / p_.group;
      const int begin[2] = {part_.visible.Begin(token), part_.visible.Begin(below)};
      const int end[2] = {part_.visible.End(token), part_.visible.End(below)};
      MaskScores(S, j * C::Bc + lane_ % 4 * 2, begin, end);
    }
    if (!rows_.NewMaximum(S, p_.scale.log2)) rows_.Rescale(reinterpret_cast<float(&)[C::D / 8][4]>(O_));
#pragma unroll
    for (int n = 0; n < C::Bc / 8; ++n) {
      rows_.Exponentiate(S[n], p_.scale.log2);
      P_[2 * n] = Pack<T>(S[n][0], S[n][1]);
      P_[2 * n + 1] = Pack<T>(S[n][2], S[n][3]);
    }
  }

  __device__ __forceinline__ void Store() {
    rows_.SumQuad();
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = row_ + 8 * r + lane_ / 4;
      if (row >= p_.rows) continue;
      const RowResult<C> result(p_, part_, row, rows_.m[r], rows_.l[r], lane_ % 4 == 0);
#pragma unroll
      for (int d = 0; d < C::D / 8; ++d) {
        result.Put(8 * d + lane_ % 4 * 2, O_[4 * d + 2 * r], O_[4 * d + 2 * r + 1]);
      }
    }
  }

  const Parameters& p_;
  const Part<C>& part_;
  uint32_t halves_, Qi_;
  KeyValueRing<C> ring_;
  int released_ = 0;
  const int lane_, row_;
  const bool live_;  // whether the warp has a query
  float S_[C::Bc / 2], O_[C::D / 2];
  uint32_t P_[C::Bc / 4];
  SoftmaxRows rows_;
};

template <class C>
__global__ void __launch_bounds__(C::kThreads, C::kBlocksPerSm)
    split_kv_decode(const __grid_constant__ Parameters p, const __grid_constant__ CUtensorMap k_map,
                    const __grid_constant__ CUtensorMap v_map) {
#if BITFLASH_HOPPER_DEVICE
  extern __shared__ __align__(1024) uint8_t shared[];
  const uint32_t halves = SharedAddress(shared), Qi = halves + C::kRingBytes;
  const KeyValueRing<C> ring(Qi + C::kQBytes);
  LaunchDependents();
  if (threadIdx.x == 0) {
    ring.Init();
    PrefetchMap(k_map), PrefetchMap(v_map);
  }
  __syncthreads();
  WaitForPrimary();

  const Part<C> part(p);
  if (part.IsSkipped(p)) return;
  if (threadIdx.x >= 128) {
    Producer<C>(p, part, k_map, v_map, halves, ring).Run();
  } else {
    Consumer<C>(p, part, halves, Qi, ring).Run();
  }
#else
  NotForThisDevice();
#endif
}

}  // namespace bitflash::gpu::split_kv::warpgroup

#endif  // BITFLASH_GPU_SPLIT_KV_WARPGROUP_CUH_
