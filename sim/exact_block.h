// A thread block that also computes every bit.
#ifndef BITFLASH_SIM_EXACT_BLOCK_H_
#define BITFLASH_SIM_EXACT_BLOCK_H_

#include <algorithm>
#include <memory>
#include <span>
#include <vector>

#include "sim/aligned_array.h"
#include "sim/block.h"
#include "sim/packed_operand.h"
#include "sim/tensor_core.h"

namespace bitflash::sim {

// Where the rows of one head's matrix lie in memory.
struct GlobalRows {
  std::byte* data = nullptr;
  int64_t row_bytes = 0;  // from row to row of one token's heads or, unpacked, from token to token
  // Packed query heads: row r is token r / group of head r % group; `head_bytes` lies between the heads of a group.
  int64_t group = 1;
  int64_t head_bytes = 0;

  std::byte* Row(int64_t r) const { return data + r / group * row_bytes + r % group * head_bytes; }
};

// The matrices of one head. A tensor that a kernel does not use has no data.
using GlobalMatrices = std::array<GlobalRows, kTensorCount>;

// What a tile holds: bit patterns row by row, and what the tensor core made of them.
struct TileStorage {
  AlignedArray<std::byte> bits;
  int64_t rows_used = 0;  // rows that hold queries; the others are padding of a ragged tile and are not computed
  bool rows_packed = false, columns_packed = false, transpose_packed = false;
  PackedRows as_rows;           // operand A
  PackedColumns as_columns;     // operand B
  PackedColumns as_transposed;  // operand B, transposed

  float* floats() { return reinterpret_cast<float*>(bits.data()); }
  void Changed() { rows_packed = columns_packed = transpose_packed = false; }
};

// Storage for the tiles of one block after another, in one thread.
using TilePool = std::vector<std::unique_ptr<TileStorage>>;

// Every hook can be overridden: a machine that makes a mistake (faulty_block.h) is this one with one hook changed.
class ExactBlock : public Block {
 public:
  // Tiles come from `pool`, in order. `core` multiplies. O is multiplied by `output_scale` before it is rounded.
  // Everything outlives the block.
  ExactBlock(const BlockSpec& spec, Ledger& ledger, Spans& spans, const Attention& attention, int64_t group,
             const TensorCore& core, const GlobalMatrices& matrices, TilePool& pool, float output_scale = 1)
      : Block(spec, ledger, spans, 1, 1, Loops::kByTile),
        attention_(attention),
        group_(group),
        core_(core),
        matrices_(matrices),
        pool_(pool),
        output_scale_(output_scale) {}

 protected:
  void DoMakeTile(const Tile& tile) override;
  void DoFill(const Tile& tile, float value) override;
  void DoCopy(const Tile& to, const GlobalTile& from) override;
  void DoCopy(const GlobalTile& to, const Tile& from) override;
  void DoCopy(const Tile& to, const Tile& from) override;
  void DoCopyConvert(const Tile& to, const GlobalTile& from) override;
  void DoCopyConvert(const GlobalTile& to, const Tile& from) override;
  void DoMma(const Tile& D, const Tile& A, const Tile& B, bool transposed, bool accumulate) override;
  void DoSoftcap(const Tile& S, float scale, float cap) override;
  void DoMask(const Tile& S, const QueryTile& queries, const KeyTile& keys) override;
  void DoRowMax(const Tile& out, const Tile& S, const Tile& m) override;
  void DoFiniteOrZero(const Tile& out, const Tile& m) override;
  void DoSub(const Tile& out, const Tile& a, const Tile& b) override;
  void DoMul(const Tile& out, const Tile& a, float b) override;
  void DoMul(const Tile& out, const Tile& a, const Tile& b) override;
  void DoMove(const Tile& out, const Tile& a) override;
  void DoMulRows(const Tile& x, const Tile& r) override;
  void DoMulScalar(const Tile& x, float b) override;
  void DoInvert(const Tile& out, const Tile& l, const Recipe& recipe) override;
  void DoFmaRows(const Tile& x, float scale, const Tile& addend) override;
  void DoSubRows(const Tile& x, const Tile& r) override;
  void DoAddColumn(const Tile& x, const Tile& w, int64_t column) override;
  void DoFmaColumn(const Tile& x, const Tile& y, const Tile& w, int64_t column) override;
  void DoExp2(const Tile& out, const Tile& a, const Recipe& recipe) override;
  void DoFmaVector(const Tile& out, const Tile& a, const Tile& b, const Tile& c) override;
  void DoRescaleAndAddToLanes(const Tile& l, const Tile& r, const Tile& P) override;
  void DoAddToLanes(const Tile& l, const Tile& P) override;
  void DoSumQuad(const Tile& l, const Recipe& recipe) override;
  void DoSumLanes(const Tile& l) override;
  void DoAdd(const Tile& x, const Tile& y) override;
  void DoConvert(const Tile& out, const Tile& in) override;
  void DoCombineLogSumExp(const Tile& lse, const Tile& w, int64_t threads) override;
  void DoLogSumExp(const Tile& out, const Tile& m, const Tile& l, float scale, const Recipe& recipe) override;

  TileStorage& At(const Tile& tile) { return *pool_[tile.id]; }
  float* Floats(const Tile& tile) { return At(tile).floats(); }
  // One row of a tile as floats, `count` of them: cols * lanes.
  std::span<float> FloatRow(const Tile& tile, int64_t row) {
    return {Floats(tile) + row * tile.cols * tile.lanes, static_cast<size_t>(tile.cols) * tile.lanes};
  }
  // Rows of the tile that hold queries and are computed.
  int64_t UsedRows(const Tile& tile) { return std::min<int64_t>(At(tile).rows_used, tile.rows); }

  const Attention& attention_;
  const int64_t group_;  // query heads that are rows of one tile

 private:
  std::byte* Address(const GlobalTile& tile, int64_t row) const;
  void ScaleOutput(const Tile& O, int64_t rows);

  const TensorCore& core_;
  const GlobalMatrices& matrices_;
  TilePool& pool_;
  const float output_scale_;
};

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_EXACT_BLOCK_H_
