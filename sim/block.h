// One thread block of a simulated kernel: the vocabulary that kernels are written in. Block counts.
//
// Every public operation checks shapes and spaces, charges the ledger and then calls a private virtual hook that does
// nothing here. A machine that also computes overrides the hooks, so the two cannot disagree about traffic.
#ifndef BITFLASH_SIM_BLOCK_H_
#define BITFLASH_SIM_BLOCK_H_

#include <array>
#include <cstdint>

#include "sim/ledger.h"
#include "sim/occupancy.h"
#include "sim/recipe.h"
#include "sim/runs.h"
#include "sim/tile.h"

namespace bitflash::sim {

// The matrix instruction of a kernel. It decides which operands pass through shared memory and registers.
//   kMmaSync  mma.sync.m16n8k16 (PTX ISA, "mma"): A and B come from registers, loaded by ldmatrix; warps are stacked
//             along the rows, so every warp loads all of B for its own rows. More warps than row tiles of 16: they
//             share the columns of the result, each loads A and its part of B.
//   kWgmma    wgmma.mma_async.m64nNk16, N <= 256 (PTX ISA, "wgmma"): B is read from shared memory once for every 64
//             rows, A from shared memory or registers. More warpgroups than row tiles of 64 share the columns likewise.
enum class MmaInstruction : uint8_t { kMmaSync, kWgmma };

struct BlockSpec {
  MmaInstruction mma = MmaInstruction::kMmaSync;
  int64_t warps = 4;    // that hold the register tiles; kWgmma: a multiple of 4
  int64_t threads = 0;  // of the whole block; 0: 32 * warps. 128 more: a producer warpgroup; 32 more: a producer warp
  int64_t all_threads() const { return threads ? threads : 32 * warps; }
};

// How loops run: kByRun visits one tile of every run and multiplies; kByTile visits every tile.
enum class Loops : uint8_t { kByRun, kByTile };

class Block {
 public:
  // What the blocks of a launch move together: the span of a shared matrix.
  struct Span {
    int64_t row_begin = INT64_MAX, row_end = INT64_MIN, col_begin = INT64_MAX, col_end = INT64_MIN;
    GlobalMatrix matrix;
  };
  struct Spans {
    std::array<Span, kTensorCount> read, write;
  };

  // Charges `ledger` for `blocks` like blocks (BlockRun) of each of `heads` heads.
  Block(const BlockSpec& spec, Ledger& ledger, Spans& spans, int64_t heads, int64_t blocks, Loops loops)
      : spec_(spec), loops_(loops), ledger_(ledger), spans_(spans), heads_(heads) {
    overflowed_ = __builtin_mul_overflow(heads, blocks, &times_);
  }
  virtual ~Block() = default;
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  // --- Tiles -------------------------------------------------------------------------------------------------------
  // A tile in shared memory with room for `stages` copies of it in flight.
  Tile Shared(TensorId tensor, Format format, int64_t rows, int64_t cols, int64_t stages = 1);
  // An fp32 tile in the accumulator layout; pass a format for converted operands.
  Tile Registers(TensorId tensor, int64_t rows, int64_t cols, Format format = Format::kFp32);
  // One fp32 number per row, held by all threads that share the row: the four lanes of a quad in the accumulator
  // layout.
  Tile RowVector(int64_t rows, int64_t lanes = 4);
  // Other contents in the storage of `tile`, which must be large enough: what a kernel does to save space.
  Tile Alias(const Tile& tile, TensorId tensor, Format format, int64_t rows, int64_t cols);
  void Fill(const Tile& tile, float value);

  // --- Copies ------------------------------------------------------------------------------------------------------
  // Global to chip. Rows of `to` beyond from.rows are filled with zeros: they cost shared-memory bytes. With cp.async
  // and source size 0 they cost no L2 bytes; TMA's zeros do come through the crossbar, which a matrix loaded InBoxes
  // charges. Bytes between L2 and SM are GlobalTile::crossing_bytes(), HBM's are bytes() whatever the crossing.
  void Copy(const Tile& to, const GlobalTile& from);
  void Copy(const GlobalTile& to, const Tile& from);
  void Copy(const Tile& to, const Tile& from);  // between shared memory and registers; formats equal
  // The same with a conversion to or from fp32 on the way through registers. Columns of `to` beyond from.cols get -inf.
  void CopyConvert(const Tile& to, const GlobalTile& from);
  void CopyConvert(const GlobalTile& to, const Tile& from);
  // The block table entries that cover `keys` keys of a paged cache, straight into registers.
  void LoadIndices(const GlobalTile& from);

