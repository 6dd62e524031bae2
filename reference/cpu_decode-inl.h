// Attention of few rows on many keys, read where they are, per SIMD target. Included once per target by
// cpu_kernels.cc.
#if defined(BITFLASH_REFERENCE_CPU_DECODE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BITFLASH_REFERENCE_CPU_DECODE_INL_H_
#undef BITFLASH_REFERENCE_CPU_DECODE_INL_H_
#else
#define BITFLASH_REFERENCE_CPU_DECODE_INL_H_
#endif

#include <algorithm>
#include <utility>

#include "hwy/highway.h"
#include "reference/cpu_kernels.h"
#include "reference/cpu_rows-inl.h"
#include "reference/cpu_scores-inl.h"
#include "reference/cpu_softmax-inl.h"

HWY_BEFORE_NAMESPACE();
namespace bitflash::reference {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Scores of this many keys and P V of as many alternate: both K and V are read all the time, as by a loop that does
// nothing else, and the processor's own prefetching keeps up.
inline constexpr int64_t kBlockKeys = 16;

// Where a vector holds fewer than kPartialSums columns, longer rows of K or V are asked for crosswise (DecodeTiles).
// Measured with AVX2 (Zen 3): fp32 of head_dim 64 takes two thirds of the time, bf16 of head_dim 64, 128 bytes a row,
// 10 % more. Not measured with AVX-512.
inline constexpr int64_t kShortRowBytes = 128;

// O[row, c...] = r[row] O + sum_k P[row, k] V[k, c...] for kRows rows and kVectors vectors of columns.
template <data::Format kFormat, int kRows, int kVectors>
HWY_INLINE void AddValues(const float* HWY_RESTRICT P, const void* const* v, int64_t begin, int64_t end, int64_t c,
                          int64_t ahead, const float* HWY_RESTRICT r, float* HWY_RESTRICT O, int64_t o_row) {
  static_assert((kRows == 1 || kRows == 2 || kRows == 4) && (kVectors == 1 || kVectors == 2 || kVectors == 4));
  static_assert(kRows * kVectors <= 8);
  const D d;
  const auto start = [&](int64_t n) HWY_ATTR {  // accumulator n is row n / kVectors, vector n % kVectors
    if (n >= kRows * kVectors) return hn::Zero(d);
    return hn::Mul(hn::LoadU(d, O + n / kVectors * o_row + c + n % kVectors * kLanes), hn::Set(d, r[n / kVectors]));
  };
  V x0 = start(0), x1 = start(1), x2 = start(2), x3 = start(3);
  V x4 = start(4), x5 = start(5), x6 = start(6), x7 = start(7);
  const auto step = [&](int64_t n, const void* row, int64_t k, V x) HWY_ATTR {
    const V p = hn::Set(d, P[n / kVectors * kDecodeTileKeys + k]);
    return hn::MulAdd(p, LoadRow<kFormat>(row, c + n % kVectors * kLanes), x);
  };
  for (int64_t k = begin; k < end; ++k) {
    const void* row = v[k];
    AskAhead<kFormat>(row, c, kVectors * kLanes, ahead);
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

template <data::Format kFormat, int kRows, int kVectors>
HWY_INLINE void AddAllColumns(const float* P, const void* const* v, int64_t begin, int64_t end, int64_t columns,
                              int64_t ahead, const float* r, float* O) {
  int64_t c = 0;
  for (; c + kVectors * kLanes <= columns; c += kVectors * kLanes) {
    AddValues<kFormat, kRows, kVectors>(P, v, begin, end, c, ahead, r, O, columns);
  }
  for (; c < columns; c += kLanes) AddValues<kFormat, kRows, 1>(P, v, begin, end, c, ahead, r, O, columns);
}

// The tiles of a part, one after the other: while the scores of one are computed, the weights of the one before
// multiply V. kCrosswise: rows of V are asked for while the scores before their turn are computed, rows of K during P
// V, so that nothing is waited for that was asked for a moment ago; else each is asked for kBytesAhead of where it is
// read.
template <bool kCrosswise>
class DecodeTiles {
 public:
  explicit DecodeTiles(const DecodePart& part)
      : p_(part),
        rows_(part.heads * part.queries),
        q_columns_(RoundUp(part.head_dim, kRowPadding)),
        columns_(RoundUp(part.head_dim_v, kRowPadding)),
        k_format_(Readable(part.K.format, part.head_dim, rows_ <= kScoreRows)),
        v_format_(Readable(part.V.format, part.head_dim_v, part.heads <= 4 && part.queries == 1)),
        S_(part.scratch),
        P_(S_ + rows_ * kDecodeTileKeys),
        r_(P_ + rows_ * kDecodeTileKeys),
        k_copy_(r_ + RoundUp(rows_ + 4, kRowPadding)),
        v_copy_(k_copy_ + 4 * q_columns_) {}

  // Keys [begin, end) of the part.
  HWY_INLINE void Run(int64_t begin, int64_t end) {
    KeyRange seen = {end - begin, 0};  // of the tile, by any row
    for (int64_t i = 0; i < p_.queries; ++i) {
      const KeyRange by_row = Seen(i, begin, end - begin);
      if (by_row.begin >= by_row.end) continue;
      seen = {std::min(seen.begin, by_row.begin), std::max(seen.end, by_row.end)};
    }
    if (seen.begin >= seen.end) return;
    for (int64_t j = 0; j < std::max(end - begin, v_keys_); j += kBlockKeys) {
      AllScores(begin, std::max(seen.begin / 4 * 4, j), std::min(seen.end, j + kBlockKeys));
      AskFor(p_.K, p_.head_dim, begin + j + kBlockKeys, kBlockKeys, p_.keys);
      AllValues(j);
    }
    v_begin_ = begin, v_keys_ = end - begin;
    std::swap(S_, P_);
    for (int64_t i = 0; i < p_.queries; ++i) Weigh(i);
  }

  void Finish() {
    for (int64_t j = 0; j < v_keys_; j += kBlockKeys) {
      AskFor(p_.V, p_.head_dim_v, v_begin_ + j + kBlockKeys, kBlockKeys, v_begin_ + v_keys_);
      AllValues(j);
    }
  }

 private:
  using Format = data::Format;

  // The format in which rows can be read where they are, or fp64: in none. `once`: each row is read once.
  static Format Readable(Format format, int64_t columns, bool once) {
    if (columns % kRowPadding != 0) return Format::kFp64;
    if (format == Format::kFp32) return format;
    return once && (format == Format::kBf16 || kConvertsFp16) ? format : Format::kFp64;
  }

  // Asks for `count` rows of the part from row j, those below `end`, of `columns` columns.
  static HWY_INLINE void AskFor(const KeyRows& in, int64_t columns, int64_t j, int64_t count, int64_t end) {
    if constexpr (kCrosswise) {
      const int64_t bytes = columns * data::StorageBytes(in.format);
      for (end = std::min(end, j + count); j < end; ++j) AskForRow(in.Row(j), bytes);
    }
  }

  // The keys of a tile that query i sees.
  KeyRange Seen(int64_t i, int64_t begin, int64_t keys) const {
    const int64_t first = p_.first_key + begin;
    return {std::clamp<int64_t>(p_.visible[i].begin - first, 0, keys),
            std::clamp<int64_t>(p_.visible[i].end - first, 0, keys)};
  }

  // Scores of keys [j, end) of the tile that starts at `begin`.
  HWY_INLINE void AllScores(int64_t begin, int64_t j, int64_t end) {
    switch (k_format_) {
      case Format::kBf16:
        return Scores<Format::kBf16, false>(begin, j, end);
      case Format::kFp16:
        return Scores < kConvertsFp16 ? Format::kFp16 : Format::kFp32, false > (begin, j, end);
      case Format::kFp32:
        return Scores<Format::kFp32, false>(begin, j, end);
      default:
        return Scores<Format::kFp32, true>(begin, j, end);
    }
  }

  template <Format kFormat, bool kCopied>
  HWY_INLINE void Scores(int64_t begin, int64_t j, int64_t end) {
    for (; j < end; j += 4) {
      AskFor(p_.V, p_.head_dim_v, v_begin_ + j, 4, v_begin_ + v_keys_);
      const int64_t keys = std::min<int64_t>(4, end - j);
      const void* k[4];
      for (int64_t n = 0; n < 4; ++n) {
        k[n] = n < keys ? p_.K.Row(begin + j + n) : k[0];  // the scores of the others are hidden below
        if constexpr (kCopied) {
          if (n < keys) ConvertRow(p_.K.format, k[n], p_.head_dim, k_copy_ + n * q_columns_);
          k[n] = k_copy_ + (n < keys ? n : 0) * q_columns_;
        }
      }
      int64_t row = 0, ahead = kCopied || kCrosswise ? 0 : kBytesAhead;
      if constexpr (kScoreRows == 4) {
        ScoreRows<kFormat, 4>(k, j, ahead, row);
        ScoreRows<kFormat, 2>(k, j, ahead, row);
      }
      ScoreRows<kFormat, 1>(k, j, ahead, row);
    }
  }

  template <Format kFormat, int kRows>
  HWY_INLINE void ScoreRows(const void* const* k, int64_t j, int64_t& ahead, int64_t& row) {
    for (; row + kRows <= rows_; row += kRows) {
      ScoreFourKeys<kFormat, kRows>(p_.Q + row * q_columns_, q_columns_, k, ahead, S_ + row * kDecodeTileKeys + j);
      ahead = 0;  // once is enough
    }
  }

  // Scores of query i become weights.
  HWY_INLINE void Weigh(int64_t i) {
    const KeyRange seen = Seen(i, v_begin_, v_keys_);
    if (seen.begin >= seen.end) return;
    const Columns used = {seen.begin / kPartialSums * kPartialSums, RoundUp(seen.end, kPartialSums)};
    const int64_t row0 = i * p_.heads;
    float *m = p_.state.m + row0, *P = P_ + row0 * kDecodeTileKeys;
    for (int64_t h = 0; h < p_.heads; ++h) {
      // Capped before they are masked, so that no more than the columns with scores may be touched: the rest of S is
      // whatever it was, and masked.
      float* row = P + h * kDecodeTileKeys;
      if (p_.rule.softcap > 0) CapScores(p_.rule, used, row);
      if (used.begin != seen.begin || used.end != seen.end) MaskScores(used, seen.begin, seen.end, row);
    }
    UpdateMaxima<kDecodeTileKeys>(p_.rule, p_.heads, used, P, m, r_ + row0);
    Exponentials<kDecodeTileKeys>(p_.rule, p_.heads, used, P, m, r_ + row0, p_.state.l + row0 * kPartialSums);
  }

  // O = r O + P V for keys [j, j + kBlockKeys) of the tile before.
  HWY_INLINE void AllValues(int64_t j) {
    if (j >= v_keys_) return;
    const int64_t end = std::min(j + kBlockKeys, v_keys_);
    for (int64_t k = j; k < end; ++k) {
      v_rows_[k - j] = p_.V.Row(v_begin_ + k);
      if (v_format_ != Format::kFp64) continue;
      ConvertRow(p_.V.format, v_rows_[k - j], p_.head_dim_v, v_copy_ + (k - j) * columns_);
      v_rows_[k - j] = v_copy_ + (k - j) * columns_;
    }
    for (int64_t i = 0; i < p_.queries; ++i) {
      const KeyRange seen = Seen(i, v_begin_, v_keys_);
      const KeyRange keys = {std::max(seen.begin, j), std::min(seen.end, end)};
      if (keys.begin >= keys.end) continue;
      switch (v_format_) {
        case Format::kBf16:
          AddRows<Format::kBf16>(i * p_.heads, j, keys);
          break;
        case Format::kFp16:
          AddRows<kConvertsFp16 ? Format::kFp16 : Format::kFp32>(i * p_.heads, j, keys);
          break;
        default:
          AddRows<Format::kFp32>(i * p_.heads, j, keys);
      }
      std::fill_n(r_ + i * p_.heads, p_.heads, 1.0f);
    }
  }

  // For the heads of one query and some keys of the block that starts at key j.
  template <Format kFormat>
  HWY_INLINE void AddRows(int64_t row0, int64_t j, KeyRange keys) {
    int64_t h = 0, ahead = v_format_ == Format::kFp64 || kCrosswise ? 0 : kBytesAhead;
    const KeyRange block = {keys.begin - j, keys.end - j};
    AddSomeRows<kFormat, 4, 2>(row0, j, block, ahead, h);
    AddSomeRows<kFormat, 2, 4>(row0, j, block, ahead, h);
    AddSomeRows<kFormat, 1, 4>(row0, j, block, ahead, h);
  }

  template <Format kFormat, int kRows, int kVectors>
  HWY_INLINE void AddSomeRows(int64_t row0, int64_t j, KeyRange block, int64_t& ahead, int64_t& h) {
    for (; h + kRows <= p_.heads; h += kRows) {
      const int64_t row = row0 + h;
      AddAllColumns<kFormat, kRows, kVectors>(P_ + row * kDecodeTileKeys + j, v_rows_, block.begin, block.end, columns_,
                                              ahead, r_ + row, p_.state.O + row * columns_);
      ahead = 0;  // once is enough
    }
  }

  const DecodePart& p_;
  int64_t rows_, q_columns_, columns_;
  Format k_format_, v_format_;
  float *S_, *P_, *r_, *k_copy_, *v_copy_;  // S of this tile, P of the one before
  int64_t v_begin_ = 0, v_keys_ = 0;        // of the tile before
  const void* v_rows_[kBlockKeys];
};

template <bool kCrosswise>
HWY_INLINE void RunTiles(const DecodePart& p) {
  DecodeTiles<kCrosswise> tiles(p);
  for (int64_t j = 0; j < p.keys; j += kDecodeTileKeys) tiles.Run(j, std::min(j + kDecodeTileKeys, p.keys));
  tiles.Finish();
}

inline void Decode(const DecodePart& p) {
  const int64_t rows = p.heads * p.queries;
  std::fill_n(p.state.m, rows, kMinusInfinity);
  std::fill_n(p.state.l, rows * kPartialSums, 0.0f);
  std::fill_n(p.state.O, rows * RoundUp(p.head_dim_v, kRowPadding), 0.0f);
  std::fill_n(p.scratch, 2 * rows * kDecodeTileKeys, 0.0f);
  if constexpr (kVectorsPerSum > 1) {
    const int64_t k_bytes = p.head_dim * data::StorageBytes(p.K.format);
    const int64_t v_bytes = p.head_dim_v * data::StorageBytes(p.V.format);
    if (std::max(k_bytes, v_bytes) > kShortRowBytes) return RunTiles<true>(p);
  }
  RunTiles<false>(p);
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
