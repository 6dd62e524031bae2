// Attention of few rows on many keys, read where they are, per SIMD target. Included once per target by
// cpu_kernels.cc.
//
// A product q k is 16 sums, element c in sum c % 16, added up in a fixed tree: the same bits for every vector width.
#if defined(BITFLASH_REFERENCE_CPU_DECODE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BITFLASH_REFERENCE_CPU_DECODE_INL_H_
#undef BITFLASH_REFERENCE_CPU_DECODE_INL_H_
#else
#define BITFLASH_REFERENCE_CPU_DECODE_INL_H_
#endif

#include <algorithm>

#include "data/convert_simd.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "reference/cpu_kernels.h"
#include "reference/cpu_softmax-inl.h"

HWY_BEFORE_NAMESPACE();
namespace bitflash::reference {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if (HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL) && !defined(HWY_DISABLE_F16C)
inline constexpr bool kConvertsFp16 = true;
#else
inline constexpr bool kConvertsFp16 = false;
#endif

// P V takes this many keys at a time, and asks for as many rows of the next tile's K meanwhile: memory must not idle
// while the units compute. (The rows of V are asked for while the scores are computed.)
inline constexpr int64_t kValueRows = 16;

HWY_INLINE void PrefetchRow(const void* row, int64_t bytes) {
  for (int64_t n = 0; n < bytes; n += 64) hwy::Prefetch(static_cast<const char*>(row) + n);
}

// One row as fp32, padded with zeros to a multiple of kRowPadding.
inline void ConvertRow(data::Format format, const void* row, int64_t columns, float* HWY_RESTRICT out) {
  const D d;
  int64_t c = 0;
  const int64_t vectors = columns / kLanes * kLanes;
  if (format == data::Format::kBf16) {
    const hn::Rebind<uint16_t, D> d16;
    const hn::RebindToUnsigned<D> d32;
    const uint16_t* bits = static_cast<const uint16_t*>(row);
    for (; c < vectors; c += kLanes) {
      hn::Store(hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(d32, hn::LoadU(d16, bits + c)))), d, out + c);
    }
  } else if (kConvertsFp16 && format == data::Format::kFp16) {
    const hn::Rebind<hwy::float16_t, D> d16;
    const hn::Rebind<uint16_t, D> du16;
    const uint16_t* bits = static_cast<const uint16_t*>(row);
    for (; c < vectors; c += kLanes) {
      hn::Store(hn::PromoteTo(d, hn::BitCast(d16, hn::LoadU(du16, bits + c))), d, out + c);
    }
  }
  if (c < columns) {
    const char* rest = static_cast<const char*>(row) + c * data::StorageBytes(format);
    data::ToFloat(format, rest, out + c, columns - c);
  }
  for (c = columns; c < RoundUp(columns, kRowPadding); ++c) out[c] = 0;
}

// Makes rows of `format` readable as fp32 of a padded width: where they are, or in `copy`.
HWY_INLINE void ReadRows(const KeyRows& in, int64_t first, int64_t count, int64_t columns, float* copy,
                         const float** out) {
  const int64_t padded = RoundUp(columns, kRowPadding);
  const bool as_it_is = in.format == data::Format::kFp32 && padded == columns;
  for (int64_t j = 0; j < count; ++j) {
    const void* row = in.rows[first + j];
    if (as_it_is) {
      out[j] = static_cast<const float*>(row);
    } else {
      ConvertRow(in.format, row, columns, copy + j * padded);
      out[j] = copy + j * padded;
    }
  }
}

#if HWY_TARGET == HWY_SCALAR

HWY_INLINE void ScoreFourKeys(const float* HWY_RESTRICT q, const float* const* k, int64_t columns,
                              float* HWY_RESTRICT S) {
  for (int64_t n = 0; n < 4; ++n) {
    float sums[kPartialSums] = {};
    for (int64_t c = 0; c < columns; ++c) sums[c % kPartialSums] += q[c] * k[n][c];
    S[n] = TreeSum(sums);
  }
}

#else

// The kPartialSums sums of one product.
struct ProductSums {
  V v0, v1, v2, v3;  // kVectorsPerSum of them count
};

HWY_INLINE ProductSums ZeroSums() {
  const V zero = hn::Zero(D());
  return {zero, zero, zero, zero};
}

