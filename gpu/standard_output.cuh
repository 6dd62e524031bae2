// O = P V with mma.sync: one block computes 128 rows and up to 128 columns of O. The portable twin of OutputBlock in
// sim/kernels/standard_forward.cc.
#ifndef BITFLASH_GPU_STANDARD_OUTPUT_CUH_
#define BITFLASH_GPU_STANDARD_OUTPUT_CUH_

#include "gpu/standard_tile.cuh"

namespace bitflash::gpu {

inline constexpr int kOutputColumns = 128;  // of O that one block computes; 64 when head_dim is 64
inline constexpr int kOutputKeys = 64;      // of P and V in one stage: 128 bytes of a row of P

template <int kColumns, int kStages>
constexpr int kOutputSharedBytes = kStages*(128 * kOutputKeys + kOutputKeys * kColumns) * 2;

template <class T, int kColumns, int kStages>
__global__ void __launch_bounds__(kTileThreads, 2)
    standard_output(const __grid_constant__ StandardProblem p, const T* probabilities, const T* v, T* o) {
  extern __shared__ __align__(16) unsigned char shared[];
  constexpr int kPBytes = 128 * kOutputKeys * 2, kVBytes = kOutputKeys * kColumns * 2;
  // Neighbouring blocks take the columns of one query tile, so that P comes from HBM once; then, from the last query
  // tile (the longest under a causal mask) to the first, those that share V.
  const int slices = (p.head_dim + kColumns - 1) / kColumns;
  const int n = blockIdx.x % slices;
  const int i = p.query_tiles - 1 - blockIdx.x / slices % p.query_tiles, head = blockIdx.x / slices / p.query_tiles;
  const Interval keys = Columns(p, KeyTiles(p, i));
  const int steps = (keys.count() + kOutputKeys - 1) / kOutputKeys;

  const int rows = Least(128, p.seqlen_q - i * 128), columns = Least(kColumns, p.head_dim - n * kColumns);
  const int b = head / p.heads_q, h = head % p.heads_q;
  const T* P = probabilities + p.score_row(head, i * 128) + keys.begin;
  const T* V = v + b * p.v_strides.batch + h / p.group * p.v_strides.head + keys.begin * p.v_strides.row + n * kColumns;
  const uint32_t base = SharedAddress(shared);
  const auto copy = [&](int step) {
    if (step < steps) {
      const uint32_t to = base + step % kStages * (kPBytes + kVBytes);
      const int key = step * kOutputKeys, count = keys.count() - key;
      // The last vector of a row of P may end in columns that are no keys: softmax has left zeros there.
      CopyTile<128>(to, GlobalTile<T>{P + key, p.pitch, rows, count});
#pragma unroll
      for (int chunk = 0; chunk < kColumns / 64; ++chunk) {
        CopyTile<kOutputKeys>(
            to + kPBytes + chunk * (kOutputKeys * 128),
            GlobalTile<T>{V + key * p.v_strides.row + chunk * 64, p.v_strides.row, count, columns - chunk * 64});
      }
    }
    CpAsyncCommit();  // an empty group keeps the count
  };

  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int row = warp / 2 * 64, column = warp % 2 * (kColumns / 2);
  constexpr int kPairs = kColumns / 2 / 16;  // 16-column fragments of the warp
  const uint32_t p_row = base + (row + lane % 16) * 128;
  const uint32_t p_unit = ((lane / 16) ^ (lane % 8)) << 4;
  uint32_t v_unit[kPairs];  // V as the transposed B operand: key lane % 16, columns 8 (lane / 16)
#pragma unroll
  for (int d = 0; d < kPairs; ++d) {
    v_unit[d] = base + kPBytes + UnitOffset<kOutputKeys, kColumns>(lane % 16, column / 8 + 2 * d + lane / 16);
  }

  float O[4][2 * kPairs][4] = {};
#pragma unroll
  for (int step = 0; step < kStages - 1; ++step) copy(step);
  uint32_t stage = 0;
  for (int step = 0; step < steps; ++step) {
    CpAsyncWait<kStages - 2>();
    __syncthreads();  // the tiles are there, and those of the step before are free
    copy(step + kStages - 1);
#pragma unroll
    for (int t = 0; t < kOutputKeys / 16; ++t) {
      uint32_t Pf[4][4];
#pragma unroll
      for (int a = 0; a < 4; ++a) LdMatrix(Pf[a], p_row + stage + a * 2048 + (p_unit ^ (t << 5)));
#pragma unroll
      for (int d = 0; d < kPairs; ++d) {
        uint32_t Vf[4];
        LdMatrixTransposed(Vf, v_unit[d] + stage + t * 2048);
#pragma unroll
        for (int a = 0; a < 4; ++a) {
          Mma<T>(O[a][2 * d], Pf[a], Vf[0], Vf[1]);
          Mma<T>(O[a][2 * d + 1], Pf[a], Vf[2], Vf[3]);
        }
      }
    }
    stage = stage == (kStages - 1) * (kPBytes + kVBytes) ? 0 : stage + kPBytes + kVBytes;
  }

  CpAsyncWait<0>();
  __syncthreads();
  T* out = o + b * p.o_strides.batch + h * p.o_strides.head + int64_t{i} * 128 * p.o_strides.row + n * kColumns;
  WriteTile<T, kColumns>(shared, out, p.o_strides.row, rows, columns, O);
}

}  // namespace bitflash::gpu

#endif  // BITFLASH_GPU_STANDARD_OUTPUT_CUH_
