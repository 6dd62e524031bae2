// How the portable kernels of standard attention move a tile: global to shared memory, and accumulators through shared
// memory to global memory. 128 threads; warps 2 x 2, each of them 64 rows of the tile and half of its columns.
#ifndef BITFLASH_GPU_STANDARD_TILE_CUH_
#define BITFLASH_GPU_STANDARD_TILE_CUH_

#include <cmath>

#include "gpu/ptx.cuh"
#include "gpu/standard.cuh"

namespace bitflash::gpu {

inline constexpr int kTileThreads = 128;

// Rows and columns of a global matrix that exist; the rest of a tile is filled with zeros and not read.
template <class T>
struct GlobalTile {
  const T* data;       // of row 0, column 0 of the tile
  int64_t row_stride;  // elements
  int rows, columns;   // columns up to the next vector of 8
};

// R rows and 64 columns, in the image of ptx.cuh.
template <int R, class T>
__device__ __forceinline__ void CopyTile(uint32_t to, const GlobalTile<T>& from) {
  // Eight neighbouring threads take one row: 128 bytes.
  const int u = threadIdx.x % 8;
#pragma unroll
  for (int step = 0; step < R * 8 / kTileThreads; ++step) {
    const int r = step * (kTileThreads / 8) + threadIdx.x / 8;
    const bool valid = r < from.rows && u * 8 < from.columns;
    CpAsync16(to + UnitOffset<R, 64>(r, u), from.data + (valid ? r * from.row_stride + u * 8 : 0), valid);
  }
}

// Byte offset of column `c` of row r in an image of 128-byte chunks, 128 rows each, of any element type.
template <class E>
__device__ __forceinline__ int ElementOffset(int r, int c) {
  constexpr int kPerUnit = 16 / sizeof(E);
  const int u = c / kPerUnit;
  return u / 8 * (128 * 128) + r * 128 + (((u % 8) ^ (r % 8)) << 4) + c % kPerUnit * static_cast<int>(sizeof(E));
}

// Two neighbouring accumulators as E in shared memory.
template <class E>
__device__ __forceinline__ void StagePair(unsigned char* to, float x, float y) {
  if constexpr (sizeof(E) == 4) {
    *reinterpret_cast<float2*>(to) = {x, y};
  } else {
    *reinterpret_cast<uint32_t*>(to) = Pack<E>(x, y);
  }
}

// Writes a tile of 128 rows and kColumns columns: registers to `stage`, then whole rows in vectors of 16 bytes. Of the
// tile only `rows` and `columns` (rounded up to a vector) exist. acc[a][b] is the m16n8 fragment of rows 16 a and
// columns 8 b of the warp's part. All threads have done with `stage` when they call.
template <class E, int kColumns, int kA, int kB>
__device__ __forceinline__ void WriteTile(unsigned char* stage, E* to, int64_t row_stride, int rows, int columns,
                                          const float (&acc)[kA][kB][4]) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int row = warp / 2 * 64 + lane / 4, column = warp % 2 * (kColumns / 2) + lane % 4 * 2;
#pragma unroll
  for (int a = 0; a < kA; ++a) {
#pragma unroll
    for (int b = 0; b < kB; ++b) {
      const int r = row + 16 * a, c = column + 8 * b;
      StagePair<E>(stage + ElementOffset<E>(r, c), acc[a][b][0], acc[a][b][1]);
      StagePair<E>(stage + ElementOffset<E>(r + 8, c), acc[a][b][2], acc[a][b][3]);
    }
  }
  __syncthreads();
  constexpr int kPerUnit = 16 / sizeof(E), kUnits = kColumns / kPerUnit;
#pragma unroll 4
  for (int n = threadIdx.x; n < 128 * kUnits; n += kTileThreads) {
    const int r = n / kUnits, c = n % kUnits * kPerUnit;
    if (r >= rows || c >= columns) continue;
    *reinterpret_cast<uint4*>(to + r * row_stride + c) =
        *reinterpret_cast<const uint4*>(stage + ElementOffset<E>(r, c));
  }
}

}  // namespace bitflash::gpu

#endif  // BITFLASH_GPU_STANDARD_TILE_CUH_