HWY_INLINE void AddProducts(const float* HWY_RESTRICT q, const float* HWY_RESTRICT k, ProductSums& sums) {
  const D d;
  static_assert(kVectorsPerSum <= 4);
  sums.v0 = hn::MulAdd(hn::LoadU(d, q), hn::LoadU(d, k), sums.v0);
  if constexpr (kVectorsPerSum > 1) {
    sums.v1 = hn::MulAdd(hn::LoadU(d, q + kLanes), hn::LoadU(d, k + kLanes), sums.v1);
  }
  if constexpr (kVectorsPerSum > 2) {
    sums.v2 = hn::MulAdd(hn::LoadU(d, q + 2 * kLanes), hn::LoadU(d, k + 2 * kLanes), sums.v2);
    sums.v3 = hn::MulAdd(hn::LoadU(d, q + 3 * kLanes), hn::LoadU(d, k + 3 * kLanes), sums.v3);
  }
}

// Halves added until four lanes are left.
template <class DX>
HWY_INLINE auto HalveTo4([[maybe_unused]] DX d, hn::Vec<DX> x) {
  if constexpr (hn::MaxLanes(DX()) == 4) {
    return x;
  } else {
    const hn::Half<DX> half;
    return HalveTo4(half, hn::Add(hn::LowerHalf(half, x), hn::UpperHalf(half, x)));
  }
}

// The first steps of TreeSum, to sums 0 to 3.
HWY_INLINE auto FoldTo4(const ProductSums& sums) {
  if constexpr (kVectorsPerSum == 1) {
    return HalveTo4(D(), sums.v0);
  } else if constexpr (kVectorsPerSum == 2) {
    return HalveTo4(D(), hn::Add(sums.v0, sums.v1));
  } else {
    return hn::Add(hn::Add(sums.v0, sums.v2), hn::Add(sums.v1, sums.v3));
  }
}

// S[0..3] = q k[0], ..., q k[3].
HWY_INLINE void ScoreFourKeys(const float* HWY_RESTRICT q, const float* const* k, int64_t columns,
                              float* HWY_RESTRICT S) {
  const hn::Full128<float> d4;
  const float *k0 = k[0], *k1 = k[1], *k2 = k[2], *k3 = k[3];
  ProductSums s0 = ZeroSums(), s1 = s0, s2 = s0, s3 = s0;
  for (int64_t c = 0; c < columns; c += kPartialSums) {
    AddProducts(q + c, k0 + c, s0);
    AddProducts(q + c, k1 + c, s1);
    AddProducts(q + c, k2 + c, s2);
    AddProducts(q + c, k3 + c, s3);
  }
  // The last steps for four keys at once: sums 0 + 2 and 1 + 3, then their sum.
  const auto x0 = FoldTo4(s0), x1 = FoldTo4(s1), x2 = FoldTo4(s2), x3 = FoldTo4(s3);
  const auto even = hn::Add(hn::InterleaveLower(d4, x0, x2), hn::InterleaveUpper(d4, x0, x2));
  const auto odd = hn::Add(hn::InterleaveLower(d4, x1, x3), hn::InterleaveUpper(d4, x1, x3));
  hn::StoreU(hn::Add(hn::InterleaveLower(d4, even, odd), hn::InterleaveUpper(d4, even, odd)), d4, S);
}

#endif  // HWY_TARGET == HWY_SCALAR

// O[row, c...] = r[row] O + sum_k P[row, k] V[k, c...] for kRows rows and kVectors vectors of columns.
template <int kRows, int kVectors>
HWY_INLINE void AddValues(const float* HWY_RESTRICT P, const float* const* v, int64_t begin, int64_t end, int64_t c,
                          const float* HWY_RESTRICT r, float* HWY_RESTRICT O, int64_t o_row) {
  static_assert((kRows == 1 || kRows == 2 || kRows == 4) && (kVectors == 1 || kVectors == 2 || kVectors == 4));
  static_assert(kRows * kVectors <= 8);
  const D d;
  const auto start = [&](int64_t n) HWY_ATTR {  // accumulator n is row n / kVectors, vector n % kVectors
    if (n >= kRows * kVectors) return hn::Zero(d);
    return hn::Mul(hn::LoadU(d, O + n / kVectors * o_row + c + n % kVectors * kLanes), hn::Set(d, r[n / kVectors]));
  };
  V x0 = start(0), x1 = start(1), x2 = start(2), x3 = start(3);
  V x4 = start(4), x5 = start(5), x6 = start(6), x7 = start(7);
  const auto step = [&](int64_t n, const float* row, int64_t k, V x) HWY_ATTR {
    return hn::MulAdd(hn::Set(d, P[n / kVectors * kTileKeys + k]), hn::LoadU(d, row + n % kVectors * kLanes), x);
  };
  for (int64_t k = begin; k < end; ++k) {
    const float* row = v[k] + c;
    x0 = step(0, row, k, x0);
    if constexpr (kRows * kVectors > 1) x1 = step(1, row, k, x1);
    if constexpr (kRows * kVectors > 2) x2 = step(2, row, k, x2), x3 = step(3, row, k, x3);
    if constexpr (kRows * kVectors > 4) {
      x4 = step(4, row, k, x4), x5 = step(5, row, k, x5), x6 = step(6, row, k, x6), x7 = step(7, row, k, x7);
    }
  }
  const auto finish = [&](int64_t n, V x) HWY_ATTR {
    if (n < kRows * kVectors) hn::StoreU(x, d, O + n / kVectors * o_row + c + n % kVectors * kLanes);
  };
  finish(0, x0), finish(1, x1), finish(2, x2), finish(3, x3);
  finish(4, x4), finish(5, x5), finish(6, x6), finish(7, x7);
}

