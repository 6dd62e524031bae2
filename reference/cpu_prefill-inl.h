// Attention of many rows, from packed tiles, per SIMD target. Included once per target by cpu_prefill_kernels.cc.
#if defined(BITFLASH_REFERENCE_CPU_PREFILL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BITFLASH_REFERENCE_CPU_PREFILL_INL_H_
#undef BITFLASH_REFERENCE_CPU_PREFILL_INL_H_
#else
#define BITFLASH_REFERENCE_CPU_PREFILL_INL_H_
#endif

#include <algorithm>
#include <cmath>
#include <limits>

#include "hwy/highway.h"
#include "reference/cpu_kernels.h"
#include "reference/cpu_multiply-inl.h"
#include "reference/cpu_softmax-inl.h"
#include "reference/cpu_strips-inl.h"
#include "reference/cpu_weights-inl.h"

HWY_BEFORE_NAMESPACE();
namespace bitflash::reference {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Strips that go through scores, softmax and P V together: each panel that comes into the first-level cache is used
// that often, and the chains of one strip's maxima hide behind another's.
inline constexpr int64_t kStripsAtOnce = 2;

// Up to kStripsAtOnce strips and one tile.
class TileStep {
 public:
  // key_squares: the largest sum of a key's squares in all tiles, NaN: no strip shall become bounded.
  TileStep(const PrefillTask& t, float* scratch, float* S, int64_t tile, bool first, bool last, float key_squares)
      : t_(t),
        first_(first),
        whole_(t.visible[t.rows - 1].begin <= tile * kTileKeys && t.visible[0].end >= (tile + 1) * kTileKeys),
        key_squares_(key_squares),
        finite_(t.packed.v_most[tile - t.packed.first_tile] < std::numeric_limits<float>::infinity()),
        strips_per_head_(RoundUp(t.rows, kStripRows) / kStripRows),
        columns_(RoundUp(t.head_dim_v, kRowPadding)),
        scratch_(scratch),
        S_(S),
        first_key_(tile * kTileKeys),
        K_(t.packed.K + (tile - t.packed.first_tile) * PackedKeyFloats(t.head_dim)),
        V_(t.packed.V + (tile - t.packed.first_tile) * PackedValueFloats(t.head_dim_v)),
        next_K_(!last                 ? K_ + PackedKeyFloats(t.head_dim)
                : t.next_K != nullptr ? t.next_K
                                      : K_),
        next_V_(!last                 ? V_ + PackedValueFloats(t.head_dim_v)
                : t.next_V != nullptr ? t.next_V
                                      : V_) {}

  // The next `count` strips of all heads.
  HWY_INLINE void Run(int64_t count) {
    count_ = 0;
    for (int64_t s = 0; s < count; ++s) {
      Strip& strip = strips_[count_];
      if (whole_) {
        strip.mask.begin = 0, strip.mask.end = kTileKeys, strip.mask.whole = true;
      } else {
        strip.mask = MaskOfStrip(t_, in_head_ * kStripRows, first_key_);
      }
      if (strip.mask.begin < strip.mask.end) {
        strip.number = next_;
        strip.used = {strip.mask.begin / kPartialSums * kPartialSums, RoundUp(strip.mask.end, kPartialSums)};
        strip.Q = t_.Q + head_ * t_.q_head + in_head_ * kStripRows * t_.q_row;
        strip.state = StripAt(scratch_, t_.head_dim_v, next_);
        strip.rows = std::min(kStripRows, t_.rows - in_head_ * kStripRows);
        strip.visible = t_.visible + in_head_ * kStripRows;
        strip.fresh = *strip.state.begun == 0;
        *strip.state.begun = 1;
        ++count_;
      }
      ++next_;
      if (++in_head_ == strips_per_head_) in_head_ = 0, ++head_;
    }
    if (count_ == 0) return;
    if (first_) AskForQueries();
    for (int64_t j = 0; j < kTileKeys; j += kPanel) Scores(j);
    for (int64_t s = 0; s < count_; ++s) {
      if (!strips_[s].mask.whole || t_.rule.softcap > 0) MaskStrip(s);
      if (!Bounded(s)) Maxima(s);
    }
    for (int64_t s = 0; s < count_; ++s) Weights(s);
    for (int64_t s = 0; s < count_; ++s) {
      Strip& strip = strips_[s];
      if (strip.mask.whole || finite_) continue;  // a weight of 0 times an invisible NaN would be NaN
      if (strip.fresh) std::fill_n(strip.state.O, kStripRows * columns_, 0.0f);
      AccumulateVisible(strip.mask, S(s), V_, columns_, strip.r, strip.state.O);
      strip.mask.end = strip.mask.begin;  // done
    }
    for (int64_t column = 0; column < columns_; column += kPanel) {
      switch (PanelWidth(columns_, column) / kLanes) {
        case 4:
          if constexpr (kPanelVectors == 4) Values<4>(column);
          break;
        case 3:
          if constexpr (kPanelVectors == 4) Values<3>(column);
          break;
        case 2:
          Values<2>(column);
          break;
        default:
          Values<1>(column);
      }
    }
  }

