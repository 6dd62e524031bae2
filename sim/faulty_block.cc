#include "sim/faulty_block.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>

#include "data/convert_simd.h"
#include "sim/gpu_float.h"
#include "sim/row_ops.h"
#include "sim/runs.h"
#include "sim/special_functions.h"

namespace bitflash::sim {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// A row statistic, as opposed to a tile that happens to have one column: Block::RowVector gives them this tensor.
bool IsRowVector(const Tile& tile) { return tile.tensor == TensorId::kM && tile.space == Space::kRegister; }

}  // namespace

void FaultyBlock::DoMakeTile(const Tile& tile) {
  ExactBlock::DoMakeTile(tile);
  if (static_cast<int32_t>(roles_.size()) <= tile.id) roles_.resize(tile.id + 1, Role::kOther);
}

void FaultyBlock::FillRows(const Tile& tile, float value) {
  std::fill_n(Floats(tile), UsedRows(tile) * tile.cols * tile.lanes, value);
  At(tile).Changed();
}

void FaultyBlock::Round(const Tile& tile, int64_t rows, data::Format format, data::Rounding rounding) {
  const int64_t count = rows * tile.cols * tile.lanes;
  AlignedArray<std::byte> rounded;
  rounded.Resize(std::max<int64_t>(1, count * data::StorageBytes(format)));
  data::FromFloat(format, Floats(tile), rounded.data(), count, rounding, data::UsualOverflow(format));
  data::ToFloat(format, rounded.data(), Floats(tile), count);
  At(tile).Changed();
}

// --- Copies --------------------------------------------------------------------------------------------------------

void FaultyBlock::DoCopy(const Tile& to, const GlobalTile& from) {
  ExactBlock::DoCopy(to, from);
  const TensorId tensor = from.matrix.tensor;
  if (tensor == TensorId::kK) loaded_keys_ = from.rows;
  const bool values = tensor == TensorId::kV || (tensor == TensorId::kK && attention_.v_is_in_k);
  std::byte* bits = At(to).bits.data();
  if (Is(MachineFault::kTailValuesNotCleared) && values) {
    // All ones are a NaN in every format.
    const int64_t row_bytes = to.cols * data::StorageBytes(to.format);
    std::memset(bits + from.rows.count * row_bytes, 0xFF, (to.rows - from.rows.count) * row_bytes);
  }
  if ((Is(MachineFault::kStaleKeys) && tensor == TensorId::kK) || (Is(MachineFault::kStaleValues) && values)) {
    std::vector<std::byte> loaded(bits, bits + to.bytes());
    if (stage_.size() == loaded.size()) std::copy(stage_.begin(), stage_.end(), bits);
    stage_ = std::move(loaded);
  }
}

void FaultyBlock::DoCopy(const GlobalTile& to, const Tile& from) {
  if (Is(MachineFault::kEmptyPartNan) && to.matrix.tensor == TensorId::kOPartial) {
    // 0 / 0, as parts are normalised without a test for an empty one.
    for (int64_t row = 0; row < to.rows.count; ++row) {
      if (FloatRow(sum_, row)[0] == 0) std::ranges::fill(FloatRow(from, row), CanonicalNan());
    }
  }
  ExactBlock::DoCopy(to, from);
}

void FaultyBlock::RoundBeforeStore(TensorId tensor, data::Format format, const Tile& from, int64_t rows) {
  if (format == Format::kFp32) return;
  const bool P = tensor == TensorId::kP, O = tensor == TensorId::kO;
  if (P && Is(MachineFault::kProbabilitiesE4m3)) Round(from, rows, Format::kE4m3, data::Rounding::kNearestEven);
  if ((P && Is(MachineFault::kProbabilitiesTruncated)) || (O && Is(MachineFault::kOutputTruncated))) {
    Round(from, rows, format, data::Rounding::kTowardZero);
  }
}

void FaultyBlock::DoCopyConvert(const GlobalTile& to, const Tile& from) {
  RoundBeforeStore(to.matrix.tensor, to.matrix.format, from, to.rows.count);
  ExactBlock::DoCopyConvert(to, from);
}

