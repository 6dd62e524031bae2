#include "sim/exact_block.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>
#include <cstring>
#include <limits>

#include "data/convert_simd.h"
#include "data/error.h"
#include "sim/gpu_float.h"
#include "sim/operands.h"
#include "sim/row_ops.h"
#include "sim/special_functions.h"
#include "sim/tensor_core_simd.h"

namespace bitflash::sim {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kLn2 = 0x1.62e430p-1f;  // 0x3F317218

Function FunctionOf(const Recipe& recipe) {
  return recipe.exponential == Recipe::Exponential::kEx2 ? Function::kEx2 : Function::kExp2f;
}

// expf without fast-math, as nvcc 13.0 compiles it for sm_90 (read from machine code): the argument is reduced to a
// whole and a fractional power of two, MUFU.EX2 takes the fraction.
float Expf(float x) {
  if (std::isnan(x)) return CanonicalNan();
  const float scaled = std::fma(x, std::bit_cast<float>(0x3BBB989Du), 0.5f);
  const double saturated = std::clamp(scaled, 0.0f, 1.0f);
  // fma.rm: at this magnitude one ulp is 1, so rounding down is a floor.
  const float t = static_cast<float>(std::floor(saturated * 252.0 + 12582913.0));
  const float whole = t + std::bit_cast<float>(0xCB40007Fu);
  const float fraction =
      std::fma(x, std::bit_cast<float>(0x32A57060u), std::fma(x, std::bit_cast<float>(0x3FB8AA3Bu), -whole));
  return Ex2(fraction) * std::bit_cast<float>(std::bit_cast<uint32_t>(t) << 23);
}

}  // namespace

std::byte* ExactBlock::Address(const GlobalTile& tile, int64_t row) const {
  const GlobalRows& rows = matrices_[static_cast<int>(tile.matrix.tensor)];
  return rows.Row(tile.rows.begin + row) + tile.cols.begin * data::StorageBytes(tile.matrix.format);
}

void ExactBlock::DoMakeTile(const Tile& tile) {
  while (static_cast<int32_t>(pool_.size()) <= tile.id) pool_.push_back(std::make_unique<TileStorage>());
  TileStorage& storage = At(tile);
  storage.bits.Resize(std::max<int64_t>(1, tile.bytes()));  // an empty tile has an address too
  storage.rows_used = tile.rows;
  storage.Changed();
}

void ExactBlock::DoFill(const Tile& tile, float value) {
  if (tile.format == Format::kFp32) {
    std::fill_n(Floats(tile), tile.elements(), value);
  } else {
    assert(value == 0);  // every format's zero is all bits zero
    std::memset(At(tile).bits.data(), 0, tile.bytes());
  }
  At(tile).Changed();
}

// --- Copies --------------------------------------------------------------------------------------------------------

void ExactBlock::DoCopy(const Tile& to, const GlobalTile& from) {
  TileStorage& storage = At(to);
  const int64_t element = data::StorageBytes(to.format);
  const int64_t row_bytes = to.cols * to.lanes * element;
  const int64_t bytes = from.cols.count * element;
  for (int64_t row = 0; row < from.rows.count; ++row) {
    std::byte* target = storage.bits.data() + row * row_bytes;
    if (to.lanes > 1) {
      // A row's number goes to every lane that holds the row.
      for (int64_t lane = 0; lane < to.lanes; ++lane) std::memcpy(target + lane * element, Address(from, row), element);
      continue;
    }
    std::memcpy(target, Address(from, row), bytes);
    std::memset(target + bytes, 0, row_bytes - bytes);
  }
  std::memset(storage.bits.data() + from.rows.count * row_bytes, 0, (to.rows - from.rows.count) * row_bytes);
  storage.rows_used = from.rows.count;
  storage.Changed();
}

void ExactBlock::DoCopy(const GlobalTile& to, const Tile& from) {
  const int64_t element = data::StorageBytes(from.format);
  const int64_t row_bytes = from.cols * from.lanes * element;
  for (int64_t row = 0; row < to.rows.count; ++row) {
    std::memcpy(Address(to, row), At(from).bits.data() + row * row_bytes, to.cols.count * element);
  }
}

void ExactBlock::DoCopy(const Tile& to, const Tile& from) {
  std::memcpy(At(to).bits.data(), At(from).bits.data(), from.bytes());
  At(to).rows_used = At(from).rows_used;
  At(to).Changed();
}

