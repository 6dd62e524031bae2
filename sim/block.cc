#include "sim/block.h"

#include <algorithm>
#include <cassert>

#include "sim/ceil_div.h"

namespace bitflash::sim {
namespace {

[[maybe_unused]] bool SameShape(const Tile& a, const Tile& b) { return a.rows == b.rows && a.cols == b.cols; }
[[maybe_unused]] bool IsVectorOf(const Tile& r, const Tile& x) { return r.rows == x.rows && r.cols == 1; }

}  // namespace

// --- Tiles ---------------------------------------------------------------------------------------------------------

Tile Block::Shared(TensorId tensor, Format format, int64_t rows, int64_t cols, int64_t stages) {
  Tile tile{Space::kShared, format, tensor, rows, cols, 1, tiles_++};
  shared_bytes_ += tile.bytes() * stages;
  DoMakeTile(tile);
  return tile;
}

Tile Block::Registers(TensorId tensor, int64_t rows, int64_t cols, Format format) {
  Tile tile{Space::kRegister, format, tensor, rows, cols, 1, tiles_++};
  register_bytes_ += tile.bytes();
  DoMakeTile(tile);
  return tile;
}

Tile Block::RowVector(int64_t rows, int64_t lanes) {
  // Row vectors are not charged to register_bytes_: the handful of them is part of kRegisterOverhead.
  const Tile tile{Space::kRegister, Format::kFp32, TensorId::kM, rows, 1, lanes, tiles_++};
  DoMakeTile(tile);
  return tile;
}

Tile Block::Alias(const Tile& tile, TensorId tensor, Format format, int64_t rows, int64_t cols) {
  Tile alias{tile.space, format, tensor, rows, cols, 1, tiles_++};
  assert(alias.bytes() <= tile.bytes());
  DoMakeTile(alias);
  return alias;
}

// --- Copies --------------------------------------------------------------------------------------------------------

void Block::Touch(std::array<Span, kTensorCount>& spans, const GlobalTile& tile, int64_t Traffic::*direction) {
  assert(tile.rows.begin >= 0 && tile.rows.end() <= tile.matrix.rows);
  assert(tile.cols.begin >= 0 && tile.cols.end() <= tile.matrix.cols);
  const TensorId tensor = tile.matrix.tensor;
  assert(tile.matrix.crossing != Crossing::kBoxes || direction == &Traffic::read);
  Charge(At(ledger_.l2_to_sm, tensor).*direction, tile.crossing_bytes());
  if (tile.matrix.reuse == Reuse::kOnce) Charge(At(ledger_.hbm_compulsory, tensor).*direction, tile.bytes());
  if (tile.matrix.reuse == Reuse::kShared) {
    Span& span = spans[static_cast<int>(tensor)];
    span.matrix = tile.matrix;
    span.row_begin = std::min(span.row_begin, tile.rows.begin + std::min<int64_t>(0, tile.rows.reach));
    span.row_end = std::max(span.row_end, tile.rows.end() + std::max<int64_t>(0, tile.rows.reach));
    span.col_begin = std::min(span.col_begin, tile.cols.begin + std::min<int64_t>(0, tile.cols.reach));
    span.col_end = std::max(span.col_end, tile.cols.end() + std::max<int64_t>(0, tile.cols.reach));
  }
}

void Block::Copy(const Tile& to, const GlobalTile& from) {
  assert(to.rows >= from.rows.count && to.cols >= from.cols.count && to.format == from.matrix.format);
  Touch(spans_.read, from, &Traffic::read);
  ChargeWrite(to);
  DoCopy(to, from);
}

void Block::Copy(const GlobalTile& to, const Tile& from) {
  assert(from.rows >= to.rows.count && from.cols >= to.cols.count && from.format == to.matrix.format);
  Touch(spans_.write, to, &Traffic::write);
  ChargeRead(from);
  DoCopy(to, from);
}

void Block::Copy(const Tile& to, const Tile& from) {
  assert(SameShape(to, from) && to.format == from.format && to.space != from.space);
  ChargeRead(from);
  ChargeWrite(to);
  DoCopy(to, from);
}

void Block::CopyConvert(const Tile& to, const GlobalTile& from) {
  assert(to.rows >= from.rows.count && to.cols >= from.cols.count && to.format == Format::kFp32);
  Touch(spans_.read, from, &Traffic::read);
  if (from.matrix.format != to.format) ChargeElements(to, 1);
  ChargeWrite(to);
  DoCopyConvert(to, from);
}

void Block::CopyConvert(const GlobalTile& to, const Tile& from) {
  assert(from.rows >= to.rows.count && from.cols >= to.cols.count && from.format == Format::kFp32);
  Touch(spans_.write, to, &Traffic::write);
  if (to.matrix.format != from.format) ChargeElements(from, 1);
  ChargeRead(from);
  DoCopyConvert(to, from);
}

void Block::LoadIndices(const GlobalTile& from) { Touch(spans_.read, from, &Traffic::read); }

// --- Matrix products -----------------------------------------------------------------------------------------------

void Block::ChargeMma(const Tile& D, const Tile& A, const Tile& B, int64_t m, int64_t n, int64_t k) {
  const int64_t bytes = data::StorageBytes(A.format);
  const int64_t k_steps = CeilDiv(k * bytes, 32);  // an instruction takes 32 bytes of k: k16 of 16-bit formats
  Charge(ledger_.matrix_flops, 2 * m * n * k);
  Traffic& a_registers = At(ledger_.registers, A.tensor);
  Traffic& a_shared = At(ledger_.shared, A.tensor);
  if (spec_.mma == MmaInstruction::kWgmma) {
    // N above 256 takes several instructions, each of which reads A again; so do warpgroups that share the rows.
    const int64_t sharers = std::max<int64_t>(1, spec_.warps * 16 / m);
    const int64_t instructions = sharers * CeilDiv(CeilDiv(n, sharers), 256);
    Charge(A.space == Space::kShared ? a_shared.read : a_registers.read, m * k * bytes * instructions);
    Charge(At(ledger_.shared, B.tensor).read, CeilDiv(m, 64) * n * k * bytes);
    Charge(At(ledger_.registers, D.tensor).read, m * n * 4 * k_steps);
    return;
  }
  const int64_t row_tiles = CeilDiv(m, 16);
  const int64_t col_tiles = CeilDiv(n, 8);
  // Warps that the rows do not occupy share the columns: each of them loads A.
  if (A.space == Space::kShared) Charge(a_shared.read, m * k * bytes * std::max<int64_t>(1, spec_.warps / row_tiles));
  Charge(At(ledger_.shared, B.tensor).read, std::min(spec_.warps, row_tiles) * n * k * bytes);
  Charge(a_registers.read, row_tiles * 16 * k * bytes * col_tiles);
  Charge(At(ledger_.registers, B.tensor).read, col_tiles * 8 * k * bytes * row_tiles);
  Charge(At(ledger_.registers, D.tensor).read, row_tiles * 16 * col_tiles * 8 * 4 * k_steps);
}

void Block::MmaTransposed(const Tile& D, const Tile& A, const Tile& B) {
  assert(A.rows == D.rows && B.rows == D.cols && A.cols == B.cols && A.format == B.format);
  assert(B.space == Space::kShared && D.space == Space::kRegister && D.format == Format::kFp32);
  ChargeMma(D, A, B, D.rows, D.cols, A.cols);
  DoMma(D, A, B, /*transposed=*/true, /*accumulate=*/false);
}

void Block::MmaTransposedAdd(const Tile& D, const Tile& A, const Tile& B) {
  assert(A.rows == D.rows && B.rows == D.cols && A.cols == B.cols && A.format == B.format);
  assert(B.space == Space::kShared && D.space == Space::kRegister && D.format == Format::kFp32);
  ChargeMma(D, A, B, D.rows, D.cols, A.cols);
  DoMma(D, A, B, /*transposed=*/true, /*accumulate=*/true);
}

void Block::Mma(const Tile& D, const Tile& A, const Tile& B) {
  // B may have more columns than D: latent attention's V is the first columns of K.
  assert(A.rows == D.rows && B.cols >= D.cols && A.cols == B.rows && A.format == B.format);
  assert(B.space == Space::kShared && D.space == Space::kRegister && D.format == Format::kFp32);
  ChargeMma(D, A, B, D.rows, D.cols, A.cols);
  DoMma(D, A, B, /*transposed=*/false, /*accumulate=*/true);
}

// --- Elementwise ---------------------------------------------------------------------------------------------------

void Block::Fill(const Tile& tile, float value) {
  ChargeElements(tile, 1);
  ChargeWrite(tile);
  DoFill(tile, value);
}

void Block::Softcap(const Tile& S, float scale, float cap) {
  ChargeElements(S, 2, 1);  // two multiplications around tanh.approx
  ChargeRead(S);
  ChargeWrite(S);
  DoSoftcap(S, scale, cap);
}

void Block::Mask(const Tile& S, const QueryTile& queries, const KeyTile& keys) {
  ChargeElements(S, 1);
  ChargeRead(S);
  ChargeWrite(S);
  DoMask(S, queries, keys);
}

void Block::RowMax(const Tile& out, const Tile& S, const Tile& m) {
  assert(IsVectorOf(out, S) && SameShape(out, m));
  ChargeElements(S, 1);
  ChargeRead(S);
  DoRowMax(out, S, m);
}

void Block::FiniteOrZero(const Tile& out, const Tile& m) {
  assert(SameShape(out, m));
  ChargeElements(out, 1);
  DoFiniteOrZero(out, m);
}

void Block::Sub(const Tile& out, const Tile& a, const Tile& b) {
  assert(SameShape(out, a) && SameShape(out, b));
  ChargeElements(out, 1);
  ChargeRead(a);
  ChargeRead(b);
  ChargeWrite(out);
  DoSub(out, a, b);
}

void Block::Mul(const Tile& out, const Tile& a, float b) {
  assert(SameShape(out, a));
  ChargeElements(out, 1);
  ChargeRead(a);
  ChargeWrite(out);
  DoMul(out, a, b);
}

void Block::Mul(const Tile& out, const Tile& a, const Tile& b) {
  assert(SameShape(out, a) && SameShape(out, b));
  ChargeElements(out, 1);
  ChargeRead(a);
  ChargeRead(b);
  ChargeWrite(out);
  DoMul(out, a, b);
}

void Block::Move(const Tile& out, const Tile& a) {
  assert(SameShape(out, a));
  ChargeElements(out, 1);
  ChargeRead(a);
  ChargeWrite(out);
  DoMove(out, a);
}

void Block::MulRows(const Tile& x, const Tile& r) {
  assert(IsVectorOf(r, x));
  ChargeElements(x, 1);
  ChargeRead(x);
  ChargeWrite(x);
  DoMulRows(x, r);
}

void Block::MulScalar(const Tile& x, float b) {
  ChargeElements(x, 1);
  ChargeRead(x);
  ChargeWrite(x);
  DoMulScalar(x, b);
}

void Block::Invert(const Tile& out, const Tile& l, const Recipe& recipe) {
  assert(SameShape(out, l));
  ChargeElements(out, 0, 1);
  DoInvert(out, l, recipe);
}

void Block::SubRows(const Tile& x, const Tile& r) {
  assert(IsVectorOf(r, x));
  ChargeElements(x, 1);
  ChargeRead(x);
  ChargeWrite(x);
  DoSubRows(x, r);
}

void Block::FmaRows(const Tile& x, float scale, const Tile& addend) {
  assert(IsVectorOf(addend, x));
  ChargeElements(x, 1);
  ChargeRead(x);
  ChargeWrite(x);
  DoFmaRows(x, scale, addend);
}

void Block::FmaColumn(const Tile& x, const Tile& y, const Tile& w, int64_t column) {
  assert(SameShape(x, y) && w.rows == x.rows && column < w.cols);
  ChargeElements(x, 1);
  if (w.space == Space::kShared) Charge(At(ledger_.shared, w.tensor).read, w.rows * data::StorageBytes(w.format));
  DoFmaColumn(x, y, w, column);
}

void Block::AddColumn(const Tile& x, const Tile& w, int64_t column) {
  assert(w.rows == x.rows && x.cols == 1 && column < w.cols);
  ChargeElements(x, 1);
  if (w.space == Space::kShared) Charge(At(ledger_.shared, w.tensor).read, w.rows * data::StorageBytes(w.format));
  DoAddColumn(x, w, column);
}

void Block::Exp2(const Tile& out, const Tile& a, const Recipe& recipe) {
  assert(SameShape(out, a));
  ChargeElements(out, 0, 1);
  ChargeRead(a);
  ChargeWrite(out);
  DoExp2(out, a, recipe);
}

void Block::AddToLanes(const Tile& l, const Tile& P) {
  assert(IsVectorOf(l, P));
  ChargeElements(P, 1);
  ChargeRead(P);
  DoAddToLanes(l, P);
}

void Block::FmaVector(const Tile& out, const Tile& a, const Tile& b, const Tile& c) {
  assert(SameShape(out, a) && SameShape(out, b) && SameShape(out, c));
  ChargeElements(out, 1);
  DoFmaVector(out, a, b, c);
}

void Block::RescaleAndAddToLanes(const Tile& l, const Tile& r, const Tile& P) {
  assert(IsVectorOf(l, P) && SameShape(l, r));
  ChargeElements(P, 1);
  DoRescaleAndAddToLanes(l, r, P);
}

void Block::SumQuad(const Tile& l, const Recipe& recipe) {
  assert(l.lanes == 4);
  ChargeElements(l, 2);
  DoSumQuad(l, recipe);
}

void Block::SumLanes(const Tile& l) {
  // log2 of the lanes: the steps of a butterfly.
  int64_t steps = 0;
  while ((int64_t{1} << steps) < l.lanes) ++steps;
  ChargeElements(l, steps);
  DoSumLanes(l);
}

void Block::Add(const Tile& x, const Tile& y) {
  assert(SameShape(x, y));
  ChargeElements(x, 1);
  ChargeRead(x);
  ChargeRead(y);
  ChargeWrite(x);
  DoAdd(x, y);
}

void Block::Convert(const Tile& out, const Tile& in) {
  assert(SameShape(out, in));
  ChargeElements(out, 1);
  ChargeRead(in);
  ChargeWrite(out);
  DoConvert(out, in);
}

void Block::LogSumExp(const Tile& out, const Tile& m, const Tile& l, float scale, const Recipe& recipe) {
  assert(SameShape(out, m) && SameShape(out, l));
  ChargeElements(out, 1, 1);
  DoLogSumExp(out, m, l, scale, recipe);
}

void Block::CombineLogSumExp(const Tile& lse, const Tile& w, int64_t threads) {
  ChargeElements(w, 3, 2);  // maximum, difference, sum; one exponential each for the sum and for the weight
  ChargeElements(lse, 1, 1);
  ChargeRead(w);
  ChargeWrite(w);
  DoCombineLogSumExp(lse, w, threads);
}

// --- What it took --------------------------------------------------------------------------------------------------

Resources Block::resources() const {
  Resources r;
  r.threads = spec_.all_threads();
  r.shared_bytes = shared_bytes_;
  r.registers_needed = CeilDiv(register_bytes_, 4 * 32 * spec_.warps) + kRegisterOverhead;
  if (spec_.mma == MmaInstruction::kWgmma && r.threads >= 32 * spec_.warps + 128) {
    r.registers_per_thread = RegistersAtEntry(r.threads);
    r.registers_limit = ConsumerRegisters(spec_.warps / 4);
  } else {
    r.registers_per_thread = std::min<int64_t>(CeilDiv(r.registers_needed, 8) * 8, 255);
  }
  return r;
}

}  // namespace bitflash::sim
