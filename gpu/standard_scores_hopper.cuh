// S = Q K^T with wgmma. A block computes one tile of kBr x 128 after another, so that Q and K of the next tile arrive
// while S of this one leaves.
#ifndef BITFLASH_GPU_STANDARD_SCORES_HOPPER_CUH_
#define BITFLASH_GPU_STANDARD_SCORES_HOPPER_CUH_

#include "gpu/standard_hopper.cuh"

namespace bitflash::gpu {

// The tiles of one block: every gridDim.x-th of those that the mask does not hide, key tiles first, then query tiles,
// then heads. Neighbouring blocks write whole rows of S together.
class ScoreTiles {
 public:
  __device__ explicit ScoreTiles(const StandardProblem& p) : p_(p), keys_(KeyTiles(p, 0)) { Skip(blockIdx.x); }
  __device__ void Next() { Skip(gridDim.x); }
  __device__ bool done() const { return head_ >= p_.heads; }
  __device__ int head() const { return head_; }
  __device__ int i() const { return i_; }
  __device__ int j() const { return keys_.begin + j_; }

 private:
  __device__ void Skip(int tiles) {
    j_ += tiles;
    if (p_.full) {  // all query tiles have the same number of key tiles
      i_ += j_ / keys_.count();
      j_ %= keys_.count();
      head_ += i_ / p_.query_tiles;
      i_ %= p_.query_tiles;
      return;
    }
    while (j_ >= keys_.count() && head_ < p_.heads) {
      j_ -= keys_.count();
      if (++i_ == p_.query_tiles) i_ = 0, ++head_;
      keys_ = KeyTiles(p_, i_);
    }
  }

  const StandardProblem& p_;
  Interval keys_;  // of query tile i_
  int head_ = 0, i_ = 0, j_ = 0;
};

template <class S, int kBr>
struct ScoresShared {
  static constexpr int kQBytes = kBr * 128, kKBytes = kKeysPerTile * 128;  // slices of 64 columns
  static constexpr int kStageBytes = kQBytes + kKBytes;
  // A warp stores 16 rows at a time. All that a warp has of a tile is staged without a wait for TMA to read, so that
  // the next tile's product runs while this one leaves. As fp32 that takes the room of the third stage.
  static constexpr int kStages = sizeof(S) == 4 ? 2 : kBr == 256 ? 3 : 4;
  static constexpr int kUnits = kBr / 128;  // of 16 rows that a warp has
  static constexpr int kUnitBytes = 16 * kKeysPerTile * static_cast<int>(sizeof(S));
  static constexpr int kBuffers = kUnits;
  static constexpr int kStaging = kStages * kStageBytes;
  static constexpr int kBarriers = kStaging + kConsumerWarps * kBuffers * kUnitBytes;
  static constexpr int kBytes = kAlignment + kBarriers + Ring<kStages, kConsumerWarps>::kBytes;
  static_assert(kBytes <= 227 * 1024);
};

// S = -inf where the mask or the end of the keys hides a column; `row` and `column` are those of d[0].
template <int kRegisters>
__device__ __forceinline__ void MaskRows(const StandardProblem& p, int row, int column, float (&d)[kRegisters]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const Interval keys = VisibleKeys(p, row + 8 * half);
    const int begin = keys.begin - column, end = keys.end - column;
#pragma unroll
    for (int j = 0; j < kRegisters / 4; ++j) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        if (8 * j + e < begin || 8 * j + e >= end) d[4 * j + 2 * half + e] = -INFINITY;
      }
    }
  }
}

