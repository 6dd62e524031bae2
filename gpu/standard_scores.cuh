// S = Q K^T with mma.sync: one block computes one 128 x 128 tile. The portable twin of ScoresBlocks in
// sim/kernels/standard_forward.cc.
#ifndef BITFLASH_GPU_STANDARD_SCORES_CUH_
#define BITFLASH_GPU_STANDARD_SCORES_CUH_

#include "gpu/standard_tile.cuh"

namespace bitflash::gpu {

// Q and K come in slices of 64 columns, two of them in flight. S leaves through the same memory: 64 KiB as fp32. Two
// blocks share an SM, so that one stores while the other multiplies.
inline constexpr int kScoresSharedBytes = 2 * 2 * 128 * 64 * 2;

// S = -inf where the mask or the end of the keys hides a column from a row. `row` and `column` are those of acc[0][0].
template <int kA, int kB>
__device__ __forceinline__ void Mask(const StandardProblem& p, int row, int column, float (&acc)[kA][kB][4]) {
#pragma unroll
  for (int a = 0; a < kA; ++a) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const Interval keys = VisibleKeys(p, row + 16 * a + 8 * half);
#pragma unroll
      for (int b = 0; b < kB; ++b) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int c = column + 8 * b + e;
          if (c < keys.begin || c >= keys.end) acc[a][b][2 * half + e] = -INFINITY;
        }
      }
    }
  }
}

template <class T, class S>
__global__ void __launch_bounds__(kTileThreads, 2)
    standard_scores(const __grid_constant__ StandardProblem p, const T* q, const T* k, S* s) {
  extern __shared__ __align__(16) unsigned char shared[];
  constexpr int kTileBytes = 128 * 64 * 2;
  // Neighbouring blocks take neighbouring key tiles: together they write whole rows of S, and share Q in L2.
  const int tiles = (p.seqlen_k + kKeysPerTile - 1) / kKeysPerTile;
  const int j = blockIdx.x % tiles, i = blockIdx.x / tiles % p.query_tiles, head = blockIdx.x / tiles / p.query_tiles;
  const Interval visited = KeyTiles(p, i);
  if (j < visited.begin || j >= visited.end) return;

  const int rows = Least(128, p.seqlen_q - i * 128), keys = Least(128, p.seqlen_k - j * 128);
  const int b = head / p.heads_q, h = head % p.heads_q;
  const T* Q = q + b * p.q_strides.batch + h * p.q_strides.head + int64_t{i} * 128 * p.q_strides.row;
  const T* K = k + b * p.k_strides.batch + h / p.group * p.k_strides.head + int64_t{j} * 128 * p.k_strides.row;
  const uint32_t base = SharedAddress(shared);
  const int slices = (p.head_dim + 63) / 64;
  const auto copy = [&](int slice) {
    if (slice < slices) {
      const uint32_t to = base + slice % 2 * (2 * kTileBytes);
      const int columns = p.head_dim - slice * 64;
      CopyTile<128>(to, GlobalTile<T>{Q + slice * 64, p.q_strides.row, rows, columns});
      CopyTile<128>(to + kTileBytes, GlobalTile<T>{K + slice * 64, p.k_strides.row, keys, columns});
    }
    CpAsyncCommit();  // an empty group keeps the count
  };

  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int row = warp / 2 * 64, column = warp % 2 * 64;
  // ldmatrix addresses (UnitOffset, taken apart so that all but the XOR is a constant): Q as the A operand, rows
  // lane % 16, units 2 t and 2 t + 1; K as the B operand, see Mma in ptx.cuh.
  const uint32_t q_row = base + (row + lane % 16) * 128;
  const uint32_t k_row = base + kTileBytes + (column + lane % 8 + lane / 16 * 8) * 128;
  const uint32_t q_unit = ((lane / 16) ^ (lane % 8)) << 4, k_unit = ((lane / 8 % 2) ^ (lane % 8)) << 4;

  float S_acc[4][8][4] = {};
  copy(0);
  copy(1);
  for (int slice = 0; slice < slices; ++slice) {
    CpAsyncWait<1>();
    __syncthreads();
    const uint32_t stage = slice % 2 * (2 * kTileBytes);
    // Columns beyond head_dim are zeros: products that change no bit.
#pragma unroll
    for (int t = 0; t < 4; ++t) {
      uint32_t Qf[4][4], Kf[4][4];
#pragma unroll
      for (int a = 0; a < 4; ++a) LdMatrix(Qf[a], q_row + stage + a * 2048 + (q_unit ^ (t << 5)));
#pragma unroll
      for (int n = 0; n < 4; ++n) LdMatrix(Kf[n], k_row + stage + n * 2048 + (k_unit ^ (t << 5)));
#pragma unroll
      for (int n = 0; n < 4; ++n) {
#pragma unroll
        for (int a = 0; a < 4; ++a) {
          Mma<T>(S_acc[a][2 * n], Qf[a], Kf[n][0], Kf[n][1]);
          Mma<T>(S_acc[a][2 * n + 1], Qf[a], Kf[n][2], Kf[n][3]);
        }
      }
    }
    __syncthreads();
    copy(slice + 2);
  }

  if (IsMasked(p, i, j)) Mask(p, i * 128 + row + lane / 4, j * 128 + column + lane % 4 * 2, S_acc);
  WriteTile<S, 128>(shared, s + p.score_row(head, i * 128) + j * 128, p.pitch, rows, p.padded_keys() - j * 128, S_acc);
}

}  // namespace bitflash::gpu

#endif  // BITFLASH_GPU_STANDARD_SCORES_CUH_