void FaultyBlock::DoConvert(const Tile& out, const Tile& in) {
  RoundBeforeStore(out.tensor, out.format, in, UsedRows(in));
  ExactBlock::DoConvert(out, in);
}

// --- Scores --------------------------------------------------------------------------------------------------------

bool FaultyBlock::SkipsTile(int64_t tile_keys) const {
  if (Is(MachineFault::kPartialTileSkipped)) return loaded_keys_.count < tile_keys;
  if (Is(MachineFault::kLastTileSkipped)) return loaded_keys_.end() == place_.keys.end();
  return Is(MachineFault::kFirstTileSkipped) && loaded_keys_.begin == place_.keys.begin;
}

void FaultyBlock::DoMma(const Tile& D, const Tile& A, const Tile& B, bool transposed, bool accumulate) {
  ExactBlock::DoMma(D, A, B, transposed, accumulate);
  const bool scores = D.tensor == TensorId::kS;
  // A tile of -inf leaves m, l and O as they are: what a kernel has that does not visit it.
  if (scores && SkipsTile(D.cols)) FillRows(D, -kInfinity);
  if (Is(scores ? MachineFault::kScoresFp16 : MachineFault::kOutputFp16)) {
    Round(D, UsedRows(D), Format::kFp16, data::Rounding::kNearestEven);
  }
}

void FaultyBlock::DoMask(const Tile& S, const QueryTile& queries, const KeyTile& keys) {
  float hidden = -kInfinity, tail = -kInfinity;
  bool keep_hidden = false;
  switch (fault_) {
    case MachineFault::kOnlyTailMasked:
      keep_hidden = true;
      break;
    case MachineFault::kHiddenScoresZero:
      hidden = 0;
      break;
    case MachineFault::kTailScoresZero:
      tail = 0;
      break;
    case MachineFault::kSentinel1e4:
      hidden = tail = -1e4f;
      break;
    case MachineFault::kSentinel5e4:
      hidden = tail = -5e4f;
      break;
    default:
      ExactBlock::DoMask(S, queries, keys);
      return;
  }
  for (int64_t row = 0; row < UsedRows(S); ++row) {
    const Range visible = VisibleKeys(attention_, (queries.rows.begin + row) / group_);
    const std::span<float> s = FloatRow(S, row);
    for (int64_t column = 0; column < S.cols; ++column) {
      const int64_t key = keys.rows.begin + column;
      if (key >= attention_.seqlen_k) {
        s[column] = tail;
      } else if (!keep_hidden && (key < visible.begin || key >= visible.end())) {
        s[column] = hidden;
      }
    }
  }
}

// --- The maximum ---------------------------------------------------------------------------------------------------

void FaultyBlock::DoRowMax(const Tile& out, const Tile& S, const Tile& m) {
  ExactBlock::DoRowMax(out, S, m);
  if (place_.combine) return;
  for (int64_t row = 0; row < UsedRows(S); ++row) {
    const std::span<float> most = FloatRow(out, row);
    if (Is(MachineFault::kTileMaximum)) std::ranges::fill(most, RowMaximum(FloatRow(S, row), -kInfinity));
    if (Is(MachineFault::kZeroMaximum)) std::ranges::fill(most, 0.0f);
    if (Is(MachineFault::kConstantMaximum)) {
      std::ranges::fill(most, static_cast<float>(10 / attention_.scale()));
    }
  }
}

void FaultyBlock::DoFiniteOrZero(const Tile& out, const Tile& m) {
  if (Is(MachineFault::kHiddenTileNan)) {
    DoMove(out, m);
    return;
  }
  ExactBlock::DoFiniteOrZero(out, m);
  maximum_.assign(Floats(out), Floats(out) + out.elements());
}

void FaultyBlock::DoFmaRows(const Tile& x, float scale, const Tile& addend) {
  if (!Is(MachineFault::kRawMaximum)) {
    ExactBlock::DoFmaRows(x, scale, addend);
    return;
  }
  for (int64_t row = 0; row < UsedRows(x); ++row) FmaRow(FloatRow(x, row), scale, -maximum_[row * addend.lanes]);
}

