// A consumer of FlashAttention-3: a warpgroup that computes 64 rows of O after another. While the tensor cores multiply
// P of one key tile with V, it takes the exponentials of the next (Shah et al. 2024, Algorithm 2).
#ifndef BITFLASH_GPU_FA3_CONSUMER_CUH_
#define BITFLASH_GPU_FA3_CONSUMER_CUH_

#include "gpu/fa3_schedule.cuh"
#include "gpu/online_softmax.cuh"
#include "gpu/wgmma.cuh"

namespace bitflash::gpu::fa3 {

// Accumulators of wgmma as online_softmax.cuh has them: [columns / 8][4].
template <int kRegisters>
__device__ __forceinline__ float (&Columns(float (&d)[kRegisters]))[kRegisters / 4][4] {
  return reinterpret_cast<float(&)[kRegisters / 4][4]>(d);
}

template <class C>
class Consumer {
 public:
  using T = typename C::T;

  __device__ __forceinline__ Consumer(const Parameters& p, const Shared<C>& shared, int consumer)
      : p_(p),
        shared_(shared),
        consumer_(consumer),
        keys_(shared.keys()),
        values_(shared.values()),
        queries_(shared.queries(consumer)),
        works_(shared.works()) {}

  __device__ __forceinline__ void Run() {
    for (;; works_.Release(works_.stage()), works_.Advance()) {
      works_.WaitFull();
      const Work& work = *static_cast<const Work*>(__cvta_shared_to_generic(shared_.work(works_.stage())));
      if (work.row0 == Work::kNone) break;
      RunTile(work);
    }
    if (threadIdx.x % 32 == 0) TmaStoreWait();
  }

 private:
  // Otherwise: as soon as Q is in registers, or when O has left through its shared memory.
  static constexpr bool kReleaseAfterScores = !C::kQueriesInRegisters && !C::kOutputInQueries;

  __device__ __forceinline__ void RunTile(const Work& work) {
    SoftmaxRows rows;
#pragma unroll
    for (float& o : O_) o = 0;
    TakeQueries();
    const int begin = work.begin, end = work.end;
    if (begin < end) {
      const int row = (work.row0 + 64 * consumer_) * p_.query_step;
      const TileRange tiles = VisibleTiles<C::Bc>(work.visible, row, row + 63 * p_.query_step + 1);
      const int plain_begin = tiles.plain_begin, plain_end = tiles.plain_end;
      // P of a tile, and what the tiles before left in O to the same maximum.
      const auto finish_softmax = [&](bool unchanged) {
#pragma unroll
        for (int i = 0; i < C::Bc / 4; ++i) P_[i] = Pack<T>(S_[2 * i], S_[2 * i + 1]);
        if (!unchanged) rows.Rescale(Columns(O_));
        Pin(P_);
        Pin(O_);
      };
      // True when no maximum changed.
      const auto softmax = [&](int j) {
        if (j < plain_begin || j >= plain_end) Mask(work, j);
        const bool unchanged = rows.NewMaximum(Columns(S_), p_.scale.log2);
#pragma unroll
        for (int n = 0; n < C::Bc / 8; ++n) rows.Exponentiate(Columns(S_)[n], p_.scale.log2);
        return unchanged;
      };

      keys_.WaitFull();
      WgmmaFence();
      Scores();
      WgmmaCommit();
      WgmmaWait<0>();
      Pin(S_);
      Release(keys_);
      bool unchanged = softmax(end - 1);

#pragma unroll 1
      for (int j = end - 2; j >= begin; --j) {
        WgmmaWait<0>();
        Pin(O_);
        Pin(S_);
        if (j < end - 2) Release(values_);
        finish_softmax(unchanged);
        keys_.WaitFull();
        WgmmaFence();
        Scores();
        WgmmaCommit();
        values_.WaitFull();
        WgmmaFence();
        Output();
        WgmmaCommit();
        WgmmaWait<1>();  // S is there, O is not
        Pin(S_);
        Release(keys_);
        unchanged = softmax(j);
      }
      if constexpr (kReleaseAfterScores) ReleaseQueries();
      WgmmaWait<0>();
      Pin(O_);
      Pin(S_);
      if (begin < end - 1) Release(values_);
      finish_softmax(unchanged);
      values_.WaitFull();
      WgmmaFence();
      Output();
      WgmmaCommit();
      rows.SumQuad();
      WgmmaWait<0>();
      Pin(O_);
      Release(values_);
    } else if constexpr (kReleaseAfterScores) {
      ReleaseQueries();
    }
    Store(work, rows);
    if constexpr (C::kOutputInQueries) {
      if (threadIdx.x % 32 == 0) TmaStoreWaitRead<0>();
      ReleaseQueries();
    }
  }

