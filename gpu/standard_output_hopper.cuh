// O = P V with wgmma: a block computes kBr rows and kColumns columns of O.
#ifndef BITFLASH_GPU_STANDARD_OUTPUT_HOPPER_CUH_
#define BITFLASH_GPU_STANDARD_OUTPUT_HOPPER_CUH_

#include "gpu/standard_hopper.cuh"

namespace bitflash::gpu {

template <int kColumns, int kBr>
struct OutputShared {
  static constexpr int kKeys = 64;  // of a stage: 128 bytes of a row of P
  static constexpr int kPBytes = kBr * 128, kVBytes = kKeys * kColumns * 2;
  static constexpr int kStageBytes = kPBytes + kVBytes;
  static constexpr int kStages = (230000 - kAlignment) / kStageBytes;  // bytes in flight are what counts
  static constexpr int kBarriers = kStages * kStageBytes;
  static constexpr int kBytes = kAlignment + kBarriers + Ring<kStages, kConsumerWarps>::kBytes;
};

namespace hopper {

template <class T, int kColumns, int kBr>
__global__ void __launch_bounds__(kHopperThreads, 1)
    standard_output(const __grid_constant__ StandardProblem p, const __grid_constant__ CUtensorMap p_map,
                    const __grid_constant__ CUtensorMap v_map, const __grid_constant__ CUtensorMap o_map) {
#if BITFLASH_HOPPER_DEVICE
  extern __shared__ unsigned char raw[];
  using Shared = OutputShared<kColumns, kBr>;
  const uint32_t shared = AlignedShared(raw);
  Ring<Shared::kStages, kConsumerWarps> ring(shared + Shared::kBarriers);
  if (threadIdx.x == 0) {
    ring.Init();
    PrefetchMap(p_map), PrefetchMap(v_map), PrefetchMap(o_map);
  }
  __syncthreads();

  // Neighbouring blocks take the columns of one query tile, so that P comes from HBM once; then, from the last query
  // tile (the longest under a causal mask) to the first, those that share V.
  const int slices = (p.head_dim + kColumns - 1) / kColumns;
  const int column = blockIdx.x % slices * kColumns;
  const int i = p.query_tiles - 1 - blockIdx.x / slices % p.query_tiles, head = blockIdx.x / slices / p.query_tiles;
  const int b = head / p.heads_q, h = head % p.heads_q;
  const Interval keys = Columns(p, KeyTiles(p, i));
  const int steps = (keys.count() + Shared::kKeys - 1) / Shared::kKeys;

  const int group = WarpGroup();
  if (group == 0) {
    LowerRegisters<kProducerRegisters>();
    if (threadIdx.x != 0) return;
    for (int step = 0; step < steps; ++step, ring.Advance()) {
      const int key = keys.begin + step * Shared::kKeys;
      ring.WaitEmpty();
      const uint32_t Ps = shared + ring.stage() * Shared::kStageBytes, Vs = Ps + Shared::kPBytes;
      MbarrierArriveExpect(ring.full(), Shared::kStageBytes);
      TmaLoad(Ps, p_map, ring.full(), slices == 1 ? kEvictFirst : kEvictNormal, key, i * kBr, head, 0);
#pragma unroll
      for (int chunk = 0; chunk < kColumns / 64; ++chunk) {
        TmaLoad(Vs + chunk * (Shared::kKeys * 128), v_map, ring.full(), kEvictLast, column + chunk * 64, key,
                h / p.group, b);
      }
    }
    return;
  }

  RaiseRegisters<kConsumerRegisters>();
  constexpr int kUnits = kBr / 128;
  const int warp = WarpOfGroup();
  const int group_row = (group - 1) * (kBr / 2);
  float O[kUnits][kColumns / 2];
  int previous = 0;
  for (int step = 0; step < steps; ++step, ring.Advance()) {
    ring.WaitFull();
    const uint32_t stage = shared + ring.stage() * Shared::kStageBytes;
    const uint64_t P = RowMajorOperand(stage + group_row * 128);
    const uint64_t V = ColumnMajorOperand<Shared::kKeys>(stage + Shared::kPBytes);
    WgmmaFence();
    // Keys beyond the last are zeros in P and in V: products that change no bit.
#pragma unroll
    for (int k = 0; k < Shared::kKeys / 16; ++k) {
#pragma unroll
      for (int n = 0; n < kUnits; ++n) {
        Wgmma<T, true>(O[n], P + n * (64 * 128 / 16) + k * 2, V + k * (16 * 128 / 16), step + k != 0);
      }
    }
    WgmmaCommit();
    if (step > 0) {
      WgmmaWait<1>();
      ring.Release(previous);
    }
    previous = ring.stage();
  }
  WgmmaWait<0>();
#pragma unroll
  for (int n = 0; n < kUnits; ++n) {
    Pin(O[n]);
    if (steps > 0) continue;
#pragma unroll
    for (int e = 0; e < kColumns / 2; ++e) O[n][e] = 0;  // no row sees a key
  }

  // Nothing is in flight any more. O leaves through the warpgroup's rows of P, the c-th 64 columns through stage c.
  NamedBarrier(group, 128);
#pragma unroll
  for (int n = 0; n < kUnits; ++n) {
    const int row = group_row + n * 64 + warp * 16;
    StageRows<T>(shared + row * 128, Shared::kStageBytes, O[n]);
    StoreRows<T, kColumns>(o_map, shared + row * 128, Shared::kStageBytes, kEvictNormal, column, i * kBr + row, h, b);
  }
  if (threadIdx.x % 32 == 0) TmaStoreWait();
#else
  NotForThisDevice();
#endif
}

}  // namespace hopper
}  // namespace bitflash::gpu

#endif  // BITFLASH_GPU_STANDARD_OUTPUT_HOPPER_CUH_
