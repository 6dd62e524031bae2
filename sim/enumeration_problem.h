// A problem cut into tiles, and what a block moves and multiplies, for sim/enumeration.cc only.
#ifndef BITFLASH_SIM_ENUMERATION_PROBLEM_H_
#define BITFLASH_SIM_ENUMERATION_PROBLEM_H_

#include <algorithm>
#include <set>

#include "sim/enumeration.h"

namespace bitflash::sim::enumeration {

inline constexpr Direction kRead = Direction::kRead, kWrite = Direction::kWrite;
inline constexpr int64_t kSector = 32;  // bytes

inline int64_t RoundUp(int64_t x, int64_t unit) { return (x + unit - 1) / unit * unit; }

// data/mask.h, one pair at a time.
inline bool Visible(const Attention& a, int64_t query, int64_t key) {
  const int64_t offset = key - (query + a.seqlen_k - a.seqlen_q);  // right of the bottom-right diagonal
  switch (a.mask.kind) {
    case data::Mask::Kind::kFull:
      return true;
    case data::Mask::Kind::kCausal:
      return offset <= 0;
    case data::Mask::Kind::kCausalTopLeft:
      return key <= query;
    case data::Mask::Kind::kWindow:
      return (a.mask.left == -1 || -offset <= a.mask.left) && (a.mask.right == -1 || offset <= a.mask.right);
  }
  return false;
}

// Where operand A of a matrix product comes from.
enum class From { kShared, kRegisters };

// The problem cut into tiles. A "row" is a row of the matrix that a block works on: (token, head of the group),
// token-major, when query heads are packed; a token otherwise.
struct Problem {
  const Attention& a;
  const Tiling& t;
  const int64_t bytes = data::StorageBytes(a.format);
  const int64_t packed = t.pack_gqa ? a.heads_q / a.heads_kv : 1;
  const int64_t heads = a.heads_q / packed;  // of blocks, in one sequence
  const int64_t rows = a.seqlen_q * packed;
  const int64_t d = Padded(a.head_dim), dv = Padded(a.head_dim_v);  // columns of tiles: whole matrix instructions
  const bool split = false;                                         // split-kv
  const bool wgmma = false;
  std::vector<std::vector<int64_t>> keys_of;  // query tile -> key tiles with a visible pair