  // --- Matrix products ---------------------------------------------------------------------------------------------
  void MmaTransposed(const Tile& D, const Tile& A, const Tile& B);     // D = A B^T
  void MmaTransposedAdd(const Tile& D, const Tile& A, const Tile& B);  // D += A B^T
  void Mma(const Tile& D, const Tile& A, const Tile& B);               // D += A B

  // --- Elementwise, fp32 -------------------------------------------------------------------------------------------
  // Tiles in registers, as a rule; an operand in shared memory is read, and written if it is the result.
  void Softcap(const Tile& S, float scale, float cap);  // S = cap * tanh(S * scale / cap) / scale
  // S = -inf where the mask or the end of the keys hides a column from a row. A fact about the range, never a value.
  void Mask(const Tile& S, const QueryTile& queries, const KeyTile& keys);
  void RowMax(const Tile& out, const Tile& S, const Tile& m);  // out = max(m, max over the row of S)
  void FiniteOrZero(const Tile& out, const Tile& m);           // out = m == -inf ? 0 : m (a row without a key yet)
  void Sub(const Tile& out, const Tile& a, const Tile& b);     // out = a - b, rounded once
  void Mul(const Tile& out, const Tile& a, float b);           // out = a * b, rounded once
  void Mul(const Tile& out, const Tile& a, const Tile& b);     // likewise
  void Move(const Tile& out, const Tile& a);                   // out = a
  void MulRows(const Tile& x, const Tile& r);                  // x[row, :] *= r[row]
  void MulScalar(const Tile& x, float b);                      // x *= b
  // out = 1 / l as the recipe divides, and its value for a row without a key.
  void Invert(const Tile& out, const Tile& l, const Recipe& recipe);
  void FmaRows(const Tile& x, float scale, const Tile& addend);                 // x = fma(x, scale, addend[row])
  void SubRows(const Tile& x, const Tile& r);                                   // x[row, :] -= r[row]
  void FmaColumn(const Tile& x, const Tile& y, const Tile& w, int64_t column);  // x = fma(y, w[row, column], x)
  void AddColumn(const Tile& x, const Tile& w, int64_t column);                 // x[row] += w[row, column]
  void Exp2(const Tile& out, const Tile& a, const Recipe& recipe);              // 2^a by the recipe's exponential
  // l[row, lane] += the row's elements that the lane owns, in column order: every lane of l has a sum of its own.
  void AddToLanes(const Tile& l, const Tile& P);
  void FmaVector(const Tile& out, const Tile& a, const Tile& b, const Tile& c);  // out = fma(a, b, c)
  // The same with the lane's first element fused: l = fma(l, r, P_first), then the others added in column order.
  void RescaleAndAddToLanes(const Tile& l, const Tile& r, const Tile& P);
  void SumQuad(const Tile& l, const Recipe& recipe);  // l[row] = the sum of its four lanes, in all of them
  void SumLanes(const Tile& l);  // the same over more lanes: a butterfly inside each warp, then warps in order
  void Add(const Tile& x, const Tile& y);         // x += y
  void Convert(const Tile& out, const Tile& in);  // to out.format, nearest-even
  // out = m * scale + log(l) as the recipe computes it, and its value for a row without a key.
  void LogSumExp(const Tile& out, const Tile& m, const Tile& l, float scale, const Recipe& recipe);

  // w holds the log-sum-exps of a row's parts: lse = log(sum of exp(w_c)), then w_c = exp(w_c - lse). `threads` threads
  // share the parts in turn and add their sums in a butterfly, as FlashAttention-2's combine kernel does.
  void CombineLogSumExp(const Tile& lse, const Tile& w, int64_t threads);

  // --- Loops -------------------------------------------------------------------------------------------------------
  // Calls body(tile) for the tiles of `runs`, in order.
  template <class Runs, class Body>
  void For(const Runs& runs, const Body& body) {
    for (const auto& run : runs) {
      if (loops_ == Loops::kByTile) {
        for (int64_t n = 0; n < run.count; ++n) body(run.at(n));
        continue;
      }
      const int64_t outer = times_;
      EnterRun(run);
      body(run.whole());
      times_ = outer;
    }
  }

  // --- What it took ------------------------------------------------------------------------------------------------
  Resources resources() const;
  bool overflowed() const { return overflowed_; }  // some count did not fit 63 bits
  Loops loops() const { return loops_; }

