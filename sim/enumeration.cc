#include "sim/enumeration.h"

#include <algorithm>
#include <cstdlib>
#include <set>

namespace bitflash::sim {
namespace {

using enum TensorId;
constexpr Direction kRead = Direction::kRead, kWrite = Direction::kWrite;
constexpr int64_t kSector = 32;  // bytes

int64_t RoundUp(int64_t x, int64_t unit) { return (x + unit - 1) / unit * unit; }

// data/mask.h, one pair at a time.
bool Visible(const Attention& a, int64_t query, int64_t key) {
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
  const bool wgmma = false;
  std::vector<std::vector<int64_t>> keys_of;  // query tile -> key tiles with a visible pair

  Problem(const Attention& attention, const Tiling& tiling, const Kernel& kernel)
      : a(attention), t(tiling), wgmma(kernel.name == "fa3" || kernel.name == "cudnn-9.19-sm90") {
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
void CrossBox(const Problem& p, EnumeratedLaunch& l, const MappedTensor& tensor, int64_t row, int64_t rows, int64_t col,
              int64_t cols) {
  const int64_t end = tensor.cols * p.bytes;
  for (int64_t r = row; r < row + rows; ++r) {
    for (int64_t at = col * p.bytes; at < (col + cols) * p.bytes; at += kSector) {
      l.Cross(tensor.id, kRead, kSector);
      // Part from L2, part zeros: twice. A row outside is zeros only.
      if (r < tensor.rows && at < end && end < at + kSector) l.Cross(tensor.id, kRead, kSector);
    }
  }
}

// K or V of a key tile, whole: with TMA every row of the tile and whole boxes of 64 columns.
void LoadKeyTile(const Problem& p, EnumeratedLaunch& l, TensorId tensor, int64_t b, int64_t h, int64_t j,
                 int64_t cols) {
  if (!p.t.tma) return p.LoadKeys(l, tensor, b, h, j, 0, cols);
  CrossBox(p, l, {tensor, p.a.seqlen_k, cols}, j * p.t.Bc, p.t.Bc, 0, RoundUp(cols, 64));
  p.UseKeys(l, tensor, b, h, j, 0, cols);
}

// A block's work on one key tile with the softmax on chip, shared by fa2, fa3 and split-kv.
void OnlineStep(const Problem& p, EnumeratedLaunch& l, int64_t b, int64_t h, int64_t j, From q_from, From p_from) {
  const Attention& a = p.a;
  const Tiling& t = p.t;
  LoadKeyTile(p, l, kK, b, h, j, a.head_dim);
  l.SharedWrite(kK, t.Bc * p.d * p.bytes);
  p.Mma(l, kS, kQ, q_from, kK, t.Br, t.Bc, p.d);
  if (a.softcap > 0) l.Special(t.Br * t.Bc);
  l.Special(4 * t.Br);     // 2^(m - m_new), by the four lanes that share a row
  l.Special(t.Br * t.Bc);  // 2^(s - m)
  if (p_from == From::kShared) l.SharedWrite(kP, t.Br * t.Bc * p.bytes);
  if (!a.v_is_in_k) {
    LoadKeyTile(p, l, kV, b, h, j, a.head_dim_v);
    l.SharedWrite(kV, t.Bc * p.dv * p.bytes);
  }
  p.Mma(l, kO, kP, p_from, a.v_is_in_k ? kK : kV, t.Br, p.dv, t.Bc);
}

void LoadQueries(const Problem& p, EnumeratedLaunch& l, int64_t b, int64_t h, int64_t i) {
  if (p.t.tma && (p.packed == 1 || p.a.seqlen_q == 1)) {  // no box has the packed rows of two queries
    CrossBox(p, l, {kQ, p.rows, p.a.head_dim}, i * p.t.Br, p.t.Br, 0, RoundUp(p.a.head_dim, 64));
    p.UseRows(l, kQ, b, h, i, 0, p.a.head_dim);
  } else {
    p.MoveRows(l, kQ, kRead, b, h, i, 0, p.a.head_dim, p.bytes);
  }
  l.SharedWrite(kQ, p.t.Br * p.d * p.bytes);  // rows beyond the last are zeros
}

// fa2 and fa3: one block per query tile, O out through shared memory.
std::vector<Ledger> Fused(const Problem& p) {
  const Tiling& t = p.t;
  // fa3 keeps Q in registers when S, P, O and Q of 64 rows fit those of a warpgroup; consumers' registers by their
  // number, from runs on an H200 (2 and 3) and the sum rule (1; 4 to 6).
  constexpr int64_t kConsumerRegisters[] = {0, 240, 232, 160, 112, 80, 64};
  const bool columns_shared = p.wgmma && t.warps * 16 > t.Br;
  const int64_t words = 64 * (t.Bc * 4 + t.Bc * p.bytes + p.dv * 4 + p.d * p.bytes) / (128 * 4);
  const bool q_in_registers = p.wgmma && !columns_shared && words + 28 <= kConsumerRegisters[t.Br / 64];
  EnumeratedLaunch l;
  p.EachHead([&](int64_t b, int64_t h) {
    for (int64_t i = 0; i < p.query_tiles(); ++i) {
      LoadQueries(p, l, b, h, i);
      if (q_in_registers) l.SharedRead(kQ, t.Br * p.d * p.bytes);
      for (const int64_t j : p.keys_of[i]) {
        OnlineStep(p, l, b, h, j, q_in_registers ? From::kRegisters : From::kShared,
                   columns_shared ? From::kShared : From::kRegisters);
      }
      l.Special(4 * t.Br);  // 1 / l
      l.Special(4 * t.Br);  // log l
      l.SharedWrite(kO, t.Br * p.dv * p.bytes);
      l.SharedRead(kO, t.Br * p.dv * p.bytes);
      p.MoveRows(l, kO, kWrite, b, h, i, 0, p.a.head_dim_v, p.bytes);
      p.MoveRows(l, kLse, kWrite, b, h, i, 0, 1, 4);
    }
  });
  return {l.Finish()};
}

std::vector<Ledger> Fa1(const Problem& p) {
  const Attention& a = p.a;
  const Tiling& t = p.t;
  EnumeratedLaunch init, l;
  const auto state = [&](EnumeratedLaunch& launch, Direction direction, int64_t b, int64_t h, int64_t i) {
    p.MoveRows(launch, kO, direction, b, h, i, 0, a.head_dim_v, p.bytes);
    p.MoveRows(launch, kM, direction, b, h, i, 0, 1, 4);
    p.MoveRows(launch, kL, direction, b, h, i, 0, 1, 4);
  };
  p.EachHead([&](int64_t b, int64_t h) {
    for (int64_t i = 0; i < p.query_tiles(); ++i) state(init, kWrite, b, h, i);
    for (int64_t j = 0; j * t.Bc < a.seqlen_k; ++j) {
      bool loaded = false;
      for (int64_t i = 0; i < p.query_tiles(); ++i) {
        if (!std::count(p.keys_of[i].begin(), p.keys_of[i].end(), j)) continue;
        if (!loaded) {
          p.LoadKeys(l, kK, b, h, j, 0, a.head_dim);
          l.SharedWrite(kK, t.Bc * p.d * p.bytes);
          if (!a.v_is_in_k) p.LoadKeys(l, kV, b, h, j, 0, a.head_dim_v);
          if (!a.v_is_in_k) l.SharedWrite(kV, t.Bc * p.dv * p.bytes);
          loaded = true;
        }
        LoadQueries(p, l, b, h, i);
        state(l, kRead, b, h, i);
        p.Mma(l, kS, kQ, From::kShared, kK, t.Br, t.Bc, p.d);
        p.Mma(l, kO, kP, From::kRegisters, a.v_is_in_k ? kK : kV, t.Br, p.dv, t.Bc);
        l.Special(t.Br * t.Bc * (a.softcap > 0 ? 2 : 1) + 4 * t.Br + 4 * t.Br);  // exponentials, rescale, 1 / l
        state(l, kWrite, b, h, i);
      }
    }
  });
  return {init.Finish(), l.Finish()};
}

// What the two products of standard attention load. With TMA, as gpu/standard_*_hopper.cuh ask for it: whole tiles of Q
// and K, 64 columns at a time; 64 keys of P and V at a time until there are no more, V 64 or 128 columns wide.
struct StandardLoads {
  const Problem& p;

  void Q(EnumeratedLaunch& l, int64_t b, int64_t h, int64_t i, int64_t col, int64_t cols) const {
    if (!p.t.tma) return p.MoveRows(l, kQ, kRead, b, h, i, col, cols, p.bytes);
    CrossBox(p, l, {kQ, p.rows, p.a.head_dim}, i * p.t.Br, p.t.Br, col, 64);
    p.UseRows(l, kQ, b, h, i, col, cols);
  }
  void K(EnumeratedLaunch& l, int64_t b, int64_t h, int64_t j, int64_t col, int64_t cols) const {
    if (!p.t.tma) return p.LoadKeys(l, kK, b, h, j, col, cols);
    CrossBox(p, l, {kK, p.a.seqlen_k, p.a.head_dim}, j * p.t.Bc, p.t.Bc, col, 64);
    p.UseKeys(l, kK, b, h, j, col, cols);
  }
  void P(EnumeratedLaunch& l, int64_t b, int64_t h, int64_t i, int64_t j) const {
    const int64_t begin = j * p.t.Bc, end = p.key_end(j);
    if (!p.t.tma) return p.MoveRows(l, kP, kRead, b, h, i, begin, end - begin, p.bytes);
    for (int64_t key = begin; key < end; key += step())
      CrossBox(p, l, {kP, p.rows, RoundUp(p.a.seqlen_k, 8)}, i * p.t.Br, p.t.Br, key, step());
    p.UseRows(l, kP, b, h, i, begin, end - begin);
  }
  void V(EnumeratedLaunch& l, int64_t b, int64_t h, int64_t j, int64_t col, int64_t cols) const {
    if (!p.t.tma) return p.LoadKeys(l, v(), b, h, j, col, cols);
    const int64_t v_columns = p.a.v_is_in_k ? p.a.head_dim : p.a.head_dim_v;
    for (int64_t key = j * p.t.Bc; key < p.key_end(j); key += step())
      CrossBox(p, l, {v(), p.a.seqlen_k, v_columns}, key, step(), col, p.a.head_dim_v > 64 ? 128 : 64);
    p.UseKeys(l, v(), b, h, j, col, cols);
  }
  TensorId v() const { return p.a.v_is_in_k ? kK : kV; }

 private:
  // Tiles that are no multiple of 64 keys: the largest half of it, and so on, that divides them.
  int64_t step() const {
    int64_t keys = p.t.Bc <= 64 ? p.t.Bc : 64;
    while (p.t.Bc % keys != 0) keys /= 2;
    return keys;
  }
};

std::vector<Ledger> Standard(const Problem& p) {
  const Attention& a = p.a;
  const Tiling& t = p.t;
  const int64_t score_bytes = t.fp32_scores ? 4 : p.bytes;
  constexpr int64_t kSlice = 64, kColumns = 128, kThreads = 128, kRow = 8192;
  const StandardLoads load{p};
  EnumeratedLaunch scores, softmax, output;
  p.EachHead([&](int64_t b, int64_t h) {
    for (int64_t i = 0; i < p.query_tiles(); ++i) {
      for (const int64_t j : p.keys_of[i]) {
        const int64_t keys = p.key_end(j) - j * t.Bc;
        for (int64_t col = 0; col < a.head_dim; col += kSlice) {
          const int64_t cols = std::min(kSlice, a.head_dim - col);
          load.Q(scores, b, h, i, col, cols);
          load.K(scores, b, h, j, col, cols);
          scores.SharedWrite(kQ, t.Br * kSlice * p.bytes);
          scores.SharedWrite(kK, t.Bc * kSlice * p.bytes);
          p.Mma(scores, kS, kQ, From::kShared, kK, t.Br, t.Bc, kSlice);
        }
        if (a.softcap > 0) scores.Special(t.Br * t.Bc);
        for (int64_t row = i * t.Br; row < p.row_end(i); ++row) {  // TMA stores sectors
          const auto store = t.tma ? &EnumeratedLaunch::MoveSectors : &EnumeratedLaunch::Move;
          (scores.*store)(kS, kWrite, p.q_matrix(b, h, row), p.token(row), j * t.Bc, keys, score_bytes);
        }
      }
      // One block a row, over the columns of the tiles that were computed.
      const auto& tiles = p.keys_of[i];
      const int64_t first = tiles.empty() ? 0 : tiles.front() * t.Bc;
      const int64_t count = tiles.empty() ? 0 : p.key_end(tiles.back()) - first;
      for (int64_t row = i * t.Br; row < p.row_end(i); ++row) {
        const int64_t matrix = p.q_matrix(b, h, row), token = p.token(row);
        for (int pass = 0; pass < (t.row_on_chip ? 1 : 2); ++pass)
          softmax.MoveSectors(kS, kRead, matrix, token, first, count, score_bytes);
        softmax.MoveSectors(kP, kWrite, matrix, token, first, count, p.bytes);
        softmax.MoveSectors(kLse, kWrite, matrix, token, 0, 1, 4);
        softmax.Special(kThreads);  // log of the sum, by every thread
        if (t.row_on_chip) {
          softmax.Special(count + kThreads);  // exponentials and 1 / l
          if (count > kRow) {                 // written, then: max, fma, exp2, sum, division, and on its way out
            softmax.SharedWrite(kS, 4 * count * (1 + 3));
            softmax.SharedRead(kS, 4 * count * (1 + 1 + 1 + 1 + 1 + 1));
          }
        } else {
          const int64_t slices = (count + kRow - 1) / kRow;
          softmax.Special(slices * (kRow + kThreads) + slices * kRow +
                          kThreads);  // exponentials, rescale; again; 1 / l
        }
      }
      for (int64_t col = 0; col < a.head_dim_v; col += kColumns) {
        const int64_t cols = std::min(kColumns, a.head_dim_v - col);
        for (const int64_t j : tiles) {
          load.P(output, b, h, i, j);
          load.V(output, b, h, j, col, cols);
          output.SharedWrite(kP, t.Br * t.Bc * p.bytes);
          output.SharedWrite(load.v(), t.Bc * p.Padded(cols) * p.bytes);
          p.Mma(output, kO, kP, From::kShared, load.v(), t.Br, p.Padded(cols), t.Bc);
        }
        p.MoveRows(output, kO, kWrite, b, h, i, col, cols, p.bytes);
      }
    }
  });
  return {scores.Finish(), softmax.Finish(), output.Finish()};
}

// What a row with so many floats, one row behind another, brings in whole sectors: the mean of eight rows, after which
// rows begin at the same place of a sector again.
int64_t StatisticsBytes(int64_t parts) {
  int64_t sectors = 0;
  for (int64_t row = 0; row < 8; ++row) {
    std::set<int64_t> touched;
    for (int64_t part = 0; part < parts; ++part) touched.insert((row * parts + part) * 4 / kSector);
    sectors += static_cast<int64_t>(touched.size());
  }
  return sectors * kSector / 8;
}

std::vector<Ledger> SplitKv(const Problem& p) {
  const Attention& a = p.a;
  const Tiling& t = p.t;
  const int64_t tiles = (a.seqlen_k + t.Bc - 1) / t.Bc;
  // So many keys a part, or equal numbers of tiles; parts without a tile are not launched.
  const int64_t per_part = t.part_keys > 0 ? t.part_keys / t.Bc : (tiles + t.splits - 1) / t.splits;
  const int64_t parts = tiles == 0 ? 0 : (tiles + per_part - 1) / per_part;
  EnumeratedLaunch l, combine;
  p.EachHead([&](int64_t b, int64_t h) {
    for (int64_t i = 0; i < p.query_tiles(); ++i) {
      for (int64_t part = 0; part < parts; ++part) {
        LoadQueries(p, l, b, h, i);
        for (const int64_t j : p.keys_of[i]) {
          if (j / per_part != part) continue;
          if (t.page_size > 0) {
            std::set<int64_t> pages;
            for (int64_t key = j * t.Bc; key < p.key_end(j); ++key) pages.insert(key / t.page_size);
            for (const int64_t page : pages) l.Move(kBlockTable, kRead, b, page, 0, 1, 4);
          }
          OnlineStep(p, l, b, h, j, From::kShared, From::kRegisters);
        }
        p.MoveRows(l, kOPartial, kWrite, b, h, i, part * a.head_dim_v, a.head_dim_v, 4);
        p.MoveRows(l, kM, kWrite, b, h, i, part, 1, 4);
        p.MoveRows(l, kL, kWrite, b, h, i, part, 1, 4);
      }
    }
    for (int64_t row = 0; row < p.rows; ++row) {
      const int64_t matrix = p.q_matrix(b, h, row), token = p.token(row);
      for (const TensorId statistic : {kM, kL}) {
        combine.Use(statistic, kRead, matrix, token, 0, parts, 4);
        combine.Cross(statistic, kRead, t.row_blocks * StatisticsBytes(parts));
      }
      combine.Move(kOPartial, kRead, matrix, token, 0, parts * a.head_dim_v, 4);
      combine.Move(kO, kWrite, matrix, token, 0, a.head_dim_v, p.bytes);
      combine.Move(kLse, kWrite, matrix, token, 0, 1, 4);
      combine.Special(parts + 1 + 1);  // weights, 1 / l, log l
      // m: loaded, then max, subtraction, scaling, exp2, product with l, and once per partial output.
      combine.SharedWrite(kM, 4 * parts * (1 + 3));
      combine.SharedRead(kM, 4 * parts * 6);
      combine.SharedWrite(kL, 4 * parts * 2);  // loaded, weighted
      combine.SharedRead(kL, 4 * parts * 2);   // weighted, summed
    }
  });
  return {l.Finish(), combine.Finish()};
}

}  // namespace

std::vector<Ledger> Enumerate(const Kernel& kernel, const Attention& a, const Tiling& t) {
  const Problem p(a, t, kernel);
  if (kernel.name == "standard") return Standard(p);
  if (kernel.name == "fa1") return Fa1(p);
  if (kernel.name == "split-kv") return SplitKv(p);
  if (kernel.name == "fa2" || kernel.name == "fa3") return Fused(p);
  if (kernel.name == "pytorch-fa2" || kernel.name == "cudnn-9.19-sm90") return Fused(p);  // other roundings, same bytes
  std::abort();  // a kernel that nobody has enumerated yet
}

}  // namespace bitflash::sim