void FaultyBlock::DoSubRows(const Tile& x, const Tile& r) {
  if (Is(MachineFault::kPartsWithoutMaximum) && place_.combine) return;
  if (!Is(MachineFault::kRawMaximum) || place_.combine) {
    ExactBlock::DoSubRows(x, r);
    return;
  }
  for (int64_t row = 0; row < UsedRows(x); ++row) SubtractRow(FloatRow(x, row), maximum_[row * r.lanes]);
}

// --- Exponentials and rescaling ------------------------------------------------------------------------------------

void FaultyBlock::DoExp2(const Tile& out, const Tile& a, const Recipe& recipe) {
  const size_t count = static_cast<size_t>(UsedRows(a) * a.cols * a.lanes);
  if (Is(MachineFault::kLog2eMissing)) MultiplyRow({Floats(a), count}, std::numbers::ln2_v<float>);
  if (Is(MachineFault::kLog2eTwice)) MultiplyRow({Floats(a), count}, std::numbers::log2e_v<float>);
  ExactBlock::DoExp2(out, a, recipe);
  if (place_.combine) {
    if (Is(MachineFault::kPartsUnweighted)) std::fill_n(Floats(out), count, 1.0f);
    return;
  }
  if (!IsRowVector(out)) return;
  roles_[out.id] = Role::kRescale;
  if (Is(MachineFault::kNothingRescaled)) std::fill_n(Floats(out), count, 1.0f);
}

void FaultyBlock::DoMulRows(const Tile& x, const Tile& r) {
  const Role role = roles_[r.id];
  if (Is(MachineFault::kNotDivided) && role == Role::kInverse) return;
  if (role == Role::kRescale && IsRowVector(x)) {
    unscaled_.assign(Floats(x), Floats(x) + x.elements());
    unscaled_id_ = x.id;
  }
  if (Is(MachineFault::kOutputNotRescaled) && x.tensor == TensorId::kO) {
    if (role == Role::kRescale) return;
    if (r.id == unscaled_id_) {  // fa1 weights O with the rescaled sum
      for (int64_t row = 0; row < UsedRows(x); ++row) MultiplyRow(FloatRow(x, row), unscaled_[row * r.lanes]);
      return;
    }
  }
  ExactBlock::DoMulRows(x, r);
}

void FaultyBlock::RestoreSum(const Tile& l) {
  if (Is(MachineFault::kSumNotRescaled) && l.id == unscaled_id_) std::ranges::copy(unscaled_, Floats(l));
  unscaled_id_ = -1;
}

template <class Sum>
void FaultyBlock::WithRounded(const Tile& P, const Sum& add) {
  if (!Is(MachineFault::kSumOfRoundedProbabilities)) {
    add();
    return;
  }
  const std::vector<float> exact(Floats(P), Floats(P) + P.elements());
  Round(P, UsedRows(P), attention_.format, data::Rounding::kNearestEven);
  add();
  std::ranges::copy(exact, Floats(P));
}

void FaultyBlock::DoAddToLanes(const Tile& l, const Tile& P) {
  RestoreSum(l);
  WithRounded(P, [&] { ExactBlock::DoAddToLanes(l, P); });
}

void FaultyBlock::DoRescaleAndAddToLanes(const Tile& l, const Tile& r, const Tile& P) {
  WithRounded(P, [&] {
    if (Is(MachineFault::kSumNotRescaled)) {
      ExactBlock::DoAddToLanes(l, P);
    } else {
      ExactBlock::DoRescaleAndAddToLanes(l, r, P);
    }
  });
}

void FaultyBlock::DoFmaVector(const Tile& out, const Tile& a, const Tile& b, const Tile& c) {
  if (!Is(MachineFault::kSumNotRescaled)) {
    ExactBlock::DoFmaVector(out, a, b, c);
    return;
  }
  for (int64_t i = 0; i < out.elements(); ++i) Floats(out)[i] = sim::Add(Floats(a)[i], Floats(c)[i]);
}

