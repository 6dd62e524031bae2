// A consumer of FlashAttention-3: a warpgroup that computes 64 rows of O after another. While the tensor cores multiply
// P of one key tile with V, it takes the exponentials of the next (Shah et al. 2024, Algorithm 2), which may be the
// first of the next query tile.
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
    if (!NextTile()) return;
    StartScores(false);
    WgmmaWait<0>();
    TakeScores();
    Clear();
    Softmax<false>();
    bool keys_there = false, last = --j_ < begin_, leaving = false;
    while (true) {
      // Between two key tiles of different query tiles, and after the first of one. No other step comes by here: the
      // inner loop is short and without jumps over what it seldom needs, which cost more than their instructions.
      if (leaving) {
        Store();
        Clear();
      }
      if (SkipKeys()) keys_there = false, last = j_ < begin_;
      leaving = last;
      if (last) {
        FinishRows();
        if (!NextTile()) break;
        if (skipped_keys_) keys_there = false;
      }
      do {
        StartScores(keys_there);  // of tile j
        StartOutput();            // of tile j + 1, or of the last of the query tile before
        none_negative_ = rows_.NoneNegative();
        WgmmaWait<1>();
        TakeScores();
        Softmax<true>();              // while O is on its way
        keys_there = keys_.IsFull();  // asked early, because the answer takes a while
        last = --j_ < begin_;
      } while (!last && !leaving);
    }
    StartOutput();
    WgmmaWait<0>();
    Pin(O_);
    Store();
    if (threadIdx.x % 32 == 0) TmaStoreWait();
  }

 private:
  template <class AnyRing>
  __device__ __forceinline__ void Release(AnyRing& ring) {
    ring.Release(ring.stage());
    ring.Advance();
  }

  // --- Query tiles ---------------------------------------------------------------------------------------------------
  // The query tile at work, and the one before, whose O is still to be stored.
  __device__ __forceinline__ const Work& ThisWork() const { return WorkIn(works_.StageBefore(1)); }
  __device__ __forceinline__ const Work& LastWork() const { return WorkIn(works_.StageBefore(2)); }
  __device__ __forceinline__ const Work& WorkIn(int slot) const {
    return *static_cast<const Work*>(__cvta_shared_to_generic(shared_.work(slot)));
  }

  // Goes on to the next query tile, at its last key tile. False when there is none.
  __device__ __forceinline__ bool NextTile() {
    works_.WaitFull();
    works_.Advance();
    const Work& work = ThisWork();
    if (work.row0 == Work::kNone) return false;
    begin_ = work.begin;
    j_ = work.end - 1;
    plain_begin_ = work.plain_begin[consumer_];
    plain_end_ = work.plain_end[consumer_];
    rows_.Restart();
    TakeQueries();
    skipped_keys_ = work.own_end[consumer_] == j_;
    if (skipped_keys_) {
      keys_.WaitFull();
      Release(keys_);
      --j_;
    }
    return true;
  }

  // Leaves out key tiles that other warpgroups see and this one does not: all at the end, but at least one remains. Of
  // the first, NextTile has left out K if the next one is its own, while V of the query tile before is still read.
  // True when the next K is another one.
  __device__ __forceinline__ bool SkipKeys() {
    if (skipped_keys_) {
      skipped_keys_ = false;
      values_.WaitFull();
      Release(values_);
    }
    const int end = ThisWork().own_end[consumer_];
    if (j_ < end) return false;
#pragma unroll 1
    for (; j_ >= end; --j_) {
      keys_.WaitFull();
      Release(keys_);
      values_.WaitFull();
      Release(values_);
    }
    return true;
  }

  // Waits for Q, and keeps it if there is room.
  __device__ __forceinline__ void TakeQueries() {
    queries_.WaitFull();
    if constexpr (C::kQueriesInRegisters) {
      const int lane = threadIdx.x % 32, row = WarpOfGroup() * 16 + lane % 16;
      const uint32_t at = shared_.Q(consumer_, queries_.stage()) + row * 128;
#pragma unroll
      for (int k = 0; k < C::D / 16; ++k) {
        const int unit = 2 * (k % 4) + lane / 16;
        LdMatrix(Q_[k], at + k / 4 * C::kQueryChunkBytes + ((unit ^ (row % 8)) << 4));
      }
      ReleaseQueries();
    }
  }
  __device__ __forceinline__ void ReleaseQueries() {
    __syncwarp();
    Release(queries_);
  }

  // --- Products ------------------------------------------------------------------------------------------------------
  __device__ __forceinline__ void StartScores(bool keys_there) {
    if (!keys_there) keys_.WaitFull();
    WgmmaFence();
    Scores();
    WgmmaCommit();
  }
  // S is there.
  __device__ __forceinline__ void TakeScores() {
    Pin(S_);
    Release(keys_);
  }
  __device__ __forceinline__ void StartOutput() {
    Rescale();
    values_.WaitFull();
    WgmmaFence();
    Output();
    WgmmaCommit();
  }
  __device__ __forceinline__ void Clear() {
#pragma unroll
    for (int i = 0; i < C::D / 2; ++i) O_[i] = 0;
  }

  // S = Qi Kj^T.
  __device__ __forceinline__ void Scores() {
    const uint64_t K = RowMajorOperand(shared_.K(keys_.stage()));
    const uint64_t Q = RowMajorOperand(shared_.Q(consumer_, queries_.stage()));
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

  // --- Softmax -------------------------------------------------------------------------------------------------------
  // S becomes P, and what earlier tiles left in O is to be rescaled. This, not the products, is what a warpgroup waits
  // for, so it is arranged for latency. kOutput: a product with V runs, which must have read the P before.
  template <bool kOutput>
  __device__ __forceinline__ void Softmax() {
    auto& S = Columns(S_);
    constexpr int N = C::Bc / 8, kWait = C::kShape.wait_column / 8;
    float of_lane[2];
    const bool plain = j_ < plain_end_ && j_ >= plain_begin_;
    if (none_negative_ && plain) {
      LaneMaximumAbove0(S, of_lane);
    } else {
      if (!plain) Mask();
      LaneMaximum(S, of_lane);
    }
    unchanged_ = rows_.TakeMaximum(of_lane, p_.scale.log2);
#pragma unroll
    for (int n = 0; n < N + 2; ++n) {
      if (n < N) rows_.Exponents(S[n], p_.scale.log2);
      if (n >= 1 && n <= N) rows_.Powers(S[n - 1]);
      if (n >= 2) rows_.Sum(S[n - 2]);
      if (n == kWait) {
        if constexpr (kOutput) WaitForOutput<kWait != N>();
#pragma unroll
        for (int i = 0; i < n - 1; ++i) Round(i);
      }
      if (n > kWait) Round(n - 2);
    }
    Pin(P_);
  }
  // Eight columns of P.
  __device__ __forceinline__ void Round(int n) {
#pragma unroll
    for (int i = 0; i < 2; ++i) P_[2 * n + i] = Pack<T>(S_[4 * n + 2 * i], S_[4 * n + 2 * i + 1]);
  }
  // kHere: not before the exponentials that precede it, whose order ptxas does not keep otherwise.
  template <bool kHere>
  __device__ __forceinline__ void WaitForOutput() {
    Pin(S_);
    if constexpr (kHere) ScheduleFence();
    WgmmaWait<0>();
    Pin(O_);
    Release(values_);
  }
  __device__ __forceinline__ void Rescale() {
    if (!unchanged_) rows_.Rescale(Columns(O_));
    Pin(O_);
  }

  __device__ __forceinline__ int WarpRow(const Work& work) const {
    return work.row0 + consumer_ * 64 + WarpOfGroup() * 16;
  }

  // Hides the keys that a row does not see.
  __device__ __forceinline__ void Mask() {
    const Visible visible = ThisWork().visible;
    const int lane = threadIdx.x % 32, row = WarpRow(ThisWork()) + lane / 4, column = j_ * C::Bc;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int query = (row + 8 * r) * p_.query_step;
      const int begin = query + visible.low, end = min(query + visible.high, visible.keys);
      KeepColumns(Columns(S_), r, ColumnsBefore(end - column, lane % 4) & ~ColumnsBefore(begin - column, lane % 4));
    }
  }

  // --- The end of rows -----------------------------------------------------------------------------------------------
  // After the last scores of the query tile before: LSE, and what O must be multiplied by.
  __device__ __forceinline__ void FinishRows() {
    if constexpr (!C::kQueriesInRegisters) ReleaseQueries();
    rows_.SumQuad();
    const Work& work = ThisWork();
    // One of the two rows is enough for a lane of a quad: the code should be short.
    const int lane = threadIdx.x % 32, r = lane % 2, row = WarpRow(work) + lane / 4 + 8 * r;
    const float l = r == 0 ? rows_.l[0] : rows_.l[1], m = r == 0 ? rows_.m[0] : rows_.m[1];
    const float inverse = InverseSum(l);
#pragma unroll
    for (int i = 0; i < 2; ++i) inverse_[i] = __shfl_sync(~0u, inverse, lane / 4 * 4 + i);
    if (p_.lse != nullptr && lane % 4 < 2 && row < work.rows) {
      const int64_t head = static_cast<int64_t>(work.batch) * p_.heads + work.head;
      p_.lse[head * p_.seqlen_q + row] = LogSumExp(m, l, p_.scale.natural);
    }
  }

  // O of the warp's 16 rows of the tile before, through shared memory that only this warp uses.
  __device__ __forceinline__ void Store() {
    StorePass<0>();
    if constexpr (C::kOutputPasses > 1) StorePass<1>();
    if constexpr (C::kOutputPasses > 2) StorePass<2>();
    works_.Release(works_.StageBefore(2));
  }
  template <int pass>
  __device__ __forceinline__ void StorePass() {
    constexpr int kRegisters = C::D / 2 / C::kOutputPasses, kColumns = C::kOutputChunks * 64;
    static_assert(C::kOutputPasses <= 3);
    float out[kRegisters];
#pragma unroll
    for (int i = 0; i < kRegisters; ++i) out[i] = __fmul_rn(O_[pass * kRegisters + i], inverse_[i / 2 % 2]);
    if (threadIdx.x % 32 == 0) TmaStoreWaitRead<0>();
    __syncwarp();
    const Work& work = LastWork();
    const uint32_t stage = shared_.O(consumer_) + WarpOfGroup() * (16 * 128);
    StageRows<T>(stage, C::kQueryChunkBytes, out);
    StoreRows<T, kColumns>(p_.o_map, stage, C::kQueryChunkBytes, kEvictFirst, pass * kColumns,
                           work.q_row + consumer_ * 64 + WarpOfGroup() * 16, work.head, work.q_batch, p_.turns);
  }

  const Parameters& p_;
  const Shared<C> shared_;
  const int consumer_;
  KeyRing<C> keys_;
  ValueRing<C> values_;
  QueryRing<C> queries_;
  WorkRing<C> works_;

  float S_[C::Bc / 2], O_[C::D / 2];
  uint32_t P_[C::Bc / 4];
  uint32_t Q_[C::D / 16][4];

  int begin_ = 0, j_ = 0;                // the key tile at work
  int plain_begin_ = 0, plain_end_ = 0;  // key tiles that all of these rows see whole
  SoftmaxRows rows_;
  bool skipped_keys_ = false;   // of the first key tile, of which V is still to be skipped
  bool none_negative_ = false;  // of the maxima before this key tile
  bool unchanged_ = false;      // the maximum, by the last key tile
  float inverse_[2];            // of the row sums of the query tile before
};

}  // namespace bitflash::gpu::fa3

#endif  // BITFLASH_GPU_FA3_CONSUMER_CUH_
