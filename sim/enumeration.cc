#include "sim/enumeration.h"

#include <cstdlib>

#include "sim/enumeration_problem.h"

namespace bitflash::sim {
namespace enumeration {
namespace {

using enum TensorId;

// Keys that TMA brings together, whether there are so many or not: a tile; for split-kv with one warp and more than 128
// columns half of one, and never two pages.
int64_t KeysTogether(const Problem& p) {
  int64_t keys = p.split && !p.wgmma && p.a.head_dim > 128 ? std::max<int64_t>(1, p.t.Bc / 2) : p.t.Bc;
  if (p.t.page_size > 0) keys = std::min(keys, p.t.page_size);
  return keys;
}

// K or V of a key tile, whole: with TMA whole boxes of 64 columns.
void LoadKeyTile(const Problem& p, EnumeratedLaunch& l, TensorId tensor, int64_t b, int64_t h, int64_t j,
                 int64_t cols) {
  if (!p.t.tma) return p.LoadKeys(l, tensor, b, h, j, 0, cols);
  for (int64_t key = j * p.t.Bc; key < p.key_end(j); key += KeysTogether(p)) {
    CrossBox(p, l, {tensor, p.a.seqlen_k, cols}, key, KeysTogether(p), 0, RoundUp(cols, 64));
  }
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
  if (p.t.tma && !p.split && (p.packed == 1 || p.a.seqlen_q == 1)) {  // no box has the packed rows of two queries
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
        if (parts == 1) {  // the whole row
          p.MoveRows(l, kO, kWrite, b, h, i, 0, a.head_dim_v, p.bytes);
          p.MoveRows(l, kLse, kWrite, b, h, i, 0, 1, 4);
          l.Special(2 * 4 * t.Br);  // 1 / l, log l, by the four lanes that share a row
          continue;
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
  if (parts == 1) return {l.Finish()};
  return {l.Finish(), combine.Finish()};
}

}  // namespace
}  // namespace enumeration

std::vector<Ledger> Enumerate(const Kernel& kernel, const Attention& a, const Tiling& t) {
  const enumeration::Problem p(a, t, kernel);
  if (kernel.name == "standard") return enumeration::Standard(p);
  if (kernel.name == "fa1") return enumeration::Fa1(p);
  if (kernel.name == "split-kv") return enumeration::SplitKv(p);
  if (kernel.name == "fa2" || kernel.name == "fa3") return enumeration::Fused(p);
  // Other roundings, same bytes.
  if (kernel.name == "pytorch-fa2" || kernel.name == "cudnn-9.19-sm90") return enumeration::Fused(p);
  std::abort();  // a kernel that nobody has enumerated yet
}

}  // namespace bitflash::sim
