// The inner loops of AmxAttention behind two functions, so that the tests can put a model of the tile unit in the place
// of the real one. Internal.
//
// Scores are computed transposed, S^T = K Q^T: a query row is a lane of a vector and a column of a tile, so that row
// maxima and row sums need no sum across a vector, and P^T leaves the exponential in the layout that O^T = V^T P^T
// wants as its second factor. Tiles are 16 rows of 64 bytes, without gaps.
#ifndef BITFLASH_REFERENCE_AMX_STEPS_H_
#define BITFLASH_REFERENCE_AMX_STEPS_H_

#include <cstddef>
#include <cstdint>

#include "reference/amx_attention.h"
#include "reference/cpu_job.h"
#include "reference/cpu_kernels.h"

namespace bitflash::reference {

inline constexpr int64_t kAmxLanes = 32;      // query rows of a group: two tiles wide
inline constexpr int64_t kAmxUnitKeys = 32;   // two tiles of scores, one of weights
inline constexpr int64_t kAmxBlockUnits = 2;  // units between two looks at the row maximum
inline constexpr int64_t kAmxColumns = 32;    // head dimensions are padded to its multiple
inline constexpr int64_t kAmxLag = 8;         // log2 units by which the reference may lag behind the maximum

// Elements of one unit of K or V: [2][columns / 32] tiles of 16 keys by 32 columns of K; [columns / 16] tiles of 16
// columns by 32 keys of V^T.
inline constexpr int64_t AmxUnitElements(int64_t head_dim) { return kAmxUnitKeys * RoundUp(head_dim, kAmxColumns); }

// What one thread works in, bytes, aligned to 64.
int64_t AmxScratchBytes(int64_t head_dim, int64_t head_dim_v);

// Decode: keys between two looks at the row maximum, and how many tiles of 16 keys ahead of those that are read lines
// are asked for: for the first-level cache, and for the second.
inline constexpr int64_t kAmxDecodeKeys = 32;
inline constexpr int64_t kAmxTilesAhead = 2, kAmxTilesFar = 6;
int64_t AmxDecodeScratchBytes(int64_t rows, int64_t head_dim, int64_t head_dim_v);

// Keys of one unit; `keys` of them are there, the rest becomes 0.
struct AmxUnit {
  int64_t keys = 0;
  int64_t head_dim = 0, head_dim_v = 0;
  const uint16_t* K[kAmxUnitKeys] = {};  // rows of bf16
  const uint16_t* V[kAmxUnitKeys] = {};
  uint16_t* packed_K = nullptr;  // AmxUnitElements, aligned to 64 bytes
  uint16_t* packed_V = nullptr;
};

// Query rows that share a KV head.
struct AmxGroup {
  ScoreRule rule;
  int64_t head_dim = 0, head_dim_v = 0;
  const uint16_t* Q[kAmxLanes] = {};  // rows of bf16; null: no row
  int32_t begin[kAmxLanes] = {};      // keys that a row sees, counted from the first packed one
  int32_t end[kAmxLanes] = {};
  const uint16_t* K = nullptr;  // packed units
  const uint16_t* V = nullptr;
  const uint8_t* finite = nullptr;  // of every unit, whether V has neither infinity nor NaN
  void* scratch = nullptr;          // AmxScratchBytes
  // Written, aligned to 64 bytes; O is meaningless for rows without keys.
  float* O = nullptr;                 // [kAmxLanes, columns of V padded]; not written where O_bf16 is
  uint16_t* const* O_bf16 = nullptr;  // or [kAmxLanes]: rows of head_dim_v elements of bf16; null: no row
  float* m = nullptr;                 // [kAmxLanes]: the reference, a product or a capped score
  float* l = nullptr;                 // [kAmxLanes]: sum of 2^((score - m) exponent_factor)
};

// Rows of K or V of 16 keys as they lie in a cache, each with RoundUp(columns, kAmxColumns) columns to read.
struct AmxRows {
  const uint16_t* first = nullptr;
  int64_t step = 0;  // bytes from row to row
};

// Few query rows on the keys of one part of a cache.
struct AmxDecodePart {
  ScoreRule rule;
  int64_t head_dim = 0, head_dim_v = 0;
  int64_t rows = 0;
  const uint16_t* const* Q = nullptr;  // [rows]: rows of bf16
  const int32_t* begin = nullptr;      // [rows]: the keys that a row sees, counted from the part's first
  const int32_t* end = nullptr;
  // Of every 16 keys: those of whole blocks of kAmxDecodeKeys, and kAmxTilesFar more, which are only asked for.
  const AmxRows* K = nullptr;
  const AmxRows* V = nullptr;
  void* scratch = nullptr;  // AmxDecodeScratchBytes
  RowState state;           // written, as by RunDecode
};

struct AmxSteps {
  bool (*pack)(const AmxUnit& unit);                   // returns whether V is finite
  void (*run)(const AmxGroup* groups, int64_t count);  // one after the other
  void (*decode)(const AmxDecodePart& part);
  // For tests, all aligned to 64 bytes. sums [16 x 16] += a [16 x 32] b, with b in pairs of rows: [16][16 columns][2].
  void (*product)(float* sums, const uint16_t* a, const uint16_t* b);
  void (*exp2)(const float* x, float* y);  // of 16 numbers
};

#ifdef BITFLASH_AMX
const AmxSteps& TileUnitSteps();
#endif

// This machine's, or null where AmxSupport() is not empty.
const AmxSteps* MachineAmxSteps();

// AmxAttention of at most kDecodeQueries queries, of a job whose options and formats have been checked.
void RunAmxDecode(const AmxSteps& steps, const CpuJob& job);

// AmxAttention with these steps, whatever the machine.
void RunAmxAttention(const AmxSteps& steps, const data::Attention& attention, const CpuAttentionInputs& inputs,
                     const CpuAttentionOutputs& outputs, const AmxOptions& options);

}  // namespace bitflash::reference

#endif  // BITFLASH_REFERENCE_AMX_STEPS_H_
