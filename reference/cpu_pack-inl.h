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

// Rows become columns of a panel: [kTileKeys / kPanel][head_dim][kPanel]. Returns the largest sum of a row's squares,
// which is the same on every target with fused multiply-add.
inline float PackKeyTile(const float* const* rows, int64_t keys, int64_t head_dim, float* HWY_RESTRICT packed) {
  int64_t done = 0;  // columns
  HWY_ALIGN float squares[kTileKeys] = {};
#if HWY_TARGET != HWY_SCALAR
  const hn::Full128<float> d4;
  const auto zero = hn::Zero(d4);
  done = head_dim / 4 * 4;
  for (int64_t j = 0; j < kTileKeys; j += 4) {
    auto sum0 = zero, sum1 = zero, sum2 = zero, sum3 = zero;
    float* HWY_RESTRICT to = packed + j / kPanel * kPanel * head_dim + j % kPanel;
    PrefetchRows(rows, j + 8, keys, head_dim);
    for (int64_t c = 0; c < done; c += 4) {
      const auto row = [&](int64_t n) HWY_ATTR { return j + n < keys ? hn::LoadU(d4, rows[j + n] + c) : zero; };
      const auto x0 = row(0), x1 = row(1), x2 = row(2), x3 = row(3);
      const auto even_lower = hn::InterleaveLower(d4, x0, x2), even_upper = hn::InterleaveUpper(d4, x0, x2);
      const auto odd_lower = hn::InterleaveLower(d4, x1, x3), odd_upper = hn::InterleaveUpper(d4, x1, x3);
      const auto y0 = hn::InterleaveLower(d4, even_lower, odd_lower);
      const auto y1 = hn::InterleaveUpper(d4, even_lower, odd_lower);
      const auto y2 = hn::InterleaveLower(d4, even_upper, odd_upper);
      const auto y3 = hn::InterleaveUpper(d4, even_upper, odd_upper);
      hn::Store(y0, d4, to + c * kPanel), hn::Store(y1, d4, to + (c + 1) * kPanel);
      hn::Store(y2, d4, to + (c + 2) * kPanel), hn::Store(y3, d4, to + (c + 3) * kPanel);
      sum0 = hn::MulAdd(y0, y0, sum0), sum1 = hn::MulAdd(y1, y1, sum1);
      sum2 = hn::MulAdd(y2, y2, sum2), sum3 = hn::MulAdd(y3, y3, sum3);
    }
    hn::Store(hn::Add(hn::Add(sum0, sum1), hn::Add(sum2, sum3)), d4, squares + j);
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

// Panels of columns: [panels][kTileKeys][width]. Returns the largest magnitude; infinity if any is infinite or NaN.
inline float PackValueTile(const float* const* rows, int64_t keys, int64_t head_dim_v, float* HWY_RESTRICT packed) {
  const D d;
  const hn::RebindToSigned<D> di;
  const auto magnitude = hn::Set(di, 0x7FFFFFFF);  // numbers without signs are ordered as integers are
  auto most = hn::Zero(di);
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
          most = hn::Max(most, hn::And(hn::BitCast(di, v), magnitude));
        } else {
          hn::Store(hn::Zero(d), d, to + j * width + c);
          for (int64_t n = 0; j < keys && n < left; ++n) to[j * width + c + n] = rows[j][column + c + n];
          most = hn::Max(most, hn::And(hn::BitCast(di, hn::Load(d, to + j * width + c)), magnitude));
        }
      }
    }
  }
  HWY_ALIGN int32_t lanes[kLanes];
  hn::Store(most, di, lanes);
  const float largest = std::bit_cast<float>(*std::max_element(lanes, lanes + kLanes));
  return std::isnan(largest) ? std::numeric_limits<float>::infinity() : largest;
}

}  // namespace HWY_NAMESPACE
}  // namespace bitflash::reference
HWY_AFTER_NAMESPACE();

#endif  // BITFLASH_REFERENCE_CPU_PACK_INL_H_
