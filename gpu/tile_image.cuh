// Tiles in shared memory: how they get there, and the ldmatrix addresses of their fragments.
#ifndef BITFLASH_GPU_TILE_IMAGE_CUH_
#define BITFLASH_GPU_TILE_IMAGE_CUH_

#include <cstdint>

#include "gpu/kernels.h"
#include "gpu/ptx.cuh"

namespace bitflash::gpu {

// The first element of one head of one sequence.
template <class T, class Pointer>
__device__ __forceinline__ T* HeadOf(Pointer tensor, const Strides& strides, int64_t batch, int64_t head) {
  return static_cast<T*>(tensor) + batch * strides.batch + head * strides.head;
}

// Bytes of an R x D tile of 16-bit elements. Tiles begin at multiples of 128 bytes.
template <int R, int D>
inline constexpr int kTileBytes = R* D * 2;

// Rows [row, row + R) of a matrix of `rows` rows to shared memory, by all kThreads threads; zeros beyond the last row,
// unless the caller knows that the tile is whole. `matrix` is the first element of row 0, `stride` the elements from
// row to row.
template <int R, int D, int kThreads, bool kWhole = false, class T>
__device__ __forceinline__ void LoadTile(uint32_t to, const T* matrix, int64_t stride, int row, int rows, int thread) {
  constexpr int kUnits = D / 8;  // of 16 bytes a row
  // After so many passes a thread is back in its column, a multiple of 8 rows further down, where units are exchanged
  // alike: one address each, then constant steps.
  constexpr int kCycle = kThreads % (8 * kUnits) == 0 ? 1 : 2 * kThreads % (8 * kUnits) == 0 ? 2 : 3;
  constexpr int kStep = kCycle * kThreads / kUnits, kRounds = R / kStep;
  static_assert(kStep % 8 == 0 && kStep * kUnits == kCycle * kThreads && kRounds * kStep == R);
#pragma unroll
  for (int pass = 0; pass < kCycle; ++pass) {
    const int unit = thread + pass * kThreads, r = unit / kUnits, u = unit % kUnits;
    const uint32_t at = to + UnitOffset<R, D>(r, u);
    const int row_bytes = D % 64 == 0 || u < D / 64 * 8 ? 128 : 64;
    const T* from = matrix + (row + r) * stride + u * 8;
#pragma unroll
    for (int round = 0; round < kRounds; ++round, from += kStep * stride) {
      CpAsync16(at + round * kStep * row_bytes, from, kWhole || row + r + round * kStep < rows);
    }
  }
}

// The ldmatrix addresses of one lane in an R x D tile. A step is 16 columns, two units of 16 bytes; the lane reads unit
// `half` of its row in each. Rows a multiple of 16 (with D % 64 == 0: of 8) apart have addresses a constant apart.
template <int R, int D>
class LaneAddresses {
 public:
  __device__ __forceinline__ LaneAddresses(uint32_t tile, int row, int half)
      : chunks_(tile + UnitOffset<R, D>(row, half)), tail_(tile + UnitOffset<R, D>(row, D / 64 * 8 + half)) {}

  // Of step `step` of the row `rows` below the lane's.
  __device__ __forceinline__ uint32_t At(int step, int rows) const {
    // The two low bits of the step meet the row's exchange by XOR.
    if (step < D / 64 * 4) return (chunks_ ^ (step % 4 << 5)) + step / 4 * (R * 128) + rows * 128;
    return (tail_ ^ (step % 2 << 5)) + rows * 64;
  }
  // The same lane in the tile `bytes` further on.
  __device__ __forceinline__ void Advance(int bytes) {
    chunks_ += bytes;
    tail_ += bytes;
  }

 private:
  uint32_t chunks_, tail_;
};

// The same in a tile that lies row by row (MakeRowsMap): D / 64 lines of 128 bytes a row, in which units are exchanged
// by XOR with the line's number modulo 8.
template <int D>
class RowLaneAddresses {
 public:
  __device__ __forceinline__ RowLaneAddresses(uint32_t tile, int row, int half) {
#pragma unroll
    for (int c = 0; c < kLines; ++c) {
      const int line = row * kLines + c;
      lines_[c] = tile + line * 128 + ((half ^ (line % 8)) << 4);
    }
  }

  // `rows` is a multiple of 8.
  __device__ __forceinline__ uint32_t At(int step, int rows) const {
    return (lines_[step / 4] ^ (step % 4 << 5)) + rows * (kLines * 128);
  }

 private:
  static constexpr int kLines = D / 64;
  uint32_t lines_[kLines];
};

// Row and unit of the lane for operand A (a[0..3] of Mma, 16 rows) and for V as operand B (ldmatrix.trans, 16 keys):
// matrices 0, 1 are rows 0-7 and 8-15 of the first unit, 2, 3 of the second.
__device__ __forceinline__ int LaneRowA(int lane) { return lane & 15; }
__device__ __forceinline__ int LaneHalfA(int lane) { return lane >> 4; }
// For K as operand B, 16 keys: matrices 0, 1 are both units of keys 0-7 (b0, b1 of the first eight columns of S), 2, 3
// of keys 8-15.
__device__ __forceinline__ int LaneRowB(int lane) { return (lane & 7) + ((lane >> 4) << 3); }
__device__ __forceinline__ int LaneHalfB(int lane) { return (lane >> 3) & 1; }

}  // namespace bitflash::gpu

#endif  // BITFLASH_GPU_TILE_IMAGE_CUH_
