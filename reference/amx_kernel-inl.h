// The inner loops of AmxAttention, for any vectors of 16 floats and any tile unit. The includer defines, in an unnamed
// namespace of bitflash::reference, `F` (16 floats), `Lanes` (16 booleans), `Tiles` (the eight tile registers) and the
// functions on them, as amx_kernel_tile.cc does, and then includes this; golden_block-inl.h says why nothing here may
// be visible outside, and why no container of the standard library is used. No include guard, on purpose.
//
// Of each group of 32 rows, block by block of keys: while the vector unit turns the scores of block b into weights, the
// tile unit computes the scores of block b + 1 and adds the weights of block b - 1 times V to O. Its steps of four
// products are handed out between portions of the softmax, so that both are in the window of out-of-order execution at
// the same time.
#include "reference/amx_exp-inl.h"
#include "reference/amx_tile_work-inl.h"

namespace bitflash::reference {
namespace {

// What is known of 16 rows, the lanes of a tile of rows.
struct RowTile {
  const int32_t *begin, *end;     // keys that a lane sees
  int32_t begin_most, end_least;  // keys in between are seen by all
  alignas(64) float m[16];        // the reference
  alignas(64) float l[16];
  alignas(64) float r[16];  // what O is multiplied by before the next block is added
  bool rescale;
};

// Score tiles of rows `tile` of a block are 16 x 16 floats at these addresses: key k of the block is row k % 16.
AMX_INLINE float* ScoreRow(float* S, int64_t tile, int64_t key) {
  return S + (key / 16) * 2 * kTileFloats + tile * kTileFloats + key % 16 * 16;
}

// Weights of tile `tile` of a unit: pairs of keys of 16 rows.
AMX_INLINE uint16_t* PairsOf(uint16_t* P, int64_t unit, int64_t tile) { return P + (unit * 2 + tile) * kTileBf16; }

// Caps and hides scores in memory, where a tile of 16 keys needs it.
void PrepareScores(const ScoreRule& rule, const RowTile& rows, int64_t tile, Block block, float* S) {
  const int32_t begin = static_cast<int32_t>(block.first_unit * kAmxUnitKeys);
  const int32_t end = begin + static_cast<int32_t>(block.units * kAmxUnitKeys);
  for (int32_t first = begin; first < end; first += 16) {
    const bool edge = first < rows.begin_most || first + 16 > rows.end_least;
    if (!edge && !(rule.softcap > 0)) continue;
    for (int32_t key = first; key < first + 16; ++key) {
      float* at = ScoreRow(S, tile, key - begin);
      F s = Load(at);
      if (rule.softcap > 0) s = Mul(Set(rule.softcap), Tanh(Mul(s, Set(rule.cap_factor))));
      if (edge) s = Select(Between(key, rows.begin, rows.end), s, Set(kMinusInfinity));
      Store(s, at);
    }
  }
}

// Scores of one tile of rows and one block become weights; returns their sum. `far`: m c is so large that its rounding
// would count, and s - m comes first; otherwise one operation gives the exponent.
template <bool far>
AMX_INLINE F Weights(int64_t tile, int64_t units, F m, F c, float* S, uint16_t* P, TileWork& work, int64_t portions) {
  const F minus = Sub(Set(0.0f), Mul(m, c));
  const auto weight = [&](const float* s) { return Exp2(far ? Mul(Sub(Load(s), m), c) : MulAdd(Load(s), c, minus)); };
  F sum = Set(0.0f), sum1 = sum;
  for (int64_t unit = 0; unit < units; ++unit) {
    uint16_t* to = PairsOf(P, unit, tile);
    for (int64_t part = 0; part < 4; ++part) {
      const float* from = ScoreRow(S, tile, unit * kAmxUnitKeys + part * 8);
      for (int64_t row = 0; row < 8; row += 2) {
        const F p = weight(from + row * 16), p1 = weight(from + row * 16 + 16);
        sum = Add(sum, p);
        sum1 = Add(sum1, p1);
        StorePairs(p, p1, to + (part * 4 + row / 2) * 32);
      }
      work.Advance(portions);
    }
  }
  return Add(sum, sum1);
}

// The online softmax of one tile of rows and one block; `portions` are those of the whole block.
AMX_INLINE void Softmax(const ScoreRule& rule, int64_t tile, Block block, float* S, uint16_t* P, RowTile& rows,
                        TileWork& work, int64_t portions) {
  const int64_t first_key = block.first_unit * kAmxUnitKeys, keys = block.units * kAmxUnitKeys;
  const bool edge = first_key < rows.begin_most || first_key + keys > rows.end_least;
  if (edge || rule.softcap > 0) PrepareScores(rule, rows, tile, block, S);

  const F c = Set(rule.exponent_factor);
  F most = Set(kMinusInfinity), most1 = most, most2 = most, most3 = most;
  for (int64_t key = 0; key < keys; key += 16) {
    const float* at = ScoreRow(S, tile, key);
    for (int64_t row = 0; row < 16; row += 4) {
      most = Max(Load(at + row * 16), most);
      most1 = Max(Load(at + row * 16 + 16), most1);
      most2 = Max(Load(at + row * 16 + 32), most2);
      most3 = Max(Load(at + row * 16 + 48), most3);
    }
    if (key % 32 == 16) work.Advance(portions);
  }
  most = Max(Max(most, most1), Max(most2, most3));
  F m = Load(rows.m), l = Load(rows.l);
  const Lanes grown = Greater(Mul(Sub(most, m), c), Set(static_cast<float>(kAmxLag)));  // inf - inf is not
  rows.rescale = Any(grown);
  if (rows.rescale) {
    const F r = Select(grown, Exp2(Mul(Sub(m, most), c)), Set(1.0f));
    m = Select(grown, most, m);
    l = Mul(l, r);
    Store(m, rows.m);
    Store(r, rows.r);
  }
  const F reference = Select(Greater(m, Set(kMinusInfinity)), m, Set(0.0f));  // no key so far: P = 0, not NaN
  const bool far = Any(Greater(Abs(Mul(reference, c)), Set(0x1p15f)));
  const F sum = far ? Weights<true>(tile, block.units, reference, c, S, P, work, portions)
                    : Weights<false>(tile, block.units, reference, c, S, P, work, portions);
  Store(Add(l, sum), rows.l);
}

constexpr int64_t kPortionsPerUnit = 10;  // of Softmax, for both tiles of rows

// O^T *= r in one tile of rows.
void Rescale(int64_t columns, int64_t tile, const RowTile& rows, float* O) {
  const F r = Load(rows.r);
  for (int64_t column = 0; column < columns; ++column) {
    float* at = ScoreRow(O, tile, column);
    Store(Mul(Load(at), r), at);
  }
}

// A weight of 0 times an invisible NaN would be NaN. Units of V with such elements, in a block that an edge crosses,
// are replaced by a copy without them, whose products with the weights of the rows that do see them are added here.
void CleanValues(const AmxGroup& g, Block block, uint16_t* P, const Scratch& scratch, const uint16_t** V) {
  const int64_t columns = RoundUp(g.head_dim_v, kAmxColumns);
  for (int64_t unit = 0; unit < block.units; ++unit) {
    if (g.finite[block.first_unit + unit] != 0) continue;
    const uint16_t* from = V[unit];
    uint16_t* to = scratch.V + unit * kAmxUnitKeys * columns;
    for (int64_t column = 0; column < columns; ++column) {
      for (int64_t key = 0; key < kAmxUnitKeys; ++key) {
        const int64_t at = column * kAmxUnitKeys + key;
        to[at] = from[at];
        if ((from[at] & 0x7F80) != 0x7F80) continue;
        to[at] = 0;
        const int64_t number = (block.first_unit + unit) * kAmxUnitKeys + key;
        for (int64_t lane = 0; lane < kAmxLanes; ++lane) {
          if (number < g.begin[lane] || number >= g.end[lane]) continue;
          const uint16_t* weights = PairsOf(P, unit, lane / 16);
          ScoreRow(scratch.O, lane / 16, column)[lane % 16] +=
              Widen(weights[key / 2 * 32 + lane % 16 * 2 + key % 2]) * Widen(from[at]);
        }
      }
    }
    V[unit] = to;
  }
}

// Q^T in pairs of columns: a transposition of words.
void PackQueries(const AmxGroup& g, uint16_t* Q) {
  const int64_t chunks = RoundUp(g.head_dim, kAmxColumns) / 32;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    for (int64_t tile = 0; tile < 2; ++tile) {
      F words[16];
      for (int64_t row = 0; row < 16; ++row) {
        const uint16_t* from = g.Q[tile * 16 + row];
        words[row] = from == nullptr ? Set(0.0f) : LoadBf16(from + chunk * 32, g.head_dim - chunk * 32);
      }
      Transpose(words);
      float* to = reinterpret_cast<float*>(Q + (chunk * 2 + tile) * kTileBf16);
      for (int64_t row = 0; row < 16; ++row) Store(words[row], to + row * 16);
    }
  }
}

// O of one tile of rows as rows of bf16. Pairs of columns are words, and words are what is transposed.
void StoreBf16Rows(const AmxGroup& g, int64_t tile, F factor, float* O) {
  for (int64_t column = 0; column < g.head_dim_v; column += 32) {
    F words[16];
    for (int64_t i = 0; i < 16; ++i) {
      words[i] = PairBf16(Mul(Load(ScoreRow(O, tile, column + 2 * i)), factor),
                          Mul(Load(ScoreRow(O, tile, column + 2 * i + 1)), factor));
    }
    Transpose(words);
    for (int64_t lane = 0; lane < 16; ++lane) {
      uint16_t* row = g.O_bf16[tile * 16 + lane];
      if (row != nullptr) StoreBf16(words[lane], g.head_dim_v - column, row + column);
    }
  }
}

void StoreRows(const AmxGroup& g, int64_t tile, F factor, float* O) {
  const int64_t columns = RoundUp(g.head_dim_v, kAmxColumns);
  for (int64_t column = 0; column < columns; column += 16) {
    F values[16];
    for (int64_t i = 0; i < 16; ++i) values[i] = Mul(Load(ScoreRow(O, tile, column + i)), factor);
    Transpose(values);
    for (int64_t lane = 0; lane < 16; ++lane) Store(values[lane], g.O + (tile * 16 + lane) * columns + column);
  }
}

void StoreOutputs(const AmxGroup& g, const RowTile* rows, float* O) {
  for (int64_t tile = 0; tile < 2; ++tile) {
    const F l = Load(rows[tile].l), factor = Div(Set(1.0f), l);
    g.O_bf16 != nullptr ? StoreBf16Rows(g, tile, factor, O) : StoreRows(g, tile, factor, O);
    Store(l, g.l + tile * 16);
    Store(Load(rows[tile].m), g.m + tile * 16);
  }
}

void RunGroup(const AmxGroup& g) {
  const int64_t columns = RoundUp(g.head_dim_v, kAmxColumns);
  const Scratch scratch(g.scratch, g.head_dim, g.head_dim_v);
  RowTile rows[2];
  int64_t begin = INT32_MAX, end = 0;
  for (int64_t tile = 0; tile < 2; ++tile) {
    RowTile& r = rows[tile];
    r.begin = g.begin + tile * 16;
    r.end = g.end + tile * 16;
    r.begin_most = 0;
    r.end_least = INT32_MAX;
    Store(Set(kMinusInfinity), r.m);
    Store(Set(0.0f), r.l);
    for (int64_t lane = 0; lane < 16; ++lane) {
      if (g.Q[tile * 16 + lane] == nullptr) continue;  // whatever it sees is not used
      r.begin_most = r.begin[lane] > r.begin_most ? r.begin[lane] : r.begin_most;
      r.end_least = r.end[lane] < r.end_least ? r.end[lane] : r.end_least;
      if (r.begin[lane] >= r.end[lane]) continue;
      begin = r.begin[lane] < begin ? r.begin[lane] : begin;
      end = r.end[lane] > end ? r.end[lane] : end;
    }
  }
  const auto clear = [&] {
    for (int64_t i = 0; i < kAmxLanes * columns; i += 16) Store(Set(0.0f), scratch.O + i);
  };
  if (begin >= end) clear();
  if (begin < end) {
    PackQueries(g, scratch.Q);
    const int64_t first_unit = begin / kAmxUnitKeys, units = (end + kAmxUnitKeys - 1) / kAmxUnitKeys - first_unit;
    const int64_t blocks = (units + kAmxBlockUnits - 1) / kAmxBlockUnits;
    const auto block_at = [&](int64_t number) {
      const int64_t from = number * kAmxBlockUnits, count = units - from;
      if (number < 0 || count <= 0) return Block{};
      return Block{first_unit + from, count < kAmxBlockUnits ? count : kAmxBlockUnits};
    };
    TileWork work(g, scratch);
    bool fresh = true;  // O is 0, whatever it holds
    const uint16_t* V[kAmxBlockUnits] = {};
    work.Start({}, nullptr, V, block_at(0), scratch.S[0]);
    work.Finish();
    for (int64_t number = 0; number < blocks; ++number) {
      const Block block = block_at(number);
      const int64_t turn = number % 2;
      uint16_t* P = scratch.P[turn];
      work.Start(block_at(number - 1), scratch.P[1 - turn], V, block_at(number + 1), scratch.S[1 - turn], fresh);
      for (int64_t tile = 0; tile < 2; ++tile) {
        Softmax(g.rule, tile, block, scratch.S[turn], P, rows[tile], work, kPortionsPerUnit * block.units);
      }
      work.Finish();
      if (number > 0) fresh = false;
      for (int64_t tile = 0; tile < 2 && !fresh; ++tile) {
        if (rows[tile].rescale) Rescale(columns, tile, rows[tile], scratch.O);
      }
      for (int64_t unit = 0; unit < block.units; ++unit) {
        V[unit] = g.V + (block.first_unit + unit) * kAmxUnitKeys * columns;
      }
      const int64_t from = block.first_unit * kAmxUnitKeys, to = from + block.units * kAmxUnitKeys;
      const bool edge =
          from < rows[0].begin_most || from < rows[1].begin_most || to > rows[0].end_least || to > rows[1].end_least;
      bool finite = true;
      for (int64_t unit = 0; unit < block.units; ++unit) finite = finite && g.finite[block.first_unit + unit] != 0;
      if (!edge || finite) continue;
      if (fresh) clear();
      fresh = false;
      CleanValues(g, block, P, scratch, V);
    }
    work.Start(block_at(blocks - 1), scratch.P[(blocks - 1) % 2], V, {}, nullptr, fresh);
    work.Finish();
  }
  StoreOutputs(g, rows, scratch.O);
}

void RunGroups(const AmxGroup* groups, int64_t count) {
  const TileScope scope;
  for (int64_t i = 0; i < count; ++i) RunGroup(groups[i]);
}

bool PackUnit(const AmxUnit& u) {
  const int64_t chunks = RoundUp(u.head_dim, kAmxColumns) / 32;
  for (int64_t key = 0; key < kAmxUnitKeys; ++key) {
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      const F words = key < u.keys ? LoadBf16(u.K[key] + chunk * 32, u.head_dim - chunk * 32) : Set(0.0f);
      Store(words, reinterpret_cast<float*>(u.packed_K + ((key / 16 * chunks + chunk) * 16 + key % 16) * 32));
    }
  }
  bool finite = true;
  for (int64_t column = 0; column < RoundUp(u.head_dim_v, kAmxColumns); column += 16) {
    F pairs[16];  // of keys, one word for each column
    for (int64_t pair = 0; pair < 16; ++pair) {
      pairs[pair] = InterleaveBf16(2 * pair < u.keys ? u.V[2 * pair] + column : nullptr,
                                   2 * pair + 1 < u.keys ? u.V[2 * pair + 1] + column : nullptr, u.head_dim_v - column);
      finite = finite && AllFiniteBf16(pairs[pair]);
    }
    Transpose(pairs);
    for (int64_t i = 0; i < 16; ++i) {
      Store(pairs[i], reinterpret_cast<float*>(u.packed_V + (column + i) * kAmxUnitKeys));
    }
  }
  return finite;
}

}  // namespace
}  // namespace bitflash::reference

#include "reference/amx_decode-inl.h"

namespace bitflash::reference {
namespace {

void TileProduct(float* sums, const uint16_t* a, const uint16_t* b) {
  const TileScope scope;
  Tiles tiles;
  tiles.Load<0>(sums);
  tiles.Load<4>(a);
  tiles.Load<6>(b);
  tiles.Multiply<0, 4, 6>();
  tiles.Store<0>(sums);
}

void Exp2Of(const float* x, float* y) { Store(Exp2(Load(x)), y); }

constexpr AmxSteps kSteps = {
    .pack = PackUnit, .run = RunGroups, .decode = RunDecodePart, .product = TileProduct, .exp2 = Exp2Of};

}  // namespace
}  // namespace bitflash::reference