void ExactBlock::DoCopyConvert(const Tile& to, const GlobalTile& from) {
  for (int64_t row = 0; row < from.rows.count; ++row) {
    const std::span<float> target = FloatRow(to, row);
    data::ToFloat(from.matrix.format, Address(from, row), target.data(), from.cols.count);
    std::fill(target.begin() + from.cols.count, target.end(), -kInfinity);
  }
  At(to).rows_used = from.rows.count;
  At(to).Changed();
}

void ExactBlock::ScaleOutput(const Tile& O, int64_t rows) {
  if (output_scale_ == 1) return;
  for (int64_t row = 0; row < rows; ++row) MultiplyRow(FloatRow(O, row), output_scale_);
}

void ExactBlock::DoCopyConvert(const GlobalTile& to, const Tile& from) {
  if (to.matrix.tensor == TensorId::kO) ScaleOutput(from, to.rows.count);
  for (int64_t row = 0; row < to.rows.count; ++row) {
    data::FromFloat(to.matrix.format, FloatRow(from, row).data(), Address(to, row), to.cols.count);
  }
}

// --- Matrix products -----------------------------------------------------------------------------------------------

void ExactBlock::DoMma(const Tile& D, const Tile& A, const Tile& B, bool transposed, bool accumulate) {
  TileStorage &d = At(D), &a = At(A), &b = At(B);
  const int64_t rows = UsedRows(A);
  if (!accumulate) std::fill_n(d.floats(), rows * D.cols, 0.0f);
  if (!a.rows_packed) {
    a.as_rows.Pack(MatrixView::RowMajor(a.bits.data(), A.format, rows, A.cols));
    a.rows_packed = true;
  }
  PackedColumns& columns = transposed ? b.as_transposed : b.as_columns;
  bool& packed = transposed ? b.transpose_packed : b.columns_packed;
  if (!packed) {
    // V may be the first columns of K: only D's columns are needed.
    MatrixView view{b.bits.data(), B.format, B.rows, transposed ? B.cols : D.cols, B.cols, 1};
    columns.Pack(transposed ? view.Transposed() : view);
    packed = true;
  }
  MultiplyAdd(core_, a.as_rows, columns, d.floats(), D.cols);
  d.rows_used = rows;
  d.Changed();
}

// --- Elementwise ---------------------------------------------------------------------------------------------------

void ExactBlock::DoSoftcap(const Tile&, float, float) {
  throw data::UndecidedError(
      "softcap needs tanh.approx, whose bits are not modelled: expected a problem without softcap");
}

void ExactBlock::DoMask(const Tile& S, const QueryTile& queries, const KeyTile& keys) {
  const int64_t rows = UsedRows(S);
  for (int64_t row = 0; row < rows; ++row) {
    const Range visible = VisibleKeys(attention_, (queries.rows.begin + row) / group_);
    const int64_t begin = std::clamp<int64_t>(visible.begin - keys.rows.begin, 0, S.cols);
    const int64_t end = std::clamp<int64_t>(visible.end() - keys.rows.begin, begin, S.cols);
    float* s = FloatRow(S, row).data();
    std::fill(s, s + begin, -kInfinity);
    std::fill(s + end, s + S.cols, -kInfinity);
  }
}

void ExactBlock::DoRowMax(const Tile& out, const Tile& S, const Tile& m) {
  const int64_t rows = UsedRows(S);
  for (int64_t row = 0; row < rows; ++row) {
    const float most = RowMaximum(FloatRow(S, row), FloatRow(m, row)[0]);
    std::ranges::fill(FloatRow(out, row), most);
  }
}

void ExactBlock::DoFiniteOrZero(const Tile& out, const Tile& m) {
  for (int64_t i = 0; i < out.elements(); ++i) Floats(out)[i] = Floats(m)[i] == -kInfinity ? 0 : Floats(m)[i];
}

void ExactBlock::DoSub(const Tile& out, const Tile& a, const Tile& b) {
  for (int64_t i = 0; i < out.elements(); ++i) Floats(out)[i] = Floats(a)[i] - Floats(b)[i];
}

void ExactBlock::DoMul(const Tile& out, const Tile& a, float b) {
  for (int64_t i = 0; i < out.elements(); ++i) Floats(out)[i] = Floats(a)[i] * b;
}

void ExactBlock::DoMul(const Tile& out, const Tile& a, const Tile& b) {
  for (int64_t i = 0; i < out.elements(); ++i) Floats(out)[i] = Floats(a)[i] * Floats(b)[i];
}

void ExactBlock::DoMove(const Tile& out, const Tile& a) { std::copy_n(Floats(a), out.elements(), Floats(out)); }