  Problem(const Attention& attention, const Tiling& tiling, const Kernel& kernel)
      : a(attention),
        t(tiling),
        split(kernel.name == "split-kv"),
        wgmma(kernel.name == "fa3" || kernel.name == "cudnn-9.19-sm90" ||
              (split && t.tma && t.Br % 64 == 0 && t.warps == t.Br / 16)) {
    std::vector<std::set<int64_t>> seen((rows + t.Br - 1) / t.Br);
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t key = 0; key < a.seqlen_k; ++key) {
        if (Visible(a, row / packed, key)) seen[row / t.Br].insert(key / t.Bc);
      }
    }
    for (const auto& tiles : seen) keys_of.emplace_back(tiles.begin(), tiles.end());
  }

  int64_t Padded(int64_t head_dim) const { return RoundUp(head_dim, data::StorageBytes(a.format) == 1 ? 32 : 16); }
  int64_t query_tiles() const { return static_cast<int64_t>(keys_of.size()); }
  int64_t row_end(int64_t i) const { return std::min(rows, (i + 1) * t.Br); }
  int64_t key_end(int64_t j) const { return std::min(a.seqlen_k, (j + 1) * t.Bc); }
  // Which matrix of Q (O, S ...) and which of its rows, in the layout of the problem.
  int64_t q_matrix(int64_t b, int64_t h, int64_t row) const { return b * a.heads_q + h * packed + row % packed; }
  int64_t token(int64_t row) const { return row / packed; }
  int64_t kv_matrix(int64_t b, int64_t h) const { return b * a.heads_kv + h * packed / (a.heads_q / a.heads_kv); }

  template <class Body>
  void EachHead(const Body& body) const {
    for (int64_t b = 0; b < a.batch; ++b) {
      for (int64_t h = 0; h < heads; ++h) body(b, h);
    }
  }

  // Rows of query tile i of a tensor with the rows of Q, columns [col, col + cols).
  void MoveRows(EnumeratedLaunch& l, TensorId tensor, Direction direction, int64_t b, int64_t h, int64_t i, int64_t col,
                int64_t cols, int64_t element) const {
    for (int64_t row = i * t.Br; row < row_end(i); ++row)
      l.Move(tensor, direction, q_matrix(b, h, row), token(row), col, cols, element);
  }
  void LoadKeys(EnumeratedLaunch& l, TensorId tensor, int64_t b, int64_t h, int64_t j, int64_t col,
                int64_t cols) const {
    for (int64_t key = j * t.Bc; key < key_end(j); ++key) l.Move(tensor, kRead, kv_matrix(b, h), key, col, cols, bytes);
  }

  // The same without their bytes, which a box brings.
  void UseRows(EnumeratedLaunch& l, TensorId tensor, int64_t b, int64_t h, int64_t i, int64_t col, int64_t cols) const {
    for (int64_t row = i * t.Br; row < row_end(i); ++row)
      l.Use(tensor, kRead, q_matrix(b, h, row), token(row), col, cols, bytes);
  }
  void UseKeys(EnumeratedLaunch& l, TensorId tensor, int64_t b, int64_t h, int64_t j, int64_t col, int64_t cols) const {
    for (int64_t key = j * t.Bc; key < key_end(j); ++key) l.Use(tensor, kRead, kv_matrix(b, h), key, col, cols, bytes);
  }

  // One instruction after the other. `warps` of t.warps.
  void Mma(EnumeratedLaunch& l, TensorId D, TensorId A, From a_from, TensorId B, int64_t m, int64_t n,
           int64_t k) const {
    const int64_t steps = k * bytes / 32;
    l.Flops(2 * m * n * k);
    if (wgmma) {
      const int64_t groups = t.warps / 4, slices = m / 64;
      const int64_t sharers = std::max<int64_t>(1, groups / slices);
      for (int64_t slice = 0; slice < slices; ++slice) {
        for (int64_t g = 0; g < sharers; ++g) {
          for (int64_t left = (g + 1) * n / sharers - g * n / sharers; left > 0; left -= 256) {
            for (int64_t s = 0; s < steps; ++s) {
              a_from == From::kShared ? l.SharedRead(A, 64 * 32) : l.RegisterRead(A, 64 * 32);
              l.SharedRead(B, std::min<int64_t>(left, 256) * 32);
              l.RegisterRead(D, 64 * std::min<int64_t>(left, 256) * 4);
            }
          }
        }
      }
      return;
    }
    // Rows are dealt out in tiles of 16. A warp that has rows loads all of B, unless warps share the columns.
    const int64_t row_tiles = m / 16;
    const int64_t sharers = std::max<int64_t>(1, t.warps / row_tiles);
    for (int64_t warp = 0; warp < std::min(t.warps, row_tiles); ++warp) l.SharedRead(B, n * k * bytes);
    for (int64_t r = 0; r < row_tiles; ++r) {
      if (a_from == From::kShared) l.SharedRead(A, sharers * 16 * k * bytes);
      l.RegisterRead(A, n / 8 * steps * 16 * 32);
      l.RegisterRead(B, n / 8 * steps * 8 * 32);
      l.RegisterRead(D, n / 8 * steps * 16 * 8 * 4);
    }
  }
};

// The tensor of a TMA load, as its map knows it.
struct MappedTensor {
  TensorId id;
  int64_t rows, cols;
};

// A load of `rows` x `cols` elements from (row, col) on, inside the tensor or not, sector by sector of what arrives.
inline void CrossBox(const Problem& p, EnumeratedLaunch& l, const MappedTensor& tensor, int64_t row, int64_t rows,
                     int64_t col, int64_t cols) {
  const int64_t end = tensor.cols * p.bytes;
  for (int64_t r = row; r < row + rows; ++r) {
    for (int64_t at = col * p.bytes; at < (col + cols) * p.bytes; at += kSector) {
      l.Cross(tensor.id, kRead, kSector);
      // Part from L2, part zeros: twice. A row outside is zeros only.
      if (r < tensor.rows && at < end && end < at + kSector) l.Cross(tensor.id, kRead, kSector);
    }
  }
}

}  // namespace bitflash::sim::enumeration

#endif  // BITFLASH_SIM_ENUMERATION_PROBLEM_H_