void FaultyBlock::DoAdd(const Tile& x, const Tile& y) {
  if (IsRowVector(x)) RestoreSum(x);
  ExactBlock::DoAdd(x, y);
}

// --- Row sums ------------------------------------------------------------------------------------------------------

void FaultyBlock::DoSumQuad(const Tile& l, const Recipe& recipe) {
  for (int64_t row = 0; row < l.rows; ++row) {
    const std::span<float> lanes = FloatRow(l, row);
    if (Is(MachineFault::kLaneLost)) lanes[0] = 0;
    if (Is(MachineFault::kShuffleMissing)) lanes[1] = lanes[3] = 0;
  }
  ExactBlock::DoSumQuad(l, recipe);
  sum_ = l;
}

void FaultyBlock::DoSumLanes(const Tile& l) {
  for (int64_t row = 0; row < l.rows; ++row) {
    const std::span<float> lanes = FloatRow(l, row);
    for (size_t lane = 0; lane < lanes.size(); ++lane) {
      if (Is(MachineFault::kLaneLost) && lane % 4 == 0) lanes[lane] = 0;
      if (Is(MachineFault::kShuffleMissing) && lane % 2 == 1) lanes[lane] = 0;
    }
  }
  ExactBlock::DoSumLanes(l);
}

void FaultyBlock::DoInvert(const Tile& out, const Tile& l, const Recipe& recipe) {
  ExactBlock::DoInvert(out, l, recipe);
  roles_[out.id] = Role::kInverse;
}

// --- Combination ---------------------------------------------------------------------------------------------------

void FaultyBlock::DoMul(const Tile& out, const Tile& a, const Tile& b) {
  if (Is(MachineFault::kSumsUnweighted) && place_.combine) {
    DoMove(out, a);
    return;
  }
  ExactBlock::DoMul(out, a, b);
}

void FaultyBlock::DoAddColumn(const Tile& x, const Tile& w, int64_t column) {
  const bool last = column == w.cols - 1;
  if (Is(MachineFault::kPartDropped) && last) return;
  ExactBlock::DoAddColumn(x, w, column);
  if (Is(MachineFault::kPartTwice) && last) ExactBlock::DoAddColumn(x, w, column);
}

void FaultyBlock::DoFmaColumn(const Tile& x, const Tile& y, const Tile& w, int64_t column) {
  const bool last = column == w.cols - 1;
  if (Is(MachineFault::kPartDropped) && last) return;
  ExactBlock::DoFmaColumn(x, y, w, column);
  if (Is(MachineFault::kPartTwice) && last) ExactBlock::DoFmaColumn(x, y, w, column);
}

void FaultyBlock::DoCombineLogSumExp(const Tile& lse, const Tile& w, int64_t threads) {
  if (Is(MachineFault::kPartDropped)) FloatRow(w, 0).back() = -kInfinity;
  ExactBlock::DoCombineLogSumExp(lse, w, threads);
  if (Is(MachineFault::kPartsUnweighted)) std::ranges::fill(FloatRow(w, 0), 1.0f / static_cast<float>(w.cols));
}

void FaultyBlock::DoLogSumExp(const Tile& out, const Tile& m, const Tile& l, float scale, const Recipe& recipe) {
  const std::vector<float> most(Floats(m), Floats(m) + m.elements()), sum(Floats(l), Floats(l) + l.elements());
  ExactBlock::DoLogSumExp(out, m, l, scale, recipe);
  for (int64_t i = 0; i < out.elements(); ++i) {
    float& lse = Floats(out)[i];
    if (sum[i] == 0 || std::isnan(sum[i])) continue;  // an empty row has the recipe's value
    if (Is(MachineFault::kLseWithoutMaximum)) lse = Logf(sum[i]);
    if (Is(MachineFault::kLseWithoutLog)) lse = sim::Fma(most[i], scale, sum[i]);
    if (Is(MachineFault::kLseUnscaled)) lse = sim::Add(most[i], Logf(sum[i]));
  }
}

}  // namespace bitflash::sim
