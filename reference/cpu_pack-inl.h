// K and V as the panels of cpu_multiply-inl.h, per SIMD target. Included once per target by cpu_prefill_kernels.cc.
#if defined(BITFLASH_REFERENCE_CPU_PACK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BITFLASH_REFERENCE_CPU_PACK_INL_H_
#undef BITFLASH_REFERENCE_CPU_PACK_INL_H_
#else
#define BITFLASH_REFERENCE_CPU_PACK_INL_H_
#endif

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "reference/cpu_kernels.h"
#include "reference/cpu_multiply-inl.h"

HWY_BEFORE_NAMESPACE();
namespace bitflash::reference {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Asks for what four rows hold, some rows ahead: it comes from memory, and only once.
HWY_INLINE void PrefetchRows(const float* const* rows, int64_t j, int64_t keys, int64_t columns) {
  for (int64_t n = j; n < std::min(j + 4, keys); ++n) {
    for (int64_t c = 0; c < columns; c += 16) hwy::Prefetch(rows[n] + c);
  }
}

#if HWY_TARGET != HWY_SCALAR

// Floats [c, c + 4) of the rows j, j + 4, ... as the blocks of a vector; 0 for those from `keys` on.
template <bool kAll>
HWY_INLINE V EveryFourthRow(const float* const* rows, int64_t j, int64_t keys, int64_t c) {
  const hn::Full128<float> d4;
  const auto row = [&](int64_t n)
                       HWY_ATTR { return kAll || j + n < keys ? hn::LoadU(d4, rows[j + n] + c) : hn::Zero(d4); };
  if constexpr (kLanes == 4) {
    return row(0);
  } else {
    const hn::CappedTag<float, 8> d8;
    const auto low = hn::Combine(d8, row(4), row(0));
    if constexpr (kLanes == 8) {
      return low;
    } else {
      return hn::Combine(D(), hn::Combine(d8, row(12), row(8)), low);
    }
  }
}

// Columns [0, columns), a multiple of 4, of kLanes rows from j; the sums of their squares.
template <bool kAll>
HWY_INLINE void PackKeyRowsFrom(const float* const* rows, int64_t j, int64_t keys, int64_t columns,
                                float* HWY_RESTRICT to, float* HWY_RESTRICT squares) {
  const D d;
  V sum0 = hn::Zero(d), sum1 = sum0, sum2 = sum0, sum3 = sum0;
  for (int64_t c = 0; c < columns; c += 4) {
    if (c % 16 == 0) {  // the next rows: they come from memory, and only once
      for (int64_t n = j + kLanes; n < std::min(j + 2 * kLanes, keys); ++n) hwy::Prefetch(rows[n] + c);
    }
    const V x0 = EveryFourthRow<kAll>(rows, j, keys, c), x1 = EveryFourthRow<kAll>(rows, j + 1, keys, c);
    const V x2 = EveryFourthRow<kAll>(rows, j + 2, keys, c), x3 = EveryFourthRow<kAll>(rows, j + 3, keys, c);
    const V even_lower = hn::InterleaveLower(d, x0, x2), even_upper = hn::InterleaveUpper(d, x0, x2);
    const V odd_lower = hn::InterleaveLower(d, x1, x3), odd_upper = hn::InterleaveUpper(d, x1, x3);
    const V y0 = hn::InterleaveLower(d, even_lower, odd_lower), y1 = hn::InterleaveUpper(d, even_lower, odd_lower);
    const V y2 = hn::InterleaveLower(d, even_upper, odd_upper), y3 = hn::InterleaveUpper(d, even_upper, odd_upper);
    hn::Store(y0, d, to + c * kPanel), hn::Store(y1, d, to + (c + 1) * kPanel);
    hn::Store(y2, d, to + (c + 2) * kPanel), hn::Store(y3, d, to + (c + 3) * kPanel);
    sum0 = hn::MulAdd(y0, y0, sum0), sum1 = hn::MulAdd(y1, y1, sum1);
    sum2 = hn::MulAdd(y2, y2, sum2), sum3 = hn::MulAdd(y3, y3, sum3);
  }
  hn::Store(hn::Add(hn::Add(sum0, sum1), hn::Add(sum2, sum3)), d, squares);
}

#endif

// Rows become columns of a panel: [kTileKeys / kPanel][head_dim][kPanel]. Returns the largest sum of a row's squares,
// which is the same on every target with fused multiply-add.
inline float PackKeyTile(const float* const* rows, int64_t keys, int64_t head_dim, float* HWY_RESTRICT packed) {
  int64_t done = 0;  // columns
  HWY_ALIGN float squares[kTileKeys] = {};
#if HWY_TARGET != HWY_SCALAR
  done = head_dim / 4 * 4;
  for (int64_t j = 0; j < kTileKeys; j += kLanes) {
    float* to = packed + j / kPanel * kPanel * head_dim + j % kPanel;
    if (j + kLanes <= keys) {
      PackKeyRowsFrom<true>(rows, j, keys, done, to, squares + j);
    } else {
      PackKeyRowsFrom<false>(rows, j, keys, done, to, squares + j);
    }
  }
#endif
  float most = 0;
  for (int64_t j = 0; j < kTileKeys; ++j) {
    float* HWY_RESTRICT to = packed + j / kPanel * kPanel * head_dim + j % kPanel;
    for (int64_t c = done; c < head_dim; ++c) {
      const float x = to[c * kPanel] = j < keys ? rows[j][c] : 0;
      squares[j] += x * x;
    }
    most = most >= squares[j] || std::isnan(most) ? most : squares[j];  // NaN stays
  }
  return most;
}

// Whether rows of V that lie one behind the other are panels as they are: there is one panel, and no row has padding.
inline bool RowsArePanels(int64_t head_dim_v) { return head_dim_v <= kPanel && head_dim_v % kRowPadding == 0; }

// The largest magnitude in what was added; infinity if any is infinite or NaN.
class Magnitude {
 public:
  HWY_INLINE Magnitude() : most_(hn::Zero(DI())) {}
  HWY_INLINE void Add(V v) {
    const DI di;  // numbers without signs are ordered as integers are
    most_ = hn::Max(most_, hn::And(hn::BitCast(di, v), hn::Set(di, 0x7FFFFFFF)));
  }
  HWY_INLINE float Largest() const {
    HWY_ALIGN int32_t lanes[kLanes];
    hn::Store(most_, DI(), lanes);
    const float largest = std::bit_cast<float>(*std::max_element(lanes, lanes + kLanes));
    return std::isnan(largest) ? std::numeric_limits<float>::infinity() : largest;
  }