namespace hopper {

template <class T, class S, int kBr>
__global__ void __launch_bounds__(kHopperThreads, 1)
    standard_scores(const __grid_constant__ StandardProblem p, const __grid_constant__ CUtensorMap q_map,
                    const __grid_constant__ CUtensorMap k_map, const __grid_constant__ CUtensorMap s_map) {
#if BITFLASH_HOPPER_DEVICE
  extern __shared__ unsigned char raw[];
  using Shared = ScoresShared<S, kBr>;
  const uint32_t shared = AlignedShared(raw);
  Ring<Shared::kStages, kConsumerWarps> ring(shared + Shared::kBarriers);
  if (threadIdx.x == 0) {
    ring.Init();
    PrefetchMap(q_map), PrefetchMap(k_map), PrefetchMap(s_map);
  }
  __syncthreads();

  const int slices = (p.head_dim + 63) / 64;
  const int group = WarpGroup();
  if (group == 0) {
    LowerRegisters<kProducerRegisters>();
    if (threadIdx.x != 0) return;
    for (ScoreTiles tile(p); !tile.done(); tile.Next()) {
      const int b = tile.head() / p.heads_q, h = tile.head() % p.heads_q;
      for (int slice = 0; slice < slices; ++slice, ring.Advance()) {
        ring.WaitEmpty();
        const uint32_t Qs = shared + ring.stage() * Shared::kStageBytes;
        MbarrierArriveExpect(ring.full(), Shared::kStageBytes);
        TmaLoad(Qs, q_map, ring.full(), kEvictLast, slice * 64, tile.i() * kBr, h, b);
        TmaLoad(Qs + Shared::kQBytes, k_map, ring.full(), kEvictLast, slice * 64, tile.j() * kKeysPerTile, h / p.group,
                b);
      }
    }
    return;
  }

  RaiseRegisters<kConsumerRegisters>();
  constexpr int kUnits = Shared::kUnits;
  const int lane = threadIdx.x % 32, warp = WarpOfGroup();
  const int group_row = (group - 1) * (kBr / 2);
  const uint32_t staging =
      shared + Shared::kStaging + ((group - 1) * 4 + warp) * (Shared::kBuffers * Shared::kUnitBytes);
  float S_acc[kUnits][64];
  for (ScoreTiles tile(p); !tile.done(); tile.Next()) {
    int previous = 0;
    for (int slice = 0; slice < slices; ++slice, ring.Advance()) {
      ring.WaitFull();
      const uint32_t stage = shared + ring.stage() * Shared::kStageBytes;
      const uint64_t Q = RowMajorOperand(stage + group_row * 128);
      const uint64_t K = RowMajorOperand(stage + Shared::kQBytes);
      WgmmaFence();
      // Columns beyond head_dim are zeros: products that change no bit.
#pragma unroll
      for (int k = 0; k < 4; ++k) {
#pragma unroll
        for (int n = 0; n < kUnits; ++n) {
          Wgmma<T, false>(S_acc[n], Q + n * (64 * 128 / 16) + k * 2, K + k * 2, slice + k != 0);
        }
      }
      WgmmaCommit();
      if (slice > 0) {
        WgmmaWait<1>();
        ring.Release(previous);
      }
      previous = ring.stage();
    }
    WgmmaWait<0>();
#pragma unroll
    for (int n = 0; n < kUnits; ++n) Pin(S_acc[n]);
    ring.Release(previous);

    const bool masked = IsMasked(p, tile.i(), tile.j());
#pragma unroll
    for (int n = 0; n < kUnits; ++n) {
      const int row = tile.i() * kBr + group_row + n * 64 + warp * 16, column = tile.j() * kKeysPerTile;
      if (masked) MaskRows(p, row + lane / 4, column + lane % 4 * 2, S_acc[n]);
      const uint32_t buffer = staging + n % Shared::kBuffers * Shared::kUnitBytes;
      if (lane == 0) TmaStoreWaitRead<Shared::kBuffers - 1>();
      __syncwarp();
      StageRows<S>(buffer, 16 * 128, S_acc[n]);
      StoreRows<S, kKeysPerTile>(s_map, buffer, 16 * 128, kEvictFirst, column, row, tile.head(), 0);
    }
  }
  if (lane == 0) TmaStoreWait();
#else
  NotForThisDevice();
#endif
}

}  // namespace hopper
}  // namespace bitflash::gpu

#endif  // BITFLASH_GPU_STANDARD_SCORES_HOPPER_CUH_
