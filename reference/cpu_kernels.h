// The inner loops of CpuAttention, compiled for every SIMD target and chosen at run time. Internal.
#ifndef BITFLASH_REFERENCE_CPU_KERNELS_H_
#define BITFLASH_REFERENCE_CPU_KERNELS_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "data/format.h"
#include "reference/visible.h"

namespace bitflash::reference {

// Keys of a tile of prefill: what a tile costs whatever its width (maxima, factors, O in and out of the registers)
// counts little, and the scores of some strips of rows stay in the first-level cache.
inline constexpr int64_t kTileKeys = 256;
inline constexpr int64_t kDecodeTileKeys = 128;
inline constexpr int64_t kStripRows = 6;     // of the register tile
inline constexpr int64_t kPartialSums = 16;  // of a row: key j belongs to sum j % 16, on every target
inline constexpr int64_t kRowPadding = 16;   // rows of Q, and of what stands in for K and V, are padded to its multiple

inline constexpr int64_t RoundUp(int64_t x, int64_t unit) { return (x + unit - 1) / unit * unit; }

// How a product q k becomes the exponent of 2. Without softcap: (q k - m) exponent_factor, with m the largest q k.
// With: s = softcap tanh(q k cap_factor), then (s - m) exponent_factor.
struct ScoreRule {
  float exponent_factor = 1;
  float softcap = 0;
  float cap_factor = 0;
  double lse_factor = 1;          // LSE = m lse_factor + log l
  float least_difference = -125;  // -125 / exponent_factor: less makes a weight of 0
};

// What is known of some rows after some keys: maxima, sums, unnormalised outputs.
struct RowState {
  float* m;  // [rows]; -inf at first
  float* l;  // [rows, kPartialSums]; 0 at first
  float* O;  // [rows, RoundUp(head_dim_v, kRowPadding)] (decode) or in panels (prefill); 0 at first
};

// One KV head, packed by PackKeys and PackValues. Tile t starts at key t * kTileKeys; K and V are those of tile
// `first_tile`.
struct PackedHead {
  int64_t first_tile = 0;
  int64_t tiles = 0;
  const float* K = nullptr;
  const float* V = nullptr;
  const float* key_squares = nullptr;  // [tiles]: what PackKeys and PackValues returned
  const float* v_most = nullptr;
};

// Floats of a packed tile.
inline constexpr int64_t PackedKeyFloats(int64_t head_dim) { return kTileKeys * head_dim; }
inline constexpr int64_t PackedValueFloats(int64_t head_dim_v) { return kTileKeys * RoundUp(head_dim_v, kRowPadding); }

// Packs the keys [0, keys) of a tile, keys <= kTileKeys; the rest of the tile becomes 0. rows[j] has head_dim columns.
// The layout is the chosen target's own. Returns the largest sum of a key's squares, NaN if one is; and the largest
// magnitude of V, infinity if any is infinite or NaN.
float PackKeys(const float* const* rows, int64_t keys, int64_t head_dim, float* packed);
float PackValues(const float* const* rows, int64_t keys, int64_t head_dim_v, float* packed);
// Whether rows of V that lie one behind the other from an address aligned to 64 bytes are packed as they are. Then
// LargestValue of `count` floats, a multiple of kRowPadding, is what PackValues would have returned.
bool ValuesArePacked(int64_t head_dim_v);
float LargestValue(const float* x, int64_t count);

// Some rows of the query heads that share a KV head.
struct PrefillTask {
  ScoreRule rule;
  int64_t head_dim = 0, head_dim_v = 0;
  int64_t heads = 0;                  // query heads
  int64_t rows = 0;                   // of each
  const KeyRange* visible = nullptr;  // [rows]: keys that a row sees
  // Row i of head h has head_dim floats from Q + h q_head + i q_row; whole strips of kStripRows rows are read.
  const float* Q = nullptr;
  int64_t q_head = 0, q_row = 0;
  PackedHead packed;
  // Or null: what will be packed next, as much as a packed tile holds, which the last tile's products ask for.
  const float* next_K = nullptr;
  const float* next_V = nullptr;
  float* scratch = nullptr;   // PrefillScratchFloats, aligned to 64 bytes
  float* const* O = nullptr;  // [heads, rows], each of RoundUp(head_dim_v, kRowPadding) floats that are written
  float* LSE = nullptr;       // [heads, rows], written
};
int64_t PrefillScratchFloats(int64_t heads, int64_t rows, int64_t head_dim_v);
void RunPrefill(const PrefillTask& task);

// Rows of K or V behind a part's last that its table lists where they are, only to be asked for.
inline constexpr int64_t kDecodeKeysAhead = 144;

// Rows of K or V in memory, at equal distances or each where a table says.
struct KeyRows {
  data::Format format = data::Format::kFp32;
  const std::byte* first = nullptr;  // row 0; looked at without a table
  int64_t step = 0;                  // bytes from row to row
  const void* const* table = nullptr;
  int64_t listed = 0;  // rows in the table

  const void* Row(int64_t j) const { return table == nullptr ? first + j * step : table[j]; }
};

// All query rows that share a KV head, on consecutive keys. Row i * heads + h is row i of query head h.
struct DecodePart {
  ScoreRule rule;
  int64_t head_dim = 0, head_dim_v = 0;
  int64_t heads = 0;
  int64_t queries = 0;
  const KeyRange* visible = nullptr;  // [queries], of the whole sequence
  const float* Q = nullptr;           // [queries * heads, RoundUp(head_dim, kRowPadding)], padded with 0
  int64_t first_key = 0, keys = 0;    // first_key is a multiple of kDecodeTileKeys
  KeyRows K, V;                       // of keys [first_key, first_key + keys)
  float* scratch = nullptr;           // DecodeScratchFloats, aligned to 64 bytes
  RowState state;                     // written
};
int64_t DecodeScratchFloats(int64_t rows, int64_t head_dim, int64_t head_dim_v);
void RunDecode(const DecodePart& part);

// Adds the state of later keys to `state`.
void MergeStates(const ScoreRule& rule, int64_t rows, int64_t head_dim_v, const RowState& state, const RowState& later);

// O times 1 / l in place, [RoundUp(head_dim_v, kRowPadding)] floats of one row, and the row's LSE.
float FinishRow(const ScoreRule& rule, int64_t head_dim_v, float m, const float* l, float* O);

// For tests. 2^x for x <= 0 and x = NaN, 0 for x < -125.
void Exp2Span(std::span<const float> x, std::span<float> y);
// 2^(x - M) for an integer M and results from 2^-125 on; 0 for -inf if `masked`.
void BoundedExp2Span(std::span<const float> x, float M, bool masked, std::span<float> y);
void TanhSpan(std::span<const float> x, std::span<float> y);

// Does some microseconds of independent fp32 multiply-adds in registers and returns how many; for benchmarks.
int64_t RunFmaLoop();

// The sum of `count` floats, a multiple of 256, read in one of kReadWays ways: as one stream or, as K and V are, two;
// left to the processor's own prefetching, or asked for. For benchmarks: the fastest is a limit.
inline constexpr int kReadWays = 4;
float SumOf(const float* x, int64_t count, int way);

}  // namespace bitflash::reference

#endif  // BITFLASH_REFERENCE_CPU_KERNELS_H_
