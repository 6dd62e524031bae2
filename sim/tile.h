// Where data lives and what it belongs to: the nouns of a simulated kernel.
#ifndef BITFLASH_SIM_TILE_H_
#define BITFLASH_SIM_TILE_H_

#include <cstdint>
#include <string_view>

#include "data/format.h"

namespace bitflash::sim {

using data::Format;

// The tensors that a ledger tells apart, in the papers' letters.
enum class TensorId : uint8_t {
  kQ,
  kK,
  kV,
  kS,           // scores, Q K^T
  kP,           // probabilities
  kO,
  kLse,         // log-sum-exp of each row
  kRowState,    // m and l of FlashAttention-1, kept in HBM between key tiles
  kOPartial,    // fp32 partial outputs of split-KV
  kLsePartial,  // m and l of each part of split-KV
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
  int32_t rows = 0;
  int32_t cols = 0;
  int32_t lanes = 1;  // copies of every element: 4 for row vectors
  int32_t id = -1;    // storage handle of the machine that made the tile

  int64_t elements() const { return int64_t{rows} * cols * lanes; }
  int64_t bytes() const { return elements() * data::StorageBytes(format); }
};

// One head's matrix in global memory.
struct GlobalMatrix {
  TensorId tensor = TensorId::kQ;
  Format format = Format::kBf16;
  int64_t rows = 0;
  int64_t cols = 0;
};

// Rows [row, row + rows) and columns [col, col + cols) of a global matrix; always inside it.
struct GlobalTile {
  GlobalMatrix matrix;
  int64_t row = 0;
  int64_t rows = 0;
  int64_t col = 0;
  int64_t cols = 0;

  int64_t bytes() const { return rows * cols * data::StorageBytes(matrix.format); }
};

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_TILE_H_