 private:
  using DI = hn::RebindToSigned<D>;
  hn::Vec<DI> most_;
};

// Of `count` floats, a multiple of kRowPadding.
inline float LargestMagnitude(const float* x, int64_t count) {
  const D d;
  Magnitude most;
  for (int64_t i = 0; i < count; i += kRowPadding) {
    hwy::Prefetch(x + std::min(i + 512, count - 1));
    for (int64_t n = 0; n < kRowPadding; n += kLanes) most.Add(hn::LoadU(d, x + i + n));
  }
  return most.Largest();
}

// Panels of columns: [panels][kTileKeys][width]. Returns the largest magnitude.
inline float PackValueTile(const float* const* rows, int64_t keys, int64_t head_dim_v, float* HWY_RESTRICT packed) {
  const D d;
  Magnitude most;
  const int64_t columns = RoundUp(head_dim_v, kRowPadding);
  for (int64_t column = 0; column < columns; column += kPanel) {
    const int64_t width = PanelWidth(columns, column);
    float* HWY_RESTRICT to = packed + column * kTileKeys;
    for (int64_t j = 0; j < kTileKeys; ++j) {
      if (column == 0 && j % 4 == 0) PrefetchRows(rows, j + 8, keys, head_dim_v);
      for (int64_t c = 0; c < width; c += kLanes) {
        const int64_t left = std::min(head_dim_v - column - c, kLanes);
        if (j < keys && left == kLanes) {
          const V v = hn::LoadU(d, rows[j] + column + c);
          hn::Store(v, d, to + j * width + c);
          most.Add(v);
        } else {
          hn::Store(hn::Zero(d), d, to + j * width + c);
          for (int64_t n = 0; j < keys && n < left; ++n) to[j * width + c + n] = rows[j][column + c + n];
          most.Add(hn::Load(d, to + j * width + c));
        }
      }
    }
  }
  return most.Largest();
}

}  // namespace HWY_NAMESPACE
}  // namespace bitflash::reference
HWY_AFTER_NAMESPACE();

#endif  // BITFLASH_REFERENCE_CPU_PACK_INL_H_
