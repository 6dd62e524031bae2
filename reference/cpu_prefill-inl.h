// Attention of many rows, from packed tiles, per SIMD target. Included once per target by cpu_kernels.cc.
//
// The register tile holds 6 rows x 4 vectors where there are 32 registers, else 6 x 2: one accumulator per output
// element, so that neither its width nor the vectors' enters the result.
#if defined(BITFLASH_REFERENCE_CPU_PREFILL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BITFLASH_REFERENCE_CPU_PREFILL_INL_H_
#undef BITFLASH_REFERENCE_CPU_PREFILL_INL_H_
#else
#define BITFLASH_REFERENCE_CPU_PREFILL_INL_H_
#endif

#include <algorithm>

#include "hwy/highway.h"
#include "reference/cpu_kernels.h"
#include "reference/cpu_softmax-inl.h"

HWY_BEFORE_NAMESPACE();
namespace bitflash::reference {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL || HWY_ARCH_ARM_A64
inline constexpr int kPanelVectors = 4;
#else
inline constexpr int kPanelVectors = 2;
#endif
inline constexpr int64_t kPanel = kPanelVectors * kLanes;  // columns
// Strips that go through scores, softmax and P V together, so that each panel that comes into the first-level cache is
// used that often: there, 32 KiB do not hold a tile of K and one of V.
inline constexpr int64_t kStripsAtOnce = kPanelVectors == 4 ? 1 : 2;

// Named accumulators: g++ 12 keeps an array of vectors in memory, at a quarter of the speed.
#define BITFLASH_START(i)                                                                 \
  V c##i##0 = hn::Zero(d), c##i##1 = c##i##0, c##i##2 = c##i##0, c##i##3 = c##i##0;       \
  if constexpr (kScaled) {                                                                \
    const V factor = hn::Set(d, r[i]);                                                    \
    const float* HWY_RESTRICT row = c + i * c_row;                                        \
    c##i##0 = hn::Mul(hn::Load(d, row), factor);                                          \
    if constexpr (kVectors > 1) c##i##1 = hn::Mul(hn::Load(d, row + kLanes), factor);     \
    if constexpr (kVectors > 2) c##i##2 = hn::Mul(hn::Load(d, row + 2 * kLanes), factor); \
    if constexpr (kVectors > 3) c##i##3 = hn::Mul(hn::Load(d, row + 3 * kLanes), factor); \
  }
#define BITFLASH_STEP(i)                                              \
  {                                                                   \
    const V x = hn::Set(d, a##i[k]);                                  \
    c##i##0 = hn::MulAdd(x, b0, c##i##0);                             \
    if constexpr (kVectors > 1) c##i##1 = hn::MulAdd(x, b1, c##i##1); \
    if constexpr (kVectors > 2) c##i##2 = hn::MulAdd(x, b2, c##i##2); \
    if constexpr (kVectors > 3) c##i##3 = hn::MulAdd(x, b3, c##i##3); \
  }
#define BITFLASH_END(i)                                                  \
  {                                                                      \
    float* HWY_RESTRICT row = c + i * c_row;                             \
    hn::Store(c##i##0, d, row);                                          \
    if constexpr (kVectors > 1) hn::Store(c##i##1, d, row + kLanes);     \
    if constexpr (kVectors > 2) hn::Store(c##i##2, d, row + 2 * kLanes); \
    if constexpr (kVectors > 3) hn::Store(c##i##3, d, row + 3 * kLanes); \
  }

// C = A B, or diag(r) C + A B: A [6, depth] with rows a_row apart, B [depth, b_row] of which kVectors vectors count,
// C [6] with rows c_row apart. Depth ascends.
template <int kVectors, bool kScaled>
HWY_INLINE void Multiply(const float* HWY_RESTRICT a, int64_t a_row, const float* HWY_RESTRICT b, int64_t b_row,
                         int64_t depth, [[maybe_unused]] const float* HWY_RESTRICT r, float* HWY_RESTRICT c,
                         int64_t c_row) {
  static_assert(kStripRows == 6);
  const D d;
  const float *HWY_RESTRICT a0 = a, *HWY_RESTRICT a1 = a0 + a_row, *HWY_RESTRICT a2 = a1 + a_row;
  const float *HWY_RESTRICT a3 = a2 + a_row, *HWY_RESTRICT a4 = a3 + a_row, *HWY_RESTRICT a5 = a4 + a_row;
  BITFLASH_START(0)
  BITFLASH_START(1)
  BITFLASH_START(2)
  BITFLASH_START(3) BITFLASH_START(4) BITFLASH_START(5) for (int64_t k = 0; k < depth; ++k, b += b_row) {
    const V b0 = hn::Load(d, b);
    [[maybe_unused]] const V b1 = kVectors > 1 ? hn::Load(d, b + kLanes) : b0;
    [[maybe_unused]] const V b2 = kVectors > 2 ? hn::Load(d, b + 2 * kLanes) : b0;
    [[maybe_unused]] const V b3 = kVectors > 3 ? hn::Load(d, b + 3 * kLanes) : b0;
    BITFLASH_STEP(0) BITFLASH_STEP(1) BITFLASH_STEP(2) BITFLASH_STEP(3) BITFLASH_STEP(4) BITFLASH_STEP(5)
  }
  BITFLASH_END(0) BITFLASH_END(1) BITFLASH_END(2) BITFLASH_END(3) BITFLASH_END(4) BITFLASH_END(5)
}
#undef BITFLASH_START
#undef BITFLASH_STEP
#undef BITFLASH_END

// The panel that starts at `column` of a row of `columns`: its width, a multiple of kLanes.
HWY_INLINE int64_t PanelWidth(int64_t columns, int64_t column) { return std::min(kPanel, columns - column); }

// diag(r) C + A B for a panel of `width` columns.
HWY_INLINE void MultiplyPanel(const float* a, int64_t a_row, const float* b, int64_t width, int64_t depth,
                              const float* r, float* c) {
  switch (width / kLanes) {
    case 4:
      if constexpr (kPanelVectors == 4) Multiply<4, true>(a, a_row, b, width, depth, r, c, width);
      break;
    case 3:
      if constexpr (kPanelVectors == 4) Multiply<3, true>(a, a_row, b, width, depth, r, c, width);
      break;
    case 2:
      Multiply<2, true>(a, a_row, b, width, depth, r, c, width);
      break;
    default:
      Multiply<1, true>(a, a_row, b, width, depth, r, c, width);
  }
}

// Rows become columns of a panel: [kTileKeys / kPanel][head_dim][kPanel].
inline void PackKeyTile(const float* const* rows, int64_t keys, int64_t head_dim, float* HWY_RESTRICT packed) {
  int64_t done = 0;  // columns
#if HWY_TARGET != HWY_SCALAR
  const hn::Full128<float> d4;
  const auto zero = hn::Zero(d4);
  done = head_dim / 4 * 4;
  for (int64_t j = 0; j < kTileKeys; j += 4) {
    float* HWY_RESTRICT to = packed + j / kPanel * kPanel * head_dim + j % kPanel;
    for (int64_t c = 0; c < done; c += 4) {
      const auto row = [&](int64_t n) HWY_ATTR { return j + n < keys ? hn::LoadU(d4, rows[j + n] + c) : zero; };
      const auto x0 = row(0), x1 = row(1), x2 = row(2), x3 = row(3);
      const auto even_lower = hn::InterleaveLower(d4, x0, x2), even_upper = hn::InterleaveUpper(d4, x0, x2);
      const auto odd_lower = hn::InterleaveLower(d4, x1, x3), odd_upper = hn::InterleaveUpper(d4, x1, x3);
      hn::Store(hn::InterleaveLower(d4, even_lower, odd_lower), d4, to + c * kPanel);
      hn::Store(hn::InterleaveUpper(d4, even_lower, odd_lower), d4, to + (c + 1) * kPanel);
      hn::Store(hn::InterleaveLower(d4, even_upper, odd_upper), d4, to + (c + 2) * kPanel);
      hn::Store(hn::InterleaveUpper(d4, even_upper, odd_upper), d4, to + (c + 3) * kPanel);
    }
  }
#endif
  for (int64_t j = 0; j < kTileKeys; ++j) {
    float* HWY_RESTRICT to = packed + j / kPanel * kPanel * head_dim + j % kPanel;
    for (int64_t c = done; c < head_dim; ++c) to[c * kPanel] = j < keys ? rows[j][c] : 0;
  }
}

// Panels of columns: [panels][kTileKeys][width].
inline void PackValueTile(const float* const* rows, int64_t keys, int64_t head_dim_v, float* HWY_RESTRICT packed) {
  const D d;
  const int64_t columns = RoundUp(head_dim_v, kRowPadding);
  for (int64_t column = 0; column < columns; column += kPanel) {
    const int64_t width = PanelWidth(columns, column);
    float* HWY_RESTRICT to = packed + column * kTileKeys;
    for (int64_t j = 0; j < kTileKeys; ++j) {
      for (int64_t c = 0; c < width; c += kLanes) {
        const int64_t left = std::min(head_dim_v - column - c, kLanes);
        if (j < keys && left == kLanes) {
          hn::Store(hn::LoadU(d, rows[j] + column + c), d, to + j * width + c);
        } else {
          hn::Store(hn::Zero(d), d, to + j * width + c);
          for (int64_t n = 0; j < keys && n < left; ++n) to[j * width + c + n] = rows[j][column + c + n];
        }
      }
    }
  }
}

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

// Up to kStripsAtOnce strips of one head and one tile.
class TileStep {
 public:
  TileStep(const PrefillTask& t, float* scratch, float* S, int64_t tile)
      : t_(t),
        scratch_(scratch),
        S_(S),
        first_key_(tile * kTileKeys),
        K_(t.packed.K + (tile - t.packed.first_tile) * PackedKeyFloats(t.head_dim)),
        V_(t.packed.V + (tile - t.packed.first_tile) * PackedValueFloats(t.head_dim_v)),
        columns_(RoundUp(t.head_dim_v, kRowPadding)) {}

  HWY_INLINE void Run(int64_t head, int64_t first_strip, int64_t strips) {
    const int64_t padded_rows = RoundUp(t_.rows, kStripRows), q_row = RoundUp(t_.head_dim, kRowPadding);
    const float* Q = t_.Q + (head * padded_rows + first_strip * kStripRows) * q_row;
    StripMask masks[kStripsAtOnce];
    Columns all = {kTileKeys, 0}, used[kStripsAtOnce];
    for (int64_t s = 0; s < strips; ++s) {
      masks[s] = MaskOfStrip(t_, (first_strip + s) * kStripRows, first_key_);
      used[s] = {masks[s].begin / kPartialSums * kPartialSums, RoundUp(masks[s].end, kPartialSums)};
      if (masks[s].begin >= masks[s].end) used[s] = {0, 0};
      if (used[s].begin == used[s].end) continue;
      all = {std::min(all.begin, used[s].begin), std::max(all.end, used[s].end)};
    }
    if (all.begin >= all.end) return;

    for (int64_t j = all.begin / kPanel * kPanel; j < all.end; j += kPanel) {
      for (int64_t s = 0; s < strips; ++s) {
        Multiply<kPanelVectors, false>(Q + s * kStripRows * q_row, q_row, K_ + j * t_.head_dim, kPanel, t_.head_dim,
                                       nullptr, S_ + s * kStripRows * kTileKeys + j, kTileKeys);
      }
    }
    HWY_ALIGN float r[kStripsAtOnce][8];
    for (int64_t s = 0; s < strips; ++s) {
      if (masks[s].begin >= masks[s].end) continue;
      float* S = S_ + s * kStripRows * kTileKeys;
      const StripState state = At(head, first_strip + s);
      for (int64_t i = 0; i < kStripRows; ++i) {
        if (t_.rule.softcap > 0) CapScores(t_.rule, used[s], S + i * kTileKeys);
        if (!masks[s].whole) MaskScores(used[s], masks[s].row_begin[i], masks[s].row_end[i], S + i * kTileKeys);
      }
      Softmax(t_.rule, kStripRows, used[s], S, state.m, state.l, r[s]);
      if (masks[s].whole || ValuesAreFinite()) continue;
      AccumulateVisible(masks[s], S, V_, columns_, r[s], state.O);
      masks[s].end = masks[s].begin;  // done
    }
    for (int64_t column = 0; column < columns_; column += kPanel) {
      const int64_t width = PanelWidth(columns_, column);
      for (int64_t s = 0; s < strips; ++s) {
        const int64_t begin = masks[s].begin, keys = masks[s].end - begin;
        if (keys <= 0) continue;
        MultiplyPanel(S_ + s * kStripRows * kTileKeys + begin, kTileKeys, V_ + column * kTileKeys + begin * width,
                      width, keys, r[s], At(head, first_strip + s).O + column * kStripRows);
      }
    }
  }

 private:
  StripState At(int64_t head, int64_t strip) const {
    return StripAt(scratch_, t_.head_dim_v, head * (RoundUp(t_.rows, kStripRows) / kStripRows) + strip);
  }

  // A weight of 0 times an invisible NaN would be NaN. Looked up once a tile, and only where an edge crosses it.
  bool ValuesAreFinite() {
    if (finite_ < 0) finite_ = AllFinite(V_, PackedValueFloats(t_.head_dim_v)) ? 1 : 0;
    return finite_ == 1;
  }

  const PrefillTask& t_;
  float *scratch_, *S_;
  int64_t first_key_;
  const float *K_, *V_;
  int64_t columns_;
  int finite_ = -1;
};

inline void FinishStrips(const PrefillTask& t, float* strips) {
  const int64_t per_head = RoundUp(t.rows, kStripRows) / kStripRows, columns = RoundUp(t.head_dim_v, kRowPadding);
  for (int64_t head = 0; head < t.heads; ++head) {
    for (int64_t row = 0; row < t.rows; ++row) {
      const StripState state = StripAt(strips, t.head_dim_v, head * per_head + row / kStripRows);
      const int64_t i = row % kStripRows;
      float* O = t.O + (head * t.rows + row) * columns;
      for (int64_t column = 0; column < columns; column += kPanel) {
        const int64_t width = PanelWidth(columns, column);
        std::copy_n(state.O + column * kStripRows + i * width, width, O + column);
      }
      float& lse = t.LSE[head * t.rows + row];
      lse = Finish(t.rule, t.head_dim_v, state.m[i], state.l + i * kPartialSums, O);
      if (t.visible[row].begin < t.visible[row].end) continue;
      std::fill_n(O, columns, 0.0f);
      lse = kMinusInfinity;
    }
  }
}

inline void Prefill(const PrefillTask& t) {
  const int64_t per_head = RoundUp(t.rows, kStripRows) / kStripRows;
  float* S = t.scratch;
  float* strips = S + kStripsAtOnce * kStripRows * kTileKeys;
  for (int64_t strip = 0; strip < t.heads * per_head; ++strip) {
    const StripState state = StripAt(strips, t.head_dim_v, strip);
    std::fill_n(state.m, kRowPadding, kMinusInfinity);
    std::fill_n(state.l, StripFloats(t.head_dim_v) - kRowPadding, 0.0f);
  }
  const int64_t end = t.visible[t.rows - 1].end;
  for (int64_t tile = t.visible[0].begin / kTileKeys; tile * kTileKeys < end; ++tile) {
    TileStep step(t, strips, S, tile);
    for (int64_t head = 0; head < t.heads; ++head) {
      for (int64_t strip = 0; strip < per_head; strip += kStripsAtOnce) {
        step.Run(head, strip, std::min(kStripsAtOnce, per_head - strip));
      }
    }
  }
  FinishStrips(t, strips);
}

}  // namespace HWY_NAMESPACE
}  // namespace bitflash::reference
HWY_AFTER_NAMESPACE();

#endif  // BITFLASH_REFERENCE_CPU_PREFILL_INL_H_
