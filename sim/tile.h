// Where data lives and what it belongs to: the nouns of a simulated kernel.
#ifndef BITFLASH_SIM_TILE_H_
#define BITFLASH_SIM_TILE_H_

#include <cstdint>
#include <string_view>

#include "data/attention.h"
#include "data/format.h"

namespace bitflash::sim {

using data::Attention;
using data::Format;

// The tensors that a ledger tells apart, in the papers' letters.
enum class TensorId : uint8_t {
  kQ,
  kK,
  kV,
  kS,  // scores, Q K^T
  kP,  // probabilities
  kO,
  kLse,         // log-sum-exp of each row
  kM,           // running row maximum, where a kernel keeps it in HBM (fa1, split-kv)
  kL,           // running row sum of exponentials, likewise
  kOPartial,    // fp32 partial outputs of split-kv
  kBlockTable,  // page numbers of a paged KV cache, int32
};
inline constexpr int kTensorCount = 11;

// "q", "k", ..., "o_partial": the key of the tensor in JSON.
std::string_view Name(TensorId tensor);

enum class Space : uint8_t { kShared, kRegister };

// A tile on chip. Registers of a row vector (cols == 1) are held by all four lanes of the quad that owns the row in the
// accumulator layout of mma and wgmma (PTX ISA, "Matrix Fragments for mma.m16n8k16"), hence `lanes`.
struct Tile {
  Space space = Space::kRegister;
  Format format = Format::kFp32;
  TensorId tensor = TensorId::kS;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t lanes = 1;  // copies of every element: 4 for row vectors
  int32_t id = -1;    // storage handle of the machine that made the tile

  int64_t elements() const { return rows * cols * lanes; }
  int64_t bytes() const { return elements() * data::StorageBytes(format); }
};

// How the blocks of one launch share the bytes of a matrix, which decides its compulsory HBM bytes.
enum class Reuse : uint8_t {
  kOnce,    // no byte is moved twice: compulsory = requested
  kShared,  // several blocks (or iterations) move the same rows: compulsory = the rows' and columns' span, once
  kAgain,   // an earlier copy of the same launch moved these bytes: compulsory = 0
};

// What crosses between L2 and an SM when a tile of a matrix moves (Ledger::l2_to_sm). Never changes HBM bytes: zeros
// that fill a box cost no DRAM, and the rest of a sector is padding or belongs to a neighbour.
enum class Crossing : uint8_t {
  kBytes,    // the tile's bytes: a sector that its rows share is asked for once
  kSectors,  // the sectors of every row, whole: a row begins on one and no other row moves with it
  kBoxes,    // loads by TMA: everything that is asked for, whole
  kPacked,   // whole rows that lie one behind another and move alone: the sectors of a row that begins anywhere in one,
             // on average
};
inline constexpr int64_t kSectorBytes = 32;  // what L2 and the crossbar handle

// What a kernel asks TMA for at a time (cuTensorMapEncodeTiled; PTX ISA, "Tensors"): rows x cols elements from the
// first row and column of a tile on, in one box or several. The crossbar carries boxes as the SM receives them: zeros
// for what lies outside the tensor cost as much as elements, also where a whole box lies outside. A row that ends
// inside a sector costs that sector twice, once from L2 and once for the zeros. All counted on an H100
// (own_nsight_test.cc).
struct Box {
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t extent = 0;  // columns that the tensor map knows: the matrix's, or more when its rows are padded

  bool operator==(const Box&) const = default;
};

// One head's matrix in global memory.
struct GlobalMatrix {
  TensorId tensor = TensorId::kQ;
  Format format = Format::kBf16;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t matrices = 1;  // how many there are: batch x heads of this tensor
  Reuse reuse = Reuse::kOnce;
  Crossing crossing = Crossing::kBytes;
  Box box = {};         // Crossing::kBoxes
  int64_t readers = 1;  // blocks that each move what the text moves once
};

// Consecutive rows (or columns).
struct Range {
  int64_t begin = 0;
  int64_t count = 0;
  // When this range stands for a whole run of equal ranges: how far from `begin` the last one begins (may be negative).
  int64_t reach = 0;

  int64_t end() const { return begin + count; }
  bool operator==(const Range&) const = default;
};

// Some rows and columns of a global matrix; always inside it.
struct GlobalTile {
  GlobalMatrix matrix;
  Range rows;
  Range cols;

  int64_t bytes() const { return rows.count * cols.count * data::StorageBytes(matrix.format); }
  int64_t crossing_bytes() const;  // by matrix.crossing; at least bytes()
};

inline GlobalTile Rows(const GlobalMatrix& m, Range rows) { return {m, rows, {0, m.cols}}; }
inline GlobalTile Part(const GlobalMatrix& m, Range rows, Range cols) { return {m, rows, cols}; }

// The same matrix, shared otherwise.
inline GlobalMatrix With(GlobalMatrix m, Reuse reuse) {
  m.reuse = reuse;
  return m;
}

// The same matrix, moved otherwise.
inline GlobalMatrix InSectors(GlobalMatrix m) {
  m.crossing = Crossing::kSectors;
  return m;
}
inline GlobalMatrix Packed(GlobalMatrix m, int64_t readers) {
  m.crossing = Crossing::kPacked;
  m.readers = readers;
  return m;
}
inline GlobalMatrix InBoxes(GlobalMatrix m, const Box& box) {
  m.crossing = Crossing::kBoxes;
  m.box = box;
  return m;
}

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_TILE_H_
