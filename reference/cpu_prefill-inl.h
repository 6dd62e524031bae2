// Attention of many rows, from packed tiles, per SIMD target. Included once per target by cpu_kernels.cc.
#if defined(BITFLASH_REFERENCE_CPU_PREFILL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BITFLASH_REFERENCE_CPU_PREFILL_INL_H_
#undef BITFLASH_REFERENCE_CPU_PREFILL_INL_H_
#else
#define BITFLASH_REFERENCE_CPU_PREFILL_INL_H_
#endif

#include <algorithm>

#include "hwy/highway.h"
#include "reference/cpu_kernels.h"
#include "reference/cpu_multiply-inl.h"
#include "reference/cpu_softmax-inl.h"

HWY_BEFORE_NAMESPACE();
namespace bitflash::reference {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Strips that go through scores, softmax and P V together: each panel that comes into the first-level cache is used
// that often, and the chains of one strip's maxima hide behind another's.
inline constexpr int64_t kStripsAtOnce = 2;

HWY_INLINE bool AllFinite(const float* HWY_RESTRICT x, int64_t count) {
  const D d;
  const hn::RebindToSigned<D> di;
  auto most = hn::Zero(di);
  const auto magnitude = hn::Set(di, 0x7FFFFFFF);
  for (int64_t i = 0; i < count; i += kLanes) {
    most = hn::Max(most, hn::And(hn::BitCast(di, hn::Load(d, x + i)), magnitude));
  }
  return hn::AllTrue(di, hn::Lt(most, hn::Set(di, 0x7F800000)));
}

// What strips have in memory between tiles.
struct StripState {
  float *m, *l, *O;  // O: [panels][kStripRows][width]
};

// The floats of one strip's m, l and O.
inline int64_t StripFloats(int64_t head_dim_v) {
  return kRowPadding + kStripRows * kPartialSums + kStripRows * RoundUp(head_dim_v, kRowPadding);
}

HWY_INLINE StripState StripAt(float* scratch, int64_t head_dim_v, int64_t strip) {
  float* m = scratch + strip * StripFloats(head_dim_v);
  return {m, m + kRowPadding, m + kRowPadding + kStripRows * kPartialSums};
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

// Up to kStripsAtOnce strips and one tile.
class TileStep {
 public:
  TileStep(const PrefillTask& t, float* scratch, float* S, int64_t tile, bool last)
      : t_(t),
        strips_per_head_(RoundUp(t.rows, kStripRows) / kStripRows),
        columns_(RoundUp(t.head_dim_v, kRowPadding)),
        scratch_(scratch),
        S_(S),
        first_key_(tile * kTileKeys),
        K_(t.packed.K + (tile - t.packed.first_tile) * PackedKeyFloats(t.head_dim)),
        V_(t.packed.V + (tile - t.packed.first_tile) * PackedValueFloats(t.head_dim_v)),
        next_K_(last ? K_ : K_ + PackedKeyFloats(t.head_dim)),
        next_V_(last ? V_ : V_ + PackedValueFloats(t.head_dim_v)) {}

  // Strips [first, first + count) of all heads.
  HWY_INLINE void Run(int64_t first, int64_t count) {
    first_ = first;
    count_ = 0;
    for (int64_t s = 0; s < count; ++s) {
      const int64_t head = (first + s) / strips_per_head_, in_head = (first + s) % strips_per_head_;
      Strip& strip = strips_[count_];
      strip.mask = MaskOfStrip(t_, in_head * kStripRows, first_key_);
      if (strip.mask.begin >= strip.mask.end) continue;
      strip.used = {strip.mask.begin / kPartialSums * kPartialSums, RoundUp(strip.mask.end, kPartialSums)};
      strip.Q = t_.Q + head * t_.q_head + in_head * kStripRows * t_.q_row;
      strip.state = StripAt(scratch_, t_.head_dim_v, first + s);
      ++count_;
    }
    if (count_ == 0) return;
    for (int64_t j = 0; j < kTileKeys; j += kPanel) Scores(j);
    for (int64_t s = 0; s < count_; ++s) Maxima(s);
    for (int64_t s = 0; s < count_; ++s) {
      Strip& strip = strips_[s];
      Exponentials<kTileKeys>(t_.rule, kStripRows, strip.used, S(s), strip.state.m, strip.r, strip.state.l);
    }
    for (int64_t s = 0; s < count_; ++s) {
      Strip& strip = strips_[s];
      if (strip.mask.whole || ValuesAreFinite()) continue;
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
    Columns used;  // of S
    HWY_ALIGN float r[8];
  };

  float* S(int64_t s) const { return S_ + s * kStripRows * kTileKeys; }

  // The columns of the next tile's panel of `width` that strip s asks for while it multiplies with this one: what lies
  // in the third-level cache would come too late.
  int64_t Share(int64_t s, int64_t width) const { return (first_ + s) * 4 % width; }

  // S = Q K^T for the panel of keys that starts at j.
  HWY_NOINLINE void Scores(int64_t j) {
    const int64_t depth = t_.head_dim;
    for (int64_t s = 0; s < count_; ++s) {
      if (strips_[s].used.end <= j || strips_[s].used.begin >= j + kPanel) continue;
      Multiply<kPanelVectors, false>(strips_[s].Q, t_.q_row, K_ + j * depth, depth, nullptr, S(s) + j, kTileKeys,
                                     next_K_ + j * depth + Share(s, kPanel) * depth);
    }
  }

  HWY_NOINLINE void Maxima(int64_t s) {
    Strip& strip = strips_[s];
    for (int64_t i = 0; i < kStripRows; ++i) {
      float* row = S(s) + i * kTileKeys;
      if (t_.rule.softcap > 0) CapScores(t_.rule, strip.used, row);
      if (!strip.mask.whole) MaskScores(strip.used, strip.mask.row_begin[i], strip.mask.row_end[i], row);
    }
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
      Multiply<kVectors, true>(S(s) + begin, kTileKeys, V_ + column * kTileKeys + begin * kWidth, keys, strip.r,
                               strip.state.O + column * kStripRows, kWidth,
                               next_V_ + column * kTileKeys + Share(s, kWidth) * kTileKeys);
    }
  }

  // A weight of 0 times an invisible NaN would be NaN. Looked up once a tile, and only where an edge crosses it.
  bool ValuesAreFinite() {
    if (finite_ < 0) finite_ = AllFinite(V_, PackedValueFloats(t_.head_dim_v)) ? 1 : 0;
    return finite_ == 1;
  }

  const PrefillTask& t_;
  int64_t strips_per_head_, columns_;
  float *scratch_, *S_;
  int64_t first_key_;
  const float *K_, *V_, *next_K_, *next_V_;
  int64_t first_ = 0, count_ = 0;
  Strip strips_[kStripsAtOnce];
  int finite_ = -1;
};

inline void FinishStrips(const PrefillTask& t, float* strips) {
  const int64_t per_head = RoundUp(t.rows, kStripRows) / kStripRows, columns = RoundUp(t.head_dim_v, kRowPadding);
  for (int64_t head = 0; head < t.heads; ++head) {
    for (int64_t row = 0; row < t.rows; ++row) {
      const StripState state = StripAt(strips, t.head_dim_v, head * per_head + row / kStripRows);
      const int64_t i = row % kStripRows;
      float *O = t.O[head * t.rows + row], &lse = t.LSE[head * t.rows + row];
      const float sum = RowSum(state.l + i * kPartialSums);
      for (int64_t column = 0; column < columns; column += kPanel) {
        const int64_t width = PanelWidth(columns, column);
        DivideAll(state.O + column * kStripRows + i * width, width, sum, O + column);
      }
      lse = LseOf(t.rule, state.m[i], sum);
      if (t.visible[row].begin < t.visible[row].end) continue;
      std::fill_n(O, columns, 0.0f);
      lse = kMinusInfinity;
    }
  }
}

// S of kStripsAtOnce strips, and two rows more that the last one's maxima may read.
inline constexpr int64_t ScoreFloats() { return (kStripsAtOnce * kStripRows + 2) * kTileKeys; }

inline void Prefill(const PrefillTask& t) {
  const int64_t per_head = RoundUp(t.rows, kStripRows) / kStripRows;
  float* S = t.scratch;
  float* strips = S + ScoreFloats();
  std::fill_n(S, ScoreFloats(), 0.0f);
  for (int64_t strip = 0; strip < t.heads * per_head; ++strip) {
    const StripState state = StripAt(strips, t.head_dim_v, strip);
    std::fill_n(state.m, kRowPadding, kMinusInfinity);
    std::fill_n(state.l, StripFloats(t.head_dim_v) - kRowPadding, 0.0f);
  }
  const int64_t end = t.visible[t.rows - 1].end, count = t.heads * per_head;
  for (int64_t tile = t.visible[0].begin / kTileKeys; tile * kTileKeys < end; ++tile) {
    TileStep step(t, strips, S, tile, (tile + 1) * kTileKeys >= end);
    for (int64_t s = 0; s < count; s += kStripsAtOnce) step.Run(s, std::min(kStripsAtOnce, count - s));
  }
  FinishStrips(t, strips);
}

}  // namespace HWY_NAMESPACE
}  // namespace bitflash::reference
HWY_AFTER_NAMESPACE();

#endif  // BITFLASH_REFERENCE_CPU_PREFILL_INL_H_