 private:
  struct Strip {
    const float* Q;
    StripState state;
    StripMask mask;
    Columns used;             // of S
    int64_t rows;             // that are there
    const KeyRange* visible;  // [rows]
    int64_t number;           // among the task's
    bool fresh;               // the first tile that it sees
    HWY_ALIGN float r[8];
  };

  float* S(int64_t s) const { return S_ + s * kStripRows * kTileKeys; }

  // What strip s asks for while it multiplies with a panel of `width`: its share of the next tile's panel, which would
  // come too late from the third-level cache. Strips that are left over ask for nothing new: 1 % faster than twice.
  HWY_INLINE const float* Ahead(int64_t s, const float* next_panel, int64_t width, int64_t depth) const {
    const int64_t columns = strips_[s].number * 4;
    return columns < width ? next_panel + columns * depth : S(s);
  }

  // S = Q K^T for the panel of keys that starts at j.
  HWY_NOINLINE void Scores(int64_t j) {
    const int64_t depth = t_.head_dim;
    for (int64_t s = 0; s < count_; ++s) {
      if (strips_[s].used.end <= j || strips_[s].used.begin >= j + kPanel) continue;
      Multiply<kPanelVectors, false>(strips_[s].Q, t_.q_row, K_ + j * depth, depth, nullptr, S(s) + j, kTileKeys,
                                     Ahead(s, next_K_ + j * depth, kPanel, depth));
    }
  }

  // Asks for the rows of Q that the next strips read for the first time.
  HWY_INLINE void AskForQueries() const {
    if (next_ >= strips_per_head_ * t_.heads) return;
    const float* row = t_.Q + head_ * t_.q_head + in_head_ * kStripRows * t_.q_row;
    const int64_t rows = std::min(kStripsAtOnce, strips_per_head_ - in_head_) * kStripRows;
    for (int64_t i = 0; i < rows; ++i, row += t_.q_row) {
      for (int64_t c = 0; c < t_.head_dim; c += 16) PrefetchSecondLevel(row + c);
    }
  }

  // Whether maxima are no longer looked for, from this tile on.
  HWY_INLINE bool Bounded(int64_t s) {
    Strip& strip = strips_[s];
    const StripState& state = strip.state;
    if (*state.bounded != 0) {
      std::fill_n(strip.r, kStripRows, 1.0f);
      return true;
    }
    if (std::isnan(key_squares_)) return false;
    for (int64_t i = 0; !whole_ && i < strip.rows; ++i) {
      if (strip.visible[i].end - strip.visible[i].begin < kFewKeys) return false;
    }
    if (std::isnan(*state.reach)) {
      // Products in fp32 exceed the exact ones by less than that.
      *state.reach = 1.01f * std::sqrt(LargestSquares(strip.Q, t_.q_row, strip.rows, t_.head_dim) * key_squares_);
    }
    if (strip.fresh && ChooseZero(t_.rule, state, strip.r)) return true;
    HWY_ALIGN float m[8];
    std::copy_n(state.m, 8, m);
    const Columns some = {strip.used.begin, std::min(strip.used.begin + kFewKeys, strip.used.end)};
    RaiseMaxima<kTileKeys>(some, S(s), m);
    return ChooseBound(t_.rule, strip.rows, m, state, strip.r);
  }

  HWY_NOINLINE void Weights(int64_t s) {
    Strip& strip = strips_[s];
    const StripState& state = strip.state;
    if (*state.bounded == 0) {
      Exponentials<kTileKeys>(t_.rule, kStripRows, strip.used, S(s), state.m, strip.r, state.l);
    } else if (strip.mask.whole) {
      BoundedExponentials<kTileKeys, false>(t_.rule, kStripRows, strip.used, S(s), state.M, strip.r, state.l);
    } else {
      BoundedExponentials<kTileKeys, true>(t_.rule, kStripRows, strip.used, S(s), state.M, strip.r, state.l);
    }
  }