 private:
  virtual void DoMakeTile(const Tile&) {}
  virtual void DoFill(const Tile&, float) {}
  virtual void DoCopy(const Tile&, const GlobalTile&) {}
  virtual void DoCopy(const GlobalTile&, const Tile&) {}
  virtual void DoCopy(const Tile&, const Tile&) {}
  virtual void DoCopyConvert(const Tile&, const GlobalTile&) {}
  virtual void DoCopyConvert(const GlobalTile&, const Tile&) {}
  virtual void DoMma(const Tile&, const Tile&, const Tile&, bool /*transposed*/, bool /*accumulate*/) {}
  virtual void DoSoftcap(const Tile&, float, float) {}
  virtual void DoMask(const Tile&, const QueryTile&, const KeyTile&) {}
  virtual void DoRowMax(const Tile&, const Tile&, const Tile&) {}
  virtual void DoFiniteOrZero(const Tile&, const Tile&) {}
  virtual void DoSub(const Tile&, const Tile&, const Tile&) {}
  virtual void DoMul(const Tile&, const Tile&, float) {}
  virtual void DoMul(const Tile&, const Tile&, const Tile&) {}
  virtual void DoMove(const Tile&, const Tile&) {}
  virtual void DoMulRows(const Tile&, const Tile&) {}
  virtual void DoMulScalar(const Tile&, float) {}
  virtual void DoInvert(const Tile&, const Tile&, const Recipe&) {}
  virtual void DoFmaRows(const Tile&, float, const Tile&) {}
  virtual void DoSubRows(const Tile&, const Tile&) {}
  virtual void DoAddColumn(const Tile&, const Tile&, int64_t) {}
  virtual void DoFmaColumn(const Tile&, const Tile&, const Tile&, int64_t) {}
  virtual void DoExp2(const Tile&, const Tile&, const Recipe&) {}
  virtual void DoFmaVector(const Tile&, const Tile&, const Tile&, const Tile&) {}
  virtual void DoRescaleAndAddToLanes(const Tile&, const Tile&, const Tile&) {}
  virtual void DoAddToLanes(const Tile&, const Tile&) {}
  virtual void DoSumQuad(const Tile&, const Recipe&) {}
  virtual void DoSumLanes(const Tile&) {}
  virtual void DoAdd(const Tile&, const Tile&) {}
  virtual void DoConvert(const Tile&, const Tile&) {}
  virtual void DoCombineLogSumExp(const Tile&, const Tile&, int64_t) {}
  virtual void DoLogSumExp(const Tile&, const Tile&, const Tile&, float, const Recipe&) {}

  template <class Run>
  void EnterRun(const Run& run) {
    overflowed_ |= __builtin_mul_overflow(times_, run.count, &times_);
  }
  void EnterRun(const KeyRun& run) {
    // The total over the like blocks replaces their number times this block's tiles.
    const bool together = run.total > 0 && times_ > 0;
    overflowed_ |= __builtin_mul_overflow(together ? heads_ : times_, together ? run.total : run.count, &times_);
  }
  void Charge(int64_t& counter, int64_t amount) {
    int64_t product;
    overflowed_ |= __builtin_mul_overflow(amount, times_, &product);
    overflowed_ |= __builtin_add_overflow(counter, product, &counter);
  }
  // Elementwise operations on `tile`: `fp32` and `special` operations an element.
  void ChargeElements(const Tile& tile, int64_t fp32, int64_t special = 0) {
    Charge(ledger_.fp32_ops, tile.elements() * fp32);
    Charge(ledger_.special_ops, tile.elements() * special);
  }
  void ChargeRead(const Tile& tile) {
    if (tile.space == Space::kShared) Charge(At(ledger_.shared, tile.tensor).read, tile.bytes());
  }
  void ChargeWrite(const Tile& tile) {
    if (tile.space == Space::kShared) Charge(At(ledger_.shared, tile.tensor).write, tile.bytes());
  }
  void Touch(std::array<Span, kTensorCount>& spans, const GlobalTile& tile, int64_t Traffic::*direction);
  void ChargeMma(const Tile& D, const Tile& A, const Tile& B, int64_t m, int64_t n, int64_t k);

  const BlockSpec spec_;
  const Loops loops_;
  Ledger& ledger_;
  Spans& spans_;
  const int64_t heads_;
  int64_t times_ = 0;  // how often the current operation happens in the blocks that this one stands for
  bool overflowed_ = false;
  int64_t shared_bytes_ = 0;
  int64_t register_bytes_ = 0;
  int32_t tiles_ = 0;
};

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_BLOCK_H_
