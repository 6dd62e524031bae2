// Which query tile a block works on and when: the order of tiles, and what there is to know of one. Never decides bits.
#ifndef BITFLASH_GPU_FA3_SCHEDULE_CUH_
#define BITFLASH_GPU_FA3_SCHEDULE_CUH_

#include <cuda.h>

#include "gpu/fa3_tile.cuh"
#include "gpu/row_math.cuh"
#include "gpu/tensor_map.h"
#include "gpu/visible.cuh"

namespace bitflash::gpu::fa3 {

// Division by a number that the host knows: a product and a shift (Granlund and Montgomery 1994, Theorem 4.2).
class Divisor {
 public:
  constexpr Divisor() = default;
  constexpr explicit Divisor(uint32_t divisor) : divisor_(divisor) {  // 1 to 2^31 - 1
    while ((uint64_t{1} << shift_) < divisor) ++shift_;
    multiplier_ = static_cast<uint32_t>(((uint64_t{1} << (31 + shift_)) + divisor - 1) / divisor);
  }
  // quotient and remainder of 0 <= n < 2^31.
  __host__ __device__ constexpr int Divide(int n, int& remainder) const {
    const int quotient = static_cast<int>(uint64_t{static_cast<uint32_t>(n)} * multiplier_ >> (31 + shift_));
    remainder = n - quotient * static_cast<int>(divisor_);
    return quotient;
  }

 private:
  uint32_t divisor_ = 1, multiplier_ = 1u << 31;
  int shift_ = 0;
};

constexpr bool Divides(uint32_t divisor, int n) {
  int remainder = 0;
  const int quotient = Divisor(divisor).Divide(n, remainder);
  return quotient == n / static_cast<int>(divisor) && remainder == n % static_cast<int>(divisor);
}
static_assert(Divides(1, INT32_MAX) && Divides(3, INT32_MAX) && Divides(7, 6) && Divides(INT32_MAX, INT32_MAX) &&
              Divides(INT32_MAX, INT32_MAX - 1) && Divides(641, 640) && Divides(641, 641) &&
              Divides(1 << 30, INT32_MAX));

// Tiles of all heads of all sequences (a head here is batch * heads_q + head). Sections of some heads follow one
// another, so that their K and V stay in L2; in a section, query tiles one after another, its heads innermost.
struct TileOrder {
  int tiles = 0;
  int query_tiles = 0;    // of a head
  int section_heads = 0;  // of all sections but the last
  int last_section = 0;
  Divisor section_tiles;
  Divisor heads_in_section, heads_in_last;
  bool longest_first = false;  // from the last query tile, which sees most keys, to the first

  struct Place {
    int head, query_tile;
  };
  __device__ Place At(int tile) const {
    int in_section, in_row;
    const int section = section_tiles.Divide(tile, in_section);
    const int row = (section == last_section ? heads_in_last : heads_in_section).Divide(in_section, in_row);
    return {section * section_heads + in_row, longest_first ? query_tiles - 1 - row : row};
  }
};

// Lengths are at most 2^30, so an offset of a mask of this many keys limits no row, and a row plus an offset is an int.
inline constexpr int kUnlimited = 1 << 30;
__host__ __device__ constexpr int Limited(int offset) {
  return offset < -kUnlimited ? -kUnlimited : offset > kUnlimited ? kUnlimited : offset;
}

struct Parameters {
  CUtensorMap q_map, k_map, v_map, o_map;  // boxes: 64 rows, Bc, Bc, 16
  float* lse;
  int seqlen_q;  // rows of a head; of the longest sequence
  Divisor heads_q, group;
  int heads;        // query heads of a sequence
  int query_step;   // 0: all rows of a tile are heads of one query, which see the same keys; otherwise 1
  Visible visible;  // offsets at most kUnlimited
  Scale scale;
  TileOrder order;
  int* next_tile;  // counts tiles that were handed out beyond the first of each block; null: every gridDim.x-th