  // Caps scores and hides those that rows do not see.
  HWY_INLINE void MaskStrip(int64_t s) {
    const Strip& strip = strips_[s];
    for (int64_t i = 0; i < kStripRows; ++i) {
      float* row = S(s) + i * kTileKeys;
      if (t_.rule.softcap > 0) CapScores(t_.rule, strip.used, row);
      if (!strip.mask.whole) MaskScores(strip.used, strip.mask.row_begin[i], strip.mask.row_end[i], row);
    }
  }

  HWY_NOINLINE void Maxima(int64_t s) {
    Strip& strip = strips_[s];
#if HWY_TARGET == HWY_SCALAR
    UpdateMaxima<kTileKeys>(t_.rule, kStripRows, strip.used, S(s), strip.state.m, strip.r);
#else
    // The scratch has room for 8 rows: the last two count for nothing.
    static_assert(kStripRows == 6);
    UpdateFourMaxima<kTileKeys>(t_.rule, strip.used, S(s), strip.state.m, strip.r);
    UpdateFourMaxima<kTileKeys>(t_.rule, strip.used, S(s) + 4 * kTileKeys, strip.state.m + 4, strip.r + 4);
#endif
  }

  // O = diag(r) O + P V for the panel of columns that starts at `column`.
  template <int kVectors>
  HWY_NOINLINE void Values(int64_t column) {
    constexpr int64_t kWidth = kVectors * kLanes;
    for (int64_t s = 0; s < count_; ++s) {
      const Strip& strip = strips_[s];
      const int64_t begin = strip.mask.begin, keys = strip.mask.end - begin;
      if (keys <= 0) continue;
      const float* values = V_ + column * kTileKeys + begin * kWidth;
      const float* ahead = Ahead(s, next_V_ + column * kTileKeys, kWidth, kTileKeys);
      float* O = strip.state.O + column * kStripRows;
      if (strip.fresh) {
        Multiply<kVectors, false>(S(s) + begin, kTileKeys, values, keys, nullptr, O, kWidth, ahead);
      } else {
        Multiply<kVectors, true>(S(s) + begin, kTileKeys, values, keys, strip.r, O, kWidth, ahead);
      }
    }
  }

  const PrefillTask& t_;
  bool first_;  // tile
  bool whole_;  // every row sees the whole tile
  float key_squares_;
  bool finite_;  // V
  int64_t strips_per_head_, columns_;
  float *scratch_, *S_;
  int64_t first_key_;
  const float *K_, *V_, *next_K_, *next_V_;
  int64_t next_ = 0, head_ = 0, in_head_ = 0;  // the next strip, and where it is
  int64_t count_ = 0;
  Strip strips_[kStripsAtOnce];
};

// S of kStripsAtOnce strips, and two rows more that the last one's maxima may read.
inline constexpr int64_t ScoreFloats() { return (kStripsAtOnce * kStripRows + 2) * kTileKeys; }

inline void Prefill(const PrefillTask& t) {
  const int64_t per_head = RoundUp(t.rows, kStripRows) / kStripRows;
  float* S = t.scratch;
  float* strips = S + ScoreFloats();
  std::fill_n(S, ScoreFloats(), 0.0f);
  const float key_squares = KeySquaresIfTame(t);
  const int64_t end = t.visible[t.rows - 1].end, count = t.heads * per_head;
  const int64_t first_tile = t.visible[0].begin / kTileKeys, end_tile = (end + kTileKeys - 1) / kTileKeys;
  // Strips begin and end one after the other, so that what they write and products alternate.
  for (int64_t tile = first_tile; tile < end_tile; ++tile) {
    const bool first = tile == first_tile, last = tile + 1 == end_tile;
    TileStep step(t, strips, S, tile, first, last, key_squares);
    for (int64_t s = 0; s < count; s += kStripsAtOnce) {
      const int64_t strips_end = std::min(s + kStripsAtOnce, count);
      for (int64_t strip = s; first && strip < strips_end; ++strip) StartStrip(t, strips, strip);
      step.Run(strips_end - s);
      if (last) FinishStrips(t, strips, s, strips_end);
    }
  }
  if (first_tile < end_tile) return;
  for (int64_t strip = 0; strip < count; ++strip) StartStrip(t, strips, strip);
  FinishStrips(t, strips, 0, count);
}

}  // namespace HWY_NAMESPACE
}  // namespace bitflash::reference
HWY_AFTER_NAMESPACE();

#endif  // BITFLASH_REFERENCE_CPU_PREFILL_INL_H_