template <int kRows, int kVectors>
HWY_INLINE void AddAllColumns(const float* P, const float* const* v, int64_t begin, int64_t end, int64_t columns,
                              const float* r, float* O) {
  int64_t c = 0;
  for (; c + kVectors * kLanes <= columns; c += kVectors * kLanes) {
    AddValues<kRows, kVectors>(P, v, begin, end, c, r, O, columns);
  }
  for (; c < columns; c += kLanes) AddValues<kRows, 1>(P, v, begin, end, c, r, O, columns);
}

// Keys of a tile, at most kTileKeys: those whose K and V, about 32 KiB, the first-level cache can hold.
inline int64_t TileOfDecode(const DecodePart& p) { return p.head_dim + p.head_dim_v > 128 ? 32 : kTileKeys; }

// One tile of a part.
class DecodeTile {
 public:
  explicit DecodeTile(const DecodePart& part)
      : p_(part),
        rows_(part.heads * part.queries),
        q_columns_(RoundUp(part.head_dim, kRowPadding)),
        columns_(RoundUp(part.head_dim_v, kRowPadding)),
        k_bytes_(part.head_dim * data::StorageBytes(part.K.format)),
        S_(part.scratch),
        r_(S_ + rows_ * kTileKeys),
        k_copy_(r_ + RoundUp(rows_, kRowPadding)),
        v_copy_(k_copy_ + kTileKeys * q_columns_) {}

  // Keys [begin, end) of the part.
  HWY_INLINE void Run(int64_t begin, int64_t end) {
    const int64_t first = p_.first_key + begin, keys = end - begin;
    int64_t seen_begin = keys, seen_end = 0;  // by any row
    for (int64_t i = 0; i < p_.queries; ++i) {
      const KeyRange seen = Seen(i, first, keys);
      if (seen.begin >= seen.end) continue;
      seen_begin = std::min(seen_begin, seen.begin);
      seen_end = std::max(seen_end, seen.end);
    }
    if (seen_begin >= seen_end) return;
    Scores(begin, seen_begin, seen_end);
    ReadRows(p_.V, begin, keys, p_.head_dim_v, v_copy_, v_rows_);
    for (int64_t i = 0; i < p_.queries; ++i) {
      const KeyRange seen = Seen(i, first, keys);
      if (seen.begin < seen.end) Accumulate(i, begin, seen);
    }
  }

 private:
  // The keys of the tile that query i sees.
  KeyRange Seen(int64_t i, int64_t first, int64_t keys) const {
    return {std::clamp<int64_t>(p_.visible[i].begin - first, 0, keys),
            std::clamp<int64_t>(p_.visible[i].end - first, 0, keys)};
  }

  HWY_INLINE void Scores(int64_t begin, int64_t seen_begin, int64_t seen_end) {
    const int64_t v_bytes = p_.head_dim_v * data::StorageBytes(p_.V.format), last = p_.keys - 1;
    for (int64_t j = seen_begin / 4 * 4; j < seen_end; j += 4) {
      const int64_t keys = std::min<int64_t>(4, seen_end - j);
      for (int64_t n = 0; n < 4; ++n) PrefetchRow(p_.V.rows[std::min(begin + j + n, last)], v_bytes);
      const float* k[4];
      ReadRows(p_.K, begin + j, keys, p_.head_dim, k_copy_, k);
      for (int64_t n = keys; n < 4; ++n) k[n] = k[0];  // their scores are hidden below
      for (int64_t row = 0; row < rows_; ++row) {
        ScoreFourKeys(p_.Q + row * q_columns_, k, q_columns_, S_ + row * kTileKeys + j);
      }
    }
  }