void ExactBlock::DoMulRows(const Tile& x, const Tile& r) {
  const int64_t rows = UsedRows(x);
  for (int64_t row = 0; row < rows; ++row) MultiplyRow(FloatRow(x, row), FloatRow(r, row)[0]);
}

void ExactBlock::DoMulScalar(const Tile& x, float b) {
  MultiplyRow({Floats(x), static_cast<size_t>(UsedRows(x) * x.cols * x.lanes)}, b);
}

void ExactBlock::DoSubRows(const Tile& x, const Tile& r) {
  const int64_t rows = UsedRows(x);
  for (int64_t row = 0; row < rows; ++row) SubtractRow(FloatRow(x, row), FloatRow(r, row)[0]);
}

void ExactBlock::DoFmaRows(const Tile& x, float scale, const Tile& addend) {
  const int64_t rows = UsedRows(x);
  for (int64_t row = 0; row < rows; ++row) FmaRow(FloatRow(x, row), scale, FloatRow(addend, row)[0]);
}

void ExactBlock::DoAddColumn(const Tile& x, const Tile& w, int64_t column) {
  for (int64_t row = 0; row < x.rows; ++row) {
    for (float& sum : FloatRow(x, row)) sum += FloatRow(w, row)[column];
  }
}

void ExactBlock::DoFmaColumn(const Tile& x, const Tile& y, const Tile& w, int64_t column) {
  for (int64_t row = 0; row < x.rows; ++row) FmaIntoRow(FloatRow(x, row), FloatRow(y, row), FloatRow(w, row)[column]);
}

void ExactBlock::DoExp2(const Tile& out, const Tile& a, const Recipe& recipe) {
  const size_t count = static_cast<size_t>(UsedRows(a) * a.cols * a.lanes);
  Evaluate(FunctionOf(recipe), {Floats(a), count}, {Floats(out), count});
}

void ExactBlock::DoFmaVector(const Tile& out, const Tile& a, const Tile& b, const Tile& c) {
  const size_t count = static_cast<size_t>(out.elements());
  Fma(std::span<const float>{Floats(a), count}, {Floats(b), count}, {Floats(c), count}, {Floats(out), count});
}

// The lane of a row that owns a column. Four lanes: the accumulator layout of mma.m16n8k16 and wgmma, two neighbouring
// columns of every eight. More: whole 16-byte vectors of a 16-bit row in turn.
namespace {
int64_t LaneOf(int64_t column, int64_t lanes) { return lanes == 4 ? column % 8 / 2 : column / 8 % lanes; }
}  // namespace

void ExactBlock::DoAddToLanes(const Tile& l, const Tile& P) {
  const int64_t rows = UsedRows(P);
  for (int64_t row = 0; row < rows; ++row) {
    const float* p = FloatRow(P, row).data();
    float* sums = FloatRow(l, row).data();
    if (l.lanes != 4) {
      for (int64_t column = 0; column < P.cols; ++column) sums[LaneOf(column, l.lanes)] += p[column];
      continue;
    }
    float s[4] = {sums[0], sums[1], sums[2], sums[3]};
    for (int64_t column = 0; column + 8 <= P.cols; column += 8) {
      for (int t = 0; t < 4; ++t) s[t] += p[column + 2 * t];
      for (int t = 0; t < 4; ++t) s[t] += p[column + 2 * t + 1];
    }
    std::copy_n(s, 4, sums);
  }
}

void ExactBlock::DoRescaleAndAddToLanes(const Tile& l, const Tile& r, const Tile& P) {
  assert(l.lanes == 4);
  const int64_t rows = UsedRows(P);
  for (int64_t row = 0; row < rows; ++row) {
    const float* p = FloatRow(P, row).data();
    float* sums = FloatRow(l, row).data();
    const float factor = FloatRow(r, row)[0];
    float s[4];
    for (int t = 0; t < 4; ++t) s[t] = std::fma(sums[t], factor, p[2 * t]) + p[2 * t + 1];
    for (int64_t column = 8; column + 8 <= P.cols; column += 8) {
      for (int t = 0; t < 4; ++t) s[t] += p[column + 2 * t];
      for (int t = 0; t < 4; ++t) s[t] += p[column + 2 * t + 1];
    }
    std::copy_n(s, 4, sums);
  }
}

