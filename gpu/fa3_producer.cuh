// The producer of FlashAttention-3: one thread that keeps Q, K and V on their way to shared memory.
#ifndef BITFLASH_GPU_FA3_PRODUCER_CUH_
#define BITFLASH_GPU_FA3_PRODUCER_CUH_

#include "gpu/fa3_schedule.cuh"

namespace bitflash::gpu::fa3 {

template <class C>
class Producer {
 public:
  __device__ Producer(const Parameters& p, const Shared<C>& shared)
      : p_(p),
        shared_(shared),
        keys_(shared.keys()),
        values_(shared.values()),
        queries_(shared.queries(0)),
        works_(shared.works()) {}

  __device__ void Run() {
    for (BlockTiles tiles(p_); !tiles.done(); tiles.Advance()) {
      tiles.Draw();  // before the loads, behind which the answer arrives
      works_.WaitEmpty();
      Work& work = NextWork();
      if (!FindWork<C>(p_, tiles.tile(), work)) continue;
      Publish();
      Load(work);
    }
    works_.WaitEmpty();
    NextWork().row0 = Work::kNone;
    Publish();
  }

 private:
  __device__ Work& NextWork() const {
    return *static_cast<Work*>(__cvta_shared_to_generic(shared_.work(works_.stage())));
  }
  __device__ void Publish() {
    MbarrierArrive(works_.full());
    works_.Advance();
  }

  // In the order in which the consumers need them: V one tile behind K.
  __device__ void Load(const Work& work) {
    LoadKeys(work, work.end - 1);
    LoadQueries(work);
#pragma unroll 1
    for (int j = work.end - 2; j >= work.begin; --j) {
      LoadKeys(work, j);
      LoadValues(work, j + 1);
    }
    LoadValues(work, work.begin);
  }

  // Q is read once. K and V are read again by other blocks: without evict_last 0.7 % slower.
  __device__ void LoadQueries(const Work& work) {
#pragma unroll 1  // unrolled, the producer of three consumers spills
    for (int consumer = 0; consumer < C::kConsumers; ++consumer) {
      const QueryRing<C> ring = queries_.Neighbour(consumer);
      ring.WaitEmpty();
      LoadBox<C::kQueryChunkBytes>(shared_.Q(consumer, ring.stage()), p_.q_map, ring.full(), kEvictFirst,
                                   work.q_row + 64 * consumer, work.head, work.q_batch);
    }
    queries_.Advance();
  }
  __device__ void LoadKeys(const Work& work, int j) {
    keys_.WaitEmpty();
    LoadBox<C::kKeyChunkBytes>(shared_.K(keys_.stage()), p_.k_map, keys_.full(), kEvictLast, work.k_row + j * C::Bc,
                               work.k_head, work.k_batch);
    keys_.Advance();
  }
  __device__ void LoadValues(const Work& work, int j) {
    values_.WaitEmpty();
    LoadBox<C::kKeyChunkBytes>(shared_.V(values_.stage()), p_.v_map, values_.full(), kEvictLast, work.k_row + j * C::Bc,
                               work.k_head, work.k_batch);
    values_.Advance();
  }
  // All columns of a tile. What the tensor does not have arrives as zeros, and counts.
  template <int kChunkBytes>
  __device__ void LoadBox(uint32_t to, const CUtensorMap& map, uint32_t barrier, uint64_t policy, int row, int head,
                          int batch) {
    MbarrierArriveExpect(barrier, C::kChunks * kChunkBytes);
#pragma unroll
    for (int chunk = 0; chunk < C::kChunks; ++chunk) {
      TmaLoad(to + chunk * kChunkBytes, map, barrier, policy, chunk * 64, row, head, batch, p_.turns);
    }
  }

  const Parameters& p_;
  const Shared<C> shared_;
  KeyRing<C> keys_;
  ValueRing<C> values_;
  QueryRing<C> queries_;  // of the first consumer; the others' are at the same stage
  WorkRing<C> works_;
};

}  // namespace bitflash::gpu::fa3

#endif  // BITFLASH_GPU_FA3_PRODUCER_CUH_