  template <class AnyRing>
  __device__ __forceinline__ void Release(AnyRing& ring) {
    ring.Release(ring.stage());
    ring.Advance();
  }
  __device__ __forceinline__ void ReleaseQueries() {
    __syncwarp();
    Release(queries_);
  }

  // Waits for Q, and keeps it if there is room.
  __device__ __forceinline__ void TakeQueries() {
    queries_.WaitFull();
    if constexpr (C::kQueriesInRegisters) {
      const int lane = threadIdx.x % 32, row = WarpOfGroup() * 16 + lane % 16;
      const uint32_t at = shared_.Q(consumer_) + row * 128;
#pragma unroll
      for (int k = 0; k < C::D / 16; ++k) {
        const int unit = 2 * (k % 4) + lane / 16;
        LdMatrix(Q_[k], at + k / 4 * C::kQueryChunkBytes + ((unit ^ (row % 8)) << 4));
      }
      ReleaseQueries();
    }
  }

  // S = Qi Kj^T.
  __device__ __forceinline__ void Scores() {
    const uint64_t K = RowMajorOperand(shared_.K(keys_.stage()));
    const uint64_t Q = RowMajorOperand(shared_.Q(consumer_));
#pragma unroll
    for (int k = 0; k < C::D / 16; ++k) {
      const uint64_t Kk = K + k / 4 * (C::kKeyChunkBytes / 16) + k % 4 * 2;
      if constexpr (C::kQueriesInRegisters) {
        Wgmma<T, false>(S_, Q_[k], Kk, k != 0);
      } else {
        Wgmma<T, false>(S_, Q + k / 4 * (C::kQueryChunkBytes / 16) + k % 4 * 2, Kk, k != 0);
      }
    }
  }

  // O += P Vj.
  __device__ __forceinline__ void Output() {
    const uint64_t V = ColumnMajorOperand<C::Bc>(shared_.V(values_.stage()));
#pragma unroll
    for (int step = 0; step < C::Bc / 16; ++step) {
      Wgmma<T, true>(O_, P_ + 4 * step, V + step * (16 * 128 / 16), true);
    }
  }

  __device__ __forceinline__ void Mask(const Work& work, int j) {
    const int lane = threadIdx.x % 32;
    const int row = work.row0 + consumer_ * 64 + WarpOfGroup() * 16 + lane / 4;
    const int column = j * C::Bc + lane % 4 * 2;
    const Visible visible = work.visible;
    int first[2], last[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      first[r] = visible.Begin((row + 8 * r) * p_.query_step) - column;
      last[r] = visible.End((row + 8 * r) * p_.query_step) - column;
    }
    MaskScores(Columns(S_), 0, first, last);
  }

  // O and LSE of the warp's 16 rows, through shared memory that only this warp uses.
  __device__ __forceinline__ void Store(const Work& work, const SoftmaxRows& rows) {
    const int lane = threadIdx.x % 32, warp_row = consumer_ * 64 + WarpOfGroup() * 16;
    const int row = work.row0 + warp_row + lane / 4;
    float inverse[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      inverse[r] = InverseSum(rows.l[r]);
      if (p_.lse != nullptr && lane % 4 == 0 && row + 8 * r < work.rows) {
        const int64_t head = static_cast<int64_t>(work.batch) * p_.heads + work.head;
        p_.lse[head * p_.seqlen_q + row + 8 * r] = LogSumExp(rows.m[r], rows.l[r], p_.scale.natural);
      }
    }
#pragma unroll
    for (int i = 0; i < C::D / 2; ++i) O_[i] = __fmul_rn(O_[i], inverse[i / 2 % 2]);
    if constexpr (C::kOutputInQueries) {
      NamedBarrier(1 + consumer_, 128);  // the other warps' products may read these rows of Q
    } else {
      if (lane == 0) TmaStoreWaitRead<0>();
      __syncwarp();
    }
    const uint32_t stage = shared_.O(consumer_) + WarpOfGroup() * (16 * 128);
    StageRows<T>(stage, C::kQueryChunkBytes, O_);
    StoreRows<T, C::kChunks * 64>(p_.o_map, stage, C::kQueryChunkBytes, kEvictFirst, 0, work.q_row + warp_row,
                                  work.head, work.q_batch);
  }

  const Parameters& p_;
  const Shared<C> shared_;
  const int consumer_;
  KeyRing<C> keys_;
  ValueRing<C> values_;
  QueryRing queries_;
  WorkRing<C> works_;

  float S_[C::Bc / 2], O_[C::D / 2];
  uint32_t P_[C::Bc / 4];
  uint32_t Q_[C::D / 16][4];
};

}  // namespace bitflash::gpu::fa3

#endif  // BITFLASH_GPU_FA3_CONSUMER_CUH_