void ExactBlock::DoSumQuad(const Tile& l, const Recipe& recipe) {
  for (int64_t row = 0; row < l.rows; ++row) {
    const std::span<float> s = FloatRow(l, row);
    const float sum =
        recipe.quad_sum == Recipe::QuadSum::kAcross ? (s[0] + s[2]) + (s[1] + s[3]) : (s[0] + s[1]) + (s[2] + s[3]);
    std::ranges::fill(s, sum);
  }
}

void ExactBlock::DoSumLanes(const Tile& l) {
  for (int64_t row = 0; row < l.rows; ++row) {
    const std::span<float> s = FloatRow(l, row);
    const int64_t warps = l.lanes / 32;
    float sum = 0;
    for (int64_t warp = 0; warp < warps; ++warp) {
      float lanes[32];
      std::copy_n(s.data() + 32 * warp, 32, lanes);
      // Every lane adds its partner's number; all lanes end with the same sum, so following lane 0 is enough.
      for (int distance = 16; distance >= 1; distance /= 2) {
        for (int lane = 0; lane < distance; ++lane) lanes[lane] += lanes[lane + distance];
      }
      sum = warp == 0 ? lanes[0] : sum + lanes[0];
    }
    std::ranges::fill(s, sum);
  }
}

void ExactBlock::DoAdd(const Tile& x, const Tile& y) {
  for (int64_t i = 0; i < x.elements(); ++i) Floats(x)[i] += Floats(y)[i];
}

void ExactBlock::DoConvert(const Tile& out, const Tile& in) {
  const int64_t count = UsedRows(in) * in.cols;
  if (out.format == Format::kFp32) {
    data::ToFloat(in.format, At(in).bits.data(), Floats(out), count);
  } else {
    if (out.tensor == TensorId::kO) ScaleOutput(in, UsedRows(in));
    data::FromFloat(out.format, Floats(in), At(out).bits.data(), count);
  }
  At(out).rows_used = At(in).rows_used;
  At(out).Changed();
}

// --- The end of a row ----------------------------------------------------------------------------------------------

void ExactBlock::DoInvert(const Tile& out, const Tile& l, const Recipe& recipe) {
  const bool zero = recipe.empty_row == Recipe::EmptyRow::kZero;
  for (int64_t i = 0; i < out.elements(); ++i) {
    const float sum = Floats(l)[i];
    const bool empty = sum == 0 || (!zero && std::isnan(sum));
    const float inverse = recipe.reciprocal == Recipe::Reciprocal::kIeee ? Reciprocal(sum) : Rcp(sum);
    Floats(out)[i] = empty ? (zero ? 0.0f : 1.0f) : inverse;
  }
}

void ExactBlock::DoLogSumExp(const Tile& out, const Tile& m, const Tile& l, float scale, const Recipe& recipe) {
  using Form = Recipe::LogSumExp;
  const bool zero = recipe.empty_row == Recipe::EmptyRow::kZero;
  const float of_empty = recipe.empty_row == Recipe::EmptyRow::kOneAndPlusInf ? kInfinity : -kInfinity;
  for (int64_t i = 0; i < out.elements(); ++i) {
    const float most = Floats(m)[i], sum = Floats(l)[i];
    if (sum == 0 || (!zero && std::isnan(sum))) {
      Floats(out)[i] = of_empty;
      continue;
    }
    switch (recipe.log_sum_exp) {
      case Form::kLogf:
        Floats(out)[i] = sim::Fma(most, scale, Logf(sum));
        break;
      case Form::kFastLog:
        Floats(out)[i] = sim::Fma(most, scale, Lg2(sum) * kLn2);
        break;
      case Form::kScaledTwice:
        Floats(out)[i] = sim::Fma(most * ScaleLog2(attention_, recipe), kLn2, Lg2(sum) * kLn2);
        break;
    }
  }
}

void ExactBlock::DoCombineLogSumExp(const Tile& lse, const Tile& w, int64_t threads) {
  const std::span<float> parts = FloatRow(w, 0);
  float most = RowMaximum(parts, -kInfinity);
  if (most == -kInfinity) most = 0;
  std::vector<float> sums(threads, 0.0f);
  for (size_t c = 0; c < parts.size(); ++c) sums[c % threads] += Expf(parts[c] - most);
  for (int64_t distance = threads / 2; distance >= 1; distance /= 2) {
    for (int64_t thread = 0; thread < distance; ++thread) sums[thread] += sums[thread + distance];
  }
  const bool empty = sums[0] == 0 || std::isnan(sums[0]);
  const float all = empty ? kInfinity : Logf(sums[0]) + most;
  for (float& part : parts) part = Expf(part - all);
  Floats(lse)[0] = all;
}

}  // namespace bitflash::sim
