// The tiles of FlashAttention-3: which shape for which head_dim and why, and where a block keeps them in shared memory.
#ifndef BITFLASH_GPU_FA3_TILE_CUH_
#define BITFLASH_GPU_FA3_TILE_CUH_

#include "gpu/warp_specialized.cuh"

namespace bitflash::gpu::fa3 {

// A consumer warpgroup has 64 query rows. Bc decides bits: it is the twin's (sim/kernels/fa3_forward.cc).
enum class Queries : uint8_t { kInRegisters, kInShared };  // from where the product with K takes them
struct TileShape {
  int Br, Bc;
  int stages;                                  // K tiles in flight, and V tiles
  int producer_registers, consumer_registers;  // sum over warpgroups: at most what the block starts with
  Queries queries;
  int output_passes;  // in which O leaves, as much shared memory as there is
  // After the exponentials of so many columns a consumer waits for the product with V that runs under them; the others
  // then hide the rounding of P, which that product reads until it is done.
  int wait_column;

  constexpr int consumers() const { return Br / 64; }  // warpgroups
  constexpr int threads() const { return 128 * (consumers() + 1); }
};

// A consumer thread holds Bc / 2 words of S, Bc / 4 of P, head_dim / 2 of O, head_dim / 4 of Q if it keeps them, and
// some 28 others.
constexpr TileShape ShapeOf(int head_dim) {
  using enum Queries;
  // 128 + 28 words leave no room for Q, but three warpgroups hide one another's exponentials, which take as long as the
  // products here: 20 % faster than two. Nor does waiting early gain anything then.
  if (head_dim <= 64) return {192, 128, 4, 32, 160, kInShared, 1, 128};
  // 168 and 192 words: Q fits, and its shared memory can take the next tile's at once. That saves a third of what the
  // products read from shared memory: 2 to 4 %.
  if (head_dim <= 128) return {128, 128, 2, 40, 232, kInRegisters, 1, 32};
  // 168 words: Q does not fit. 192 KB of tiles leave room for a third of O.
  if (head_dim <= 192) return {128, 96, 2, 40, 232, kInShared, 3, 96};
  // 176 words, and 192 KB again: room for half of O.
  return {128, 64, 2, 40, 232, kInShared, 2, 16};
}

// Everything that is known when the kernel is compiled. Images of tiles are chunks of 64 columns (ptx.cuh); the last of
// 96 columns is half empty.
template <class T_, int D_>
struct Config {
  using T = T_;
  static constexpr int D = D_;
  static constexpr TileShape kShape = ShapeOf(D);
  static constexpr int Br = kShape.Br, Bc = kShape.Bc, kStages = kShape.stages;
  static constexpr int kConsumers = kShape.consumers(), kConsumerWarps = 4 * kConsumers, kThreads = kShape.threads();
  static constexpr bool kQueriesInRegisters = kShape.queries == Queries::kInRegisters;
  // Where Q stays in shared memory, that of the next tile should be there before the last product with this one's.
  static constexpr int kQueryStages = !kQueriesInRegisters && D <= 64 ? 2 : 1;
  static constexpr int kOutputPasses = kShape.output_passes;
  static constexpr int kChunks = (D + 63) / 64;
  static constexpr int kQueryChunkBytes = 64 * 128, kKeyChunkBytes = Bc * 128;
  static constexpr int kQueryBytes = kChunks * kQueryChunkBytes;  // of one warpgroup
  static constexpr int kOutputChunks = kChunks / kOutputPasses;   // of one pass
  static constexpr int kOutputBytes = kOutputChunks * kQueryChunkBytes;
  static_assert(kOutputChunks * kOutputPasses == kChunks);
  static constexpr int kKeyBytes = kChunks * kKeyChunkBytes;  // V's too
  static_assert(kShape.producer_registers + kConsumers * kShape.consumer_registers <=
                    65536 / kThreads / 8 * 8 * (kConsumers + 1),
                "setmaxnreg would wait forever for registers that the block does not have");
};

// Query tiles that the producer hands to the consumers: one that leaves, one at work, one ahead.
inline constexpr int kWorkSlots = 3;

// What the barriers between producer and consumers guard.
template <class C>
using KeyRing = Ring<C::kStages, C::kConsumerWarps>;
template <class C>
using ValueRing = Ring<C::kStages, C::kConsumerWarps>;
template <class C>
using QueryRing = Ring<C::kQueryStages, 4>;  // one a consumer warpgroup
template <class C>
using WorkRing = Ring<kWorkSlots, C::kConsumerWarps>;

// Addresses in shared memory. Tiles begin at multiples of 1024.
template <class C>
class Shared {
 public:
  __device__ explicit Shared(uint32_t base) : base_(base) {}

  __device__ uint32_t Q(int consumer, int stage) const {
    return base_ + (stage * C::kConsumers + consumer) * C::kQueryBytes;
  }
  __device__ uint32_t K(int stage) const { return base_ + kK + stage * C::kKeyBytes; }
  __device__ uint32_t V(int stage) const { return base_ + kV + stage * C::kKeyBytes; }
  __device__ uint32_t O(int consumer) const { return base_ + kO + consumer * C::kOutputBytes; }
  __device__ uint32_t work(int slot) const { return base_ + kWork + slot * kWorkBytes; }

  __device__ KeyRing<C> keys() const { return KeyRing<C>(base_ + kKeyRing); }
  __device__ ValueRing<C> values() const { return ValueRing<C>(base_ + kValueRing); }
  __device__ QueryRing<C> queries(int consumer) const {
    return QueryRing<C>(base_ + kQueryRings + consumer * QueryRing<C>::kBytes);
  }
  __device__ WorkRing<C> works() const { return WorkRing<C>(base_ + kWorkRing); }

  __device__ void InitBarriers() const {
    keys().Init(), values().Init(), works().Init();
    for (int consumer = 0; consumer < C::kConsumers; ++consumer) queries(consumer).Init();
  }

 private:
  static constexpr int kWorkBytes = 128;
  static constexpr int kK = C::kQueryStages * C::kConsumers * C::kQueryBytes, kV = kK + C::kStages * C::kKeyBytes;
  static constexpr int kO = kV + C::kStages * C::kKeyBytes, kWork = kO + C::kConsumers * C::kOutputBytes;
  static constexpr int kKeyRing = kWork + kWorkSlots * kWorkBytes;
  static constexpr int kValueRing = kKeyRing + KeyRing<C>::kBytes;
  static constexpr int kQueryRings = kValueRing + ValueRing<C>::kBytes;
  static constexpr int kWorkRing = kQueryRings + C::kConsumers * QueryRing<C>::kBytes;

  uint32_t base_;

 public:
  static constexpr int kBytes = kAlignment + kWorkRing + WorkRing<C>::kBytes;
  static_assert(kBytes <= 227 * 1024);
};

}  // namespace bitflash::gpu::fa3

#endif  // BITFLASH_GPU_FA3_TILE_CUH_
