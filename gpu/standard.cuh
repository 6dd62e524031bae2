// What the three kernels of standard attention share: the problem as they see it, and which keys a query tile visits.
#ifndef BITFLASH_GPU_STANDARD_CUH_
#define BITFLASH_GPU_STANDARD_CUH_

#include <cstdint>

#include "gpu/kernels.h"

namespace bitflash::gpu {

inline constexpr int kKeysPerTile = 128;  // Bc

// Extents fit 32 bits (Refusal in standard_forward.cu), offsets do not.
struct StandardProblem {
  int Br = 0;  // query rows of a tile
  int seqlen_q = 0, seqlen_k = 0, head_dim = 0;
  int heads_q = 0;  // of one sequence
  int group = 1;    // query heads that share a KV head
  int heads = 0;    // of all sequences: batch * heads_q
  int query_tiles = 0;
  // Query row i sees keys [i + first_offset, i + end_offset) of those that exist.
  int first_offset = 0, end_offset = 0;
  bool full = false;  // every row sees every key
  float scale = 0, scale_log2 = 0;
  Strides q_strides, k_strides, v_strides, o_strides;
  int64_t pitch = 0;  // elements from one row of S or P to the next: whole 128-byte lines

  // Keys rounded up to a 16-byte vector of a 16-bit row. S is written, and P read, up to here: the columns that are no
  // keys hold -inf and +0.
  __host__ __device__ int padded_keys() const { return (seqlen_k + 7) / 8 * 8; }
  __host__ __device__ int64_t score_row(int head, int row) const {
    return (static_cast<int64_t>(head) * seqlen_q + row) * pitch;
  }
};

// A half-open interval.
struct Interval {
  int begin = 0, end = 0;
  __host__ __device__ int count() const { return end - begin; }
};

__host__ __device__ inline int Least(int a, int b) { return a < b ? a : b; }
__host__ __device__ inline int Most(int a, int b) { return a > b ? a : b; }

// Keys that a query row sees.
__host__ __device__ inline Interval VisibleKeys(const StandardProblem& p, int row) {
  const int begin = Least(Most(row + p.first_offset, 0), p.seqlen_k);
  return {begin, Most(begin, Least(row + p.end_offset, p.seqlen_k))};
}

// Key tiles that some row of query tile i sees. Both ends of what a row sees never decrease from one row to the next.
__host__ __device__ inline Interval KeyTiles(const StandardProblem& p, int i) {
  const Interval top = VisibleKeys(p, i * p.Br);
  const Interval bottom = VisibleKeys(p, Least(p.seqlen_q, (i + 1) * p.Br) - 1);
  const int end = Most(top.end, bottom.end);
  if (top.begin >= end) return {};
  return {top.begin / kKeysPerTile, (end + kKeysPerTile - 1) / kKeysPerTile};
}

// The columns of these tiles that are keys.
__host__ __device__ inline Interval Columns(const StandardProblem& p, Interval tiles) {
  return {tiles.begin * kKeysPerTile, Least(tiles.end * kKeysPerTile, p.seqlen_k)};
}

// True when some row of query tile i does not see some column of key tile j, columns beyond the keys included.
__host__ __device__ inline bool IsMasked(const StandardProblem& p, int i, int j) {
  const Interval top = VisibleKeys(p, i * p.Br);
  const Interval bottom = VisibleKeys(p, Least(p.seqlen_q, (i + 1) * p.Br) - 1);
  return bottom.begin > j * kKeysPerTile || top.end < (j + 1) * kKeysPerTile;
}

}  // namespace bitflash::gpu

#endif  // BITFLASH_GPU_STANDARD_CUH_