  HWY_INLINE void Accumulate(int64_t i, int64_t begin, KeyRange seen) {
    const Columns used = {seen.begin / kPartialSums * kPartialSums, RoundUp(seen.end, kPartialSums)};
    const int64_t row0 = i * p_.heads;
    for (int64_t row = row0; row < row0 + p_.heads; ++row) {
      // Capped before they are masked, so that no more than the columns with scores may be touched: the rest of S is
      // whatever it was, and masked.
      float* S = S_ + row * kTileKeys;
      if (p_.rule.softcap > 0) CapScores(p_.rule, used, S);
      if (used.begin != seen.begin || used.end != seen.end) MaskScores(used, seen.begin, seen.end, S);
    }
    Softmax(p_.rule, p_.heads, used, S_ + row0 * kTileKeys, p_.state.m + row0, p_.state.l + row0 * kPartialSums, r_);
    for (int64_t k = seen.begin; k < seen.end; k += kValueRows) {
      const int64_t end = std::min(k + kValueRows, seen.end);
      if (i == 0) {
        for (int64_t n = k; n < end; ++n) {
          const int64_t next = begin + TileOfDecode(p_) + n;
          if (next < p_.keys) PrefetchRow(p_.K.rows[next], k_bytes_);
        }
      }
      AddRows(row0, k, end);
      std::fill_n(r_, p_.heads, 1.0f);
    }
  }

  // O = r O + P V for the heads of one query and keys [begin, end) of the tile.
  HWY_INLINE void AddRows(int64_t row0, int64_t begin, int64_t end) {
    const auto rows = [&](int64_t h) { return S_ + (row0 + h) * kTileKeys; };
    const auto out = [&](int64_t h) { return p_.state.O + (row0 + h) * columns_; };
    int64_t h = 0;
    for (; h + 4 <= p_.heads; h += 4) {
      AddAllColumns<4, 2>(rows(h), v_rows_, begin, end, columns_, r_ + h, out(h));
    }
    for (; h + 2 <= p_.heads; h += 2) {
      AddAllColumns<2, 4>(rows(h), v_rows_, begin, end, columns_, r_ + h, out(h));
    }
    for (; h < p_.heads; ++h) AddAllColumns<1, 4>(rows(h), v_rows_, begin, end, columns_, r_ + h, out(h));
  }

  const DecodePart& p_;
  int64_t rows_, q_columns_, columns_, k_bytes_;
  float *S_, *r_, *k_copy_, *v_copy_;
  const float* v_rows_[kTileKeys];
};

inline void Decode(const DecodePart& p) {
  const int64_t rows = p.heads * p.queries, k_bytes = p.head_dim * data::StorageBytes(p.K.format);
  for (int64_t j = 0; j < std::min(kTileKeys, p.keys); ++j) PrefetchRow(p.K.rows[j], k_bytes);
  std::fill_n(p.state.m, rows, kMinusInfinity);
  std::fill_n(p.state.l, rows * kPartialSums, 0.0f);
  std::fill_n(p.state.O, rows * RoundUp(p.head_dim_v, kRowPadding), 0.0f);
  std::fill_n(p.scratch, rows * kTileKeys, 0.0f);
  DecodeTile tile(p);
  const int64_t step = TileOfDecode(p);
  for (int64_t j = 0; j < p.keys; j += step) tile.Run(j, std::min(j + step, p.keys));
}

// As MergeStates of cpu_kernels.h.
inline void Merge(const ScoreRule& rule, int64_t rows, int64_t head_dim_v, const RowState& state,
                  const RowState& later) {
  const D d;
  const hn::CappedTag<float, 1> d1;
  const int64_t columns = RoundUp(head_dim_v, kRowPadding);
  for (int64_t i = 0; i < rows; ++i) {
    const float most = state.m[i] > later.m[i] ? state.m[i] : later.m[i];
    const auto factor_of = [&](float m) HWY_ATTR {
      return hn::GetLane(RescaleFactor(d1, rule, hn::Set(d1, m), hn::Set(d1, most)));
    };
    const V a = hn::Set(d, factor_of(state.m[i])), b = hn::Set(d, factor_of(later.m[i]));
    const auto merge = [&](float* HWY_RESTRICT to, const float* HWY_RESTRICT from, int64_t count) HWY_ATTR {
      for (int64_t c = 0; c < count; c += kLanes) {
        hn::StoreU(hn::MulAdd(hn::LoadU(d, to + c), a, hn::Mul(hn::LoadU(d, from + c), b)), d, to + c);
      }
    };
    merge(state.l + i * kPartialSums, later.l + i * kPartialSums, kPartialSums);
    merge(state.O + i * columns, later.O + i * columns, columns);
    state.m[i] = most;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace bitflash::reference
HWY_AFTER_NAMESPACE();

#endif  // BITFLASH_REFERENCE_CPU_DECODE_INL_H_