  // Sequences of different lengths, packed (Tensors::cu_seqlens_q): null or both.
  const int32_t *cu_seqlens_q, *cu_seqlens_k;
  int turns;          // the maps' last coordinate: kPackedTurns, or 0
  bool bottom_right;  // `visible` is then that of sequences with as many keys as rows; otherwise of any
};

// Of one of several sequences. What is unlimited stays so.
__device__ __forceinline__ Visible VisibleInSequence(const Parameters& p, int rows, int keys) {
  const int shift = p.bottom_right ? keys - rows : 0;
  const auto moved = [&](int offset) {
    return offset == kUnlimited || offset == -kUnlimited ? offset : Limited(offset + shift);
  };
  return {moved(p.visible.low), moved(p.visible.high), keys};
}

// A query tile. The producer finds out, the consumers read it in shared memory.
struct Work {
  int row0;  // first query row; kNone: there is no more work
  int rows;  // of the sequence
  int batch, head;
  int q_row, q_batch;          // where the maps have row0
  int k_row, k_head, k_batch;  // where the maps have key 0
  Visible visible;
  int begin, end;                    // key tiles that some row sees; where there are none, one that nobody sees
  int own_end[3];                    // of each consumer, after the last that one of its rows sees; at least begin + 1
  int plain_begin[3], plain_end[3];  // those that all rows of a consumer see whole

  static constexpr int kNone = -1;
};

// Where a map of packed sequences has row 0 of one of them (MakePackedMap in tensor_map.h): so that TMA itself reads
// zeros and writes nothing beyond its end.
__device__ __forceinline__ void PlaceInPacked(const int32_t* cu_seqlens, int sequence, int& length, int& row,
                                              int& batch) {
  batch = cu_seqlens[sequence + 1];
  length = batch - cu_seqlens[sequence];
  row = kPackedRows - length;
}

// False when the tile has no rows.
template <class C>
__device__ __forceinline__ bool FindWork(const Parameters& p, int tile, Work& work) {
  const TileOrder::Place place = p.order.At(tile);
  work.batch = p.heads_q.Divide(place.head, work.head);
  int in_group;
  work.k_head = p.group.Divide(work.head, in_group);
  work.row0 = place.query_tile * C::Br;
  work.rows = p.seqlen_q;
  work.q_row = work.row0;
  work.q_batch = work.k_batch = work.batch;
  work.k_row = 0;
  work.visible = p.visible;
  if (p.cu_seqlens_q != nullptr) {
    int length, shift;
    PlaceInPacked(p.cu_seqlens_q, work.batch, work.rows, shift, work.q_batch);
    work.q_row += shift;
    if (work.row0 >= work.rows) return false;
    PlaceInPacked(p.cu_seqlens_k, work.batch, length, work.k_row, work.k_batch);
    work.visible = VisibleInSequence(p, work.rows, length);
  }
  const int last_row = min(work.row0 + C::Br, work.rows) - 1;
  const TileRange tiles = VisibleTiles<C::Bc>(work.visible, work.row0 * p.query_step, last_row * p.query_step + 1);
  work.begin = tiles.begin;
  work.end = max(tiles.end, tiles.begin + 1);
#pragma unroll 1
  for (int consumer = 0; consumer < C::kConsumers; ++consumer) {
    const int row = (work.row0 + 64 * consumer) * p.query_step;
    const TileRange plain = VisibleTiles<C::Bc>(work.visible, row, row + 63 * p.query_step + 1);
    work.plain_begin[consumer] = plain.begin < plain.end ? plain.plain_begin : INT32_MAX;
    work.plain_end[consumer] = plain.plain_end;
    const bool has_rows = work.row0 + 64 * consumer < work.rows;
    work.own_end[consumer] = min(max(has_rows ? plain.end : 0, work.begin + 1), work.end);
  }
  return true;
}

// The tiles of one block.
class BlockTiles {
 public:
  __device__ explicit BlockTiles(const Parameters& p) : p_(p) {}

  __device__ bool done() const { return tile_ >= p_.order.tiles; }
  __device__ int tile() const { return tile_; }
  // Asks for the tile after this one. The answer is needed by Advance only.
  __device__ void Draw() {
    next_ =
        p_.next_tile ? static_cast<int>(gridDim.x) + atomicAdd(p_.next_tile, 1) : tile_ + static_cast<int>(gridDim.x);
  }
  __device__ void Advance() { tile_ = next_; }

 private:
  const Parameters& p_;
  int tile_ = static_cast<int>(blockIdx.x), next_ = 0;
};

}  // namespace bitflash::gpu::fa3

#endif  // BITFLASH_GPU_FA3_SCHEDULE_CUH_
