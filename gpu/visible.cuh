// Which keys a query row sees and which key tiles a query tile must visit: the masks of data/mask.h, as the kernels
// need them. Written here once more on purpose (sim/runs.h and reference/visible.h say the same): a wrong mask cannot
// hide in shared code.
#ifndef BITFLASH_GPU_VISIBLE_CUH_
#define BITFLASH_GPU_VISIBLE_CUH_

#include <algorithm>
#include <cstdint>

#include "data/attention.h"

namespace bitflash::gpu {

// Row i sees the keys max(0, i + low) <= j < min(keys, i + high).
struct Visible {
  int low = 0, high = 0;
  int keys = 0;

  __host__ __device__ int Begin(int row) const { return Clamp(static_cast<int64_t>(row) + low); }
  __host__ __device__ int End(int row) const { return Clamp(static_cast<int64_t>(row) + high); }

 private:
  __host__ __device__ int Clamp(int64_t key) const {
    return static_cast<int>(key < 0 ? 0 : key > keys ? static_cast<int64_t>(keys) : key);
  }
};

// For `keys` keys, which is seqlen_k or the length of one sequence. Offsets beyond any row limit nothing.
__host__ __device__ inline Visible VisibleKeys(const data::Mask& mask, int64_t seqlen_q, int keys) {
  constexpr int64_t kBeyond = INT32_MAX;
  const int64_t shift = keys - seqlen_q;  // bottom-right: the last row is aligned with the last key
  int64_t low = -kBeyond, high = kBeyond;
  switch (mask.kind) {
    case data::Mask::Kind::kFull:
      break;
    case data::Mask::Kind::kCausal:
      high = shift + 1;
      break;
    case data::Mask::Kind::kCausalTopLeft:
      high = 1;
      break;
    case data::Mask::Kind::kWindow:
      if (mask.left >= 0 && mask.left < kBeyond) low = shift - mask.left;
      if (mask.right >= 0 && mask.right < kBeyond) high = shift + mask.right + 1;
      break;
  }
  const auto clamp = [](int64_t x) { return static_cast<int>(x < -kBeyond ? -kBeyond : x > kBeyond ? kBeyond : x); };
  return {clamp(low), clamp(high), keys};
}

// The key tiles [begin, end) that rows [row, row_end) see, and which of them every one of these rows sees whole:
// [plain_begin, plain_end). Both may be empty.
struct TileRange {
  int begin = 0, end = 0, plain_begin = 0, plain_end = 0;
};
template <int Bc>
__host__ __device__ inline TileRange VisibleTiles(const Visible& visible, int row, int row_end) {
  TileRange tiles;
  const int first_key = visible.Begin(row), last_key = visible.End(row_end - 1);
  if (first_key >= last_key) return tiles;
  tiles.begin = first_key / Bc;
  tiles.end = (last_key + Bc - 1) / Bc;
  tiles.plain_begin = (visible.Begin(row_end - 1) + Bc - 1) / Bc;
  tiles.plain_end = visible.End(row) / Bc;
  return tiles;
}

}  // namespace bitflash::gpu

#endif  // BITFLASH_GPU_VISIBLE_CUH_
