// Strips of rows between the tiles of prefill: what is kept of them, what they see, and whether their scores have a
// bound. Per SIMD target; included once per target by cpu_prefill_kernels.cc.
#if defined(BITFLASH_REFERENCE_CPU_STRIPS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BITFLASH_REFERENCE_CPU_STRIPS_INL_H_
#undef BITFLASH_REFERENCE_CPU_STRIPS_INL_H_
#else
#define BITFLASH_REFERENCE_CPU_STRIPS_INL_H_
#endif

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "hwy/highway.h"
#include "reference/cpu_exp-inl.h"
#include "reference/cpu_kernels.h"
#include "reference/cpu_multiply-inl.h"
#include "reference/cpu_softmax-inl.h"

HWY_BEFORE_NAMESPACE();
namespace bitflash::reference {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// What strips have in memory between tiles. With `bounded` the weights are 2^(s exponent_factor - M), else
// 2^((s - m) exponent_factor).
struct StripState {
  float *m, *M;    // [8]: of rows; the last two count for nothing
  float* reach;    // no product of these rows is larger; NaN: not known yet
  float* bounded;  // 1 or 0
  float* begun;    // 0: no tile has come, O is not written
  float *l, *O;    // O: [panels][kStripRows][width]
};
inline constexpr int64_t kStripHeadFloats = 2 * kRowPadding;

// The floats of one strip's state.
inline int64_t StripFloats(int64_t head_dim_v) {
  return kStripHeadFloats + kStripRows * kPartialSums + kStripRows * RoundUp(head_dim_v, kRowPadding);
}

HWY_INLINE StripState StripAt(float* scratch, int64_t head_dim_v, int64_t strip) {
  float *m = scratch + strip * StripFloats(head_dim_v), *l = m + kStripHeadFloats;
  return {m, m + 8, m + 16, m + 17, m + 18, l, l + kStripRows * kPartialSums};
}

// The largest sum of a row's squares. The same on every target with fused multiply-add.
HWY_INLINE float LargestSquares(const float* Q, int64_t q_row, int64_t rows, int64_t head_dim) {
  const D d;
  const int64_t whole = head_dim / kPartialSums * kPartialSums;
  float most = 0;
  bool is_nan = false;
  for (int64_t i = 0; i < rows; ++i) {
    const float* row = Q + i * q_row;
    HWY_ALIGN float sums[kPartialSums];
    for (int64_t lane = 0; lane < kPartialSums; lane += kLanes) {
      V sum = hn::Zero(d);
      for (int64_t c = lane; c < whole; c += kPartialSums) {
        const V x = hn::LoadU(d, row + c);
        sum = hn::MulAdd(x, x, sum);
      }
      hn::Store(sum, d, sums + lane);
    }
    float sum = RowSum(sums);
    for (int64_t c = whole; c < head_dim; ++c) sum += row[c] * row[c];
    most = sum > most ? sum : most;  // no branch: which row is the largest cannot be foretold
    is_nan |= std::isnan(sum);
  }
  return is_nan ? std::numeric_limits<float>::quiet_NaN() : most;
}

// Weights of bounded rows are at most 2^kMostAbove and at least 2^-kMostBelow, so that neither they nor what they are
// multiplied with and summed up to leave the normal range.
inline constexpr float kMostAbove = 40, kMostBelow = 100, kMostValue = 0x1p40f;

// Where all products of a strip are as near to 0 as that, 0 is what is subtracted. Subnormal P V are then off by
// 2^-150, and O, whose weights add up to 2^-24 a key at least, by 2^-126, below which results may be anything.
inline constexpr float kNearZero = 24;

// Rows of fewer keys look for their maxima: a weight that is alone shall be exactly 1.
inline constexpr int64_t kFewKeys = 64;

// False: some product of the strip may be farther from 0 than kNearZero, and nothing is chosen. For a strip's first
// tile.
HWY_INLINE bool ChooseZero(const ScoreRule& rule, const StripState& state, float* HWY_RESTRICT r) {
  if (!(*state.reach * rule.exponent_factor <= kNearZero)) return false;
  std::fill_n(state.M, kStripRows, 0.0f);
  std::fill_n(r, kStripRows, 1.0f);
  *state.bounded = 1;
  return true;
}

// Chooses integers M near the products m [8], each at most its row's maximum and at least the state's m, and the
// factors r that take the state from m to M. False, and nothing is chosen: some weight could leave the range.
HWY_INLINE bool ChooseBound(const ScoreRule& rule, int64_t rows, const float* m, const StripState& state,
                            float* HWY_RESTRICT r) {
  const float reach = *state.reach, c = rule.exponent_factor;
  for (int64_t i = 0; i < rows; ++i) {
    if (!(m[i] > kMinusInfinity && (reach - m[i]) * c <= kMostAbove && (reach + m[i]) * c <= kMostBelow)) return false;
  }
  const hn::CappedTag<float, 1> d1;
  const auto factor = hn::Set(d1, c);
  for (int64_t i = 0; i < kStripRows; ++i) {
    state.M[i] = i < rows ? (m[i] * c + 0x1.8p23f) - 0x1.8p23f : 0;  // rounds to an integer
    r[i] = 1;
    if (i >= rows || state.m[i] == kMinusInfinity) continue;
    r[i] = hn::GetLane(Exp2(d1, hn::MulSub(hn::Set(d1, state.m[i]), factor, hn::Set(d1, state.M[i]))));
  }
  *state.bounded = 1;
  return true;
}

// Which keys of a tile the rows of a strip see.
struct StripMask {
  int64_t begin = 0, end = 0;  // of all rows together
  bool whole = false;          // every row sees the whole tile
  int64_t row_begin[kStripRows], row_end[kStripRows];
};

HWY_INLINE StripMask MaskOfStrip(const PrefillTask& t, int64_t first_row, int64_t first_key) {
  StripMask mask;
  const int64_t n = std::min(kStripRows, t.rows - first_row);
  const KeyRange first = t.visible[first_row], last = t.visible[first_row + n - 1];
  const auto inside = [&](int64_t key) { return std::clamp<int64_t>(key - first_key, 0, kTileKeys); };
  // Ends never decrease from row to row; where a row sees nothing its range is empty and counts for no other.
  mask.begin = inside(first.begin);
  mask.end = inside(last.end);
  mask.whole = last.begin <= first_key && first.end >= first_key + kTileKeys;
  if (mask.whole) return mask;
  for (int64_t i = 0; i < kStripRows; ++i) {
    const KeyRange keys = i < n ? t.visible[first_row + i] : KeyRange{};
    mask.row_begin[i] = inside(keys.begin);
    mask.row_end[i] = inside(keys.end);
  }
  return mask;
}

// O = diag(r) O + P V where V holds infinities or NaN: every row multiplies only what it sees.
inline void AccumulateVisible(const StripMask& mask, const float* S, const float* packed_v, int64_t columns,
                              const float* r, float* O) {
  const D d;
  for (int64_t column = 0; column < columns; column += kPanel) {
    const int64_t width = PanelWidth(columns, column);
    for (int64_t i = 0; i < kStripRows; ++i) {
      for (int64_t c = 0; c < width; c += kLanes) {
        float* out = O + column * kStripRows + i * width + c;
        V sum = hn::Mul(hn::Load(d, out), hn::Set(d, r[i]));
        for (int64_t k = mask.row_begin[i]; k < mask.row_end[i]; ++k) {
          const float* v = packed_v + column * kTileKeys + k * width + c;
          sum = hn::MulAdd(hn::Set(d, S[i * kTileKeys + k]), hn::Load(d, v), sum);
        }
        hn::Store(sum, d, out);
      }
    }
  }
}

// The largest sum of a key's squares, NaN if no strip shall become bounded.
inline float KeySquaresIfTame(const PrefillTask& t) {
  float most = 0;
  for (int64_t tile = 0; tile < t.packed.tiles; ++tile) {
    const float squares = t.packed.key_squares[tile];
    if (!(squares <= std::numeric_limits<float>::max() && t.packed.v_most[tile] <= kMostValue)) {
      return std::numeric_limits<float>::quiet_NaN();
    }
    most = std::max(most, squares);
  }
  return t.rule.softcap > 0 ? std::numeric_limits<float>::quiet_NaN() : most;
}

HWY_INLINE void StartStrip(const PrefillTask& t, float* strips, int64_t strip) {
  const StripState state = StripAt(strips, t.head_dim_v, strip);
  const D d;
  // The compiler would take a string instruction, slow to begin.
  for (int64_t i = 0; i < kStripHeadFloats + kStripRows * kPartialSums; i += kLanes) {
    hn::Store(hn::Zero(d), d, state.m + i);
  }
  std::fill_n(state.m, 8, kMinusInfinity);
  *state.reach = std::numeric_limits<float>::quiet_NaN();
}

// Writes the rows of strips [first, end) of all heads.
inline void FinishStrips(const PrefillTask& t, float* strips, int64_t first, int64_t end) {
  const int64_t per_head = RoundUp(t.rows, kStripRows) / kStripRows, columns = RoundUp(t.head_dim_v, kRowPadding);
  const auto finish = [&](const StripState& state, int64_t i, float* O) HWY_ATTR {
    const float sum = RowSum(state.l + i * kPartialSums), factor = 1 / sum;
    for (int64_t column = 0; column < columns; column += kPanel) {
      const int64_t width = PanelWidth(columns, column);
      MultiplyAll(state.O + column * kStripRows + i * width, width, factor, O + column);
    }
    if (*state.bounded == 0) return LseOf(t.rule, state.m[i], sum);
    return static_cast<float>(static_cast<double>(state.M[i]) * std::numbers::ln2 + FastLog(sum));
  };
  for (int64_t strip = first; strip < end; ++strip) {
    const StripState state = StripAt(strips, t.head_dim_v, strip);
    const int64_t head = strip / per_head, first_row = strip % per_head * kStripRows;
    for (int64_t i = 0; i < std::min(kStripRows, t.rows - first_row); ++i) {
      const int64_t row = first_row + i;
      float *O = t.O[head * t.rows + row], &lse = t.LSE[head * t.rows + row];
      if (t.visible[row].begin < t.visible[row].end) {
        lse = finish(state, i, O);
      } else {
        std::fill_n(O, columns, 0.0f);
        lse = kMinusInfinity;
      }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace bitflash::reference
HWY_AFTER_NAMESPACE();

#endif  // BITFLASH_REFERENCE_CPU_STRIPS_INL_H_
