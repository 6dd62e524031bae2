// Attention of few rows on many keys, read where they are, per SIMD target. Included once per target by
// cpu_decode_kernels.cc.
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
#include "reference/cpu_targets.h"
#include "reference/cpu_transposed-inl.h"
#include "reference/cpu_values-inl.h"
#include "reference/cpu_weights-inl.h"

HWY_BEFORE_NAMESPACE();
namespace bitflash::reference {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Scores of some keys and P V of as many alternate: both K and V are read all the time, as by a loop that does nothing
// else, and the processor's own prefetching keeps up. 8 keys; 16 where a block's keys are lanes and, crosswise, where
// they fill no more than a page.
inline constexpr int64_t kBlockKeys = 8, kMostBlockKeys = 16, kPageBytes = 4096;

// The tiles of a part, one after the other: while the scores of one are computed, the weights of the one before
// multiply V. If kCrosswise, rows of V are asked for while the scores before their turn are computed, rows of K during
// P V, so that nothing is waited for that was asked for a moment ago; else each is asked for kBytesNear and kBytesFar
// ahead of where it is read.
class DecodeTiles {
 public:
  explicit DecodeTiles(const DecodePart& part)
      : p_(part),
        rows_(part.heads * part.queries),
        q_columns_(RoundUp(part.head_dim, kRowPadding)),
        columns_(RoundUp(part.head_dim_v, kRowPadding)),
        transposed_(kTransposes && part.K.format == Format::kBf16 && q_columns_ == part.head_dim && rows_ > 1),
        block_(transposed_ || (kCrosswise && kMostBlockKeys * RowBytes(part.K, part.head_dim) <= kPageBytes)
                   ? kMostBlockKeys
                   : kBlockKeys),
        k_ahead_(AheadOf(part.K, part.head_dim, rows_, block_)),
        v_ahead_(AheadOf(part.V, part.head_dim_v, rows_, block_)),
        k_format_(Readable(part.K.format, part.head_dim, rows_ <= kScoreRows || transposed_)),
        v_format_(Readable(part.V.format, part.head_dim_v, part.heads <= 4 && part.queries == 1)),
        S_(part.scratch),
        P_(S_ + rows_ * kDecodeTileKeys),
        r_(P_ + rows_ * kDecodeTileKeys),
        k_copy_(r_ + RoundUp(rows_ + 4, kRowPadding)),
        v_copy_(k_copy_ + 8 * q_columns_),
        q_packed_(v_copy_ + kMostBlockKeys * columns_) {
    if (transposed_) PackQueries(part.Q, rows_, q_columns_, q_packed_);
  }

  // Keys [begin, end) of the part.
  HWY_INLINE void Run(int64_t begin, int64_t end) {
    KeyRange seen = {end - begin, 0};  // of the tile, by any row
    for (int64_t i = 0; i < p_.queries; ++i) {
      const KeyRange by_row = Seen(i, begin, end - begin);
      if (by_row.begin >= by_row.end) continue;
      seen = {std::min(seen.begin, by_row.begin), std::max(seen.end, by_row.end)};
    }
    if (seen.begin >= seen.end) return;
    begin_ = begin;
    for (int64_t j = 0; j < std::max(end - begin, v_keys_); j += block_) {
      ListRows(p_.V, v_begin_ + j, v_begin_ + v_keys_, v_rows_);
      ListRows(p_.K, begin + j, p_.keys, k_rows_);
      AllScores(j, std::max(seen.begin / 4 * 4, j), std::min(seen.end, j + block_));
      if constexpr (kCrosswise) ListRows(p_.K, begin + j + block_, p_.keys, next_);
      AllValues(j);
    }
    v_begin_ = begin, v_keys_ = end - begin;
    std::swap(S_, P_);
    for (int64_t i = 0; i < p_.queries; ++i) Weigh(i);
  }

  void Finish() {
    for (int64_t j = 0; j < v_keys_; j += block_) {
      ListRows(p_.V, v_begin_ + j, v_begin_ + v_keys_, v_rows_);
      if constexpr (kCrosswise) ListRows(p_.V, v_begin_ + j + block_, v_begin_ + v_keys_, next_);
      AllValues(j);
    }
    if (v_format_ != Format::kBf16) return;
    for (int64_t row = 0; row < rows_; ++row) RestoreBlockOrder(columns_, p_.state.O + row * columns_);
  }

 private:
  using Format = data::Format;

  // The format in which rows can be read where they are, or fp64: in none. `once`: each row is read once.
  static Format Readable(Format format, int64_t columns, bool once) {
    if (columns % kRowPadding != 0) return Format::kFp64;
    if (format == Format::kFp32) return format;
    return once && (format == Format::kBf16 || kConvertsFp16) ? format : Format::kFp64;
  }

  // Where rows [j, end) of the part lie, block_ at most; the list is filled up with the last.
  HWY_INLINE void ListRows(const KeyRows& in, int64_t j, int64_t end, const void** rows) const {
    if (in.table == nullptr && j + block_ <= end) {
      const std::byte* row = in.first + j * in.step;
      for (int64_t n = 0; n < block_; ++n, row += in.step) rows[n] = row;
      return;
    }
    const int64_t last = std::max<int64_t>(end - 1, 0);
    for (int64_t n = 0; n < block_; ++n) rows[n] = in.Row(std::min(j + n, last));
  }

  static int64_t RowBytes(const KeyRows& in, int64_t columns) { return columns * data::StorageBytes(in.format); }

  // Keys that lie about kBytesNear and kBytesFar ahead of a key; in pages whole blocks. far 0: not asked for. One query
  // row computes so little with long rows one behind the other that to ask twice costs 5 %, where it gains 2 to 15 %
  // otherwise.
  struct Ahead {
    int64_t near, far;
  };
  static Ahead AheadOf(const KeyRows& in, int64_t columns, int64_t query_rows, int64_t block) {
    const int64_t bytes = RowBytes(in, columns);
    const bool paged = in.table != nullptr;
    const auto keys = [&](int64_t ahead) {
      const int64_t n = std::clamp<int64_t>(ahead / bytes, 1, kDecodeKeysAhead);
      return paged ? RoundUp(n, block) : n;
    };
    return {keys(kBytesNear), query_rows == 1 && bytes >= 512 && !paged ? 0 : keys(kBytesFar)};
  }
  // Bytes from key j's row to the one `ahead` keys behind; in pages that of all rows of the block that j begins, where
  // pages hold whole blocks.
  static HWY_INLINE int64_t Distance(const KeyRows& in, int64_t j, int64_t ahead) {
    if (in.table == nullptr) return ahead * in.step;
    const void *from = in.Row(std::min(j, in.listed - 1)), *to = in.Row(std::min(j + ahead, in.listed - 1));
    return static_cast<const std::byte*>(to) - static_cast<const std::byte*>(from);
  }
  // While the block of `in` that key j begins is read; crosswise, for the rows `other` of `bytes` bytes.
  HWY_INLINE Asker AskerFor(const KeyRows& in, int64_t j, Ahead ahead, const void* const* other, int64_t bytes) const {
    if constexpr (kCrosswise) return Asker(other, block_, bytes, 0, 0);
    return Asker(other, block_, bytes, Distance(in, j, ahead.near), Distance(in, j, ahead.far));
  }

  // The keys of a tile that query i sees.
  KeyRange Seen(int64_t i, int64_t begin, int64_t keys) const {
    const int64_t first = p_.first_key + begin;
    return {std::clamp<int64_t>(p_.visible[i].begin - first, 0, keys),
            std::clamp<int64_t>(p_.visible[i].end - first, 0, keys)};
  }

  // Scores of keys [j, end) of the tile, in the block that starts at `block`.
  BITFLASH_LOOP_PART void AllScores(int64_t block, int64_t j, int64_t end) {
    switch (k_format_) {
      case Format::kBf16:
        return Scores<Format::kBf16, false>(block, j, end);
      case Format::kFp16:
        return Scores < kConvertsFp16 ? Format::kFp16 : Format::kFp32, false > (block, j, end);
      case Format::kFp32:
        return Scores<Format::kFp32, false>(block, j, end);
      default:
        return Scores<Format::kFp32, true>(block, j, end);
    }
  }

  template <Format kFormat, bool kCopied>
  BITFLASH_LOOP_PART void Scores(int64_t block, int64_t j, int64_t end) {
    Asker asker = AskerFor(p_.K, begin_ + block, k_ahead_, v_rows_, RowBytes(p_.V, p_.head_dim_v));
    if constexpr (kTransposes && kFormat == Format::kBf16) {
      if (transposed_) {  // and the whole block: what is behind its end, or before, is hidden below
        for (int64_t n = 0; n < block_; n += kLanes) {
          ScoreTransposed(q_packed_, rows_, q_columns_, k_rows_ + n, asker, reinterpret_cast<uint32_t*>(k_copy_),
                          S_ + block + n);
        }
        return;
      }
    }
    Asker none;
    for (; j < end; j += 4) {
      const void* const* k = k_rows_ + (j - block);  // behind the end, scores of other keys, hidden below
      const void* copies[4];
      if constexpr (kCopied) {
        for (int64_t n = 0; n < 4; ++n) {
          ConvertRow(p_.K.format, k[n], p_.head_dim, asker, k_copy_ + n * q_columns_);
          copies[n] = k_copy_ + n * q_columns_;
        }
        k = copies;
      }
      int64_t row = 0;
      const auto ask = [&]() HWY_ATTR -> Asker& { return kCopied || row > 0 ? none : asker; };  // once is enough
      if constexpr (kScoreRows == 4) {
        for (; row + 4 <= rows_; row += 4) ScoreRows<kFormat, 4>(k, j, row, ask());
      }
      if constexpr (kScoreRows >= 2) {
        for (; row + 2 <= rows_; row += 2) ScoreRows<kFormat, 2>(k, j, row, ask());
      }
      for (; row < rows_; ++row) ScoreRows<kFormat, 1>(k, j, row, ask());
    }
  }

  template <Format kFormat, int kRows>
  BITFLASH_LOOP_PART void ScoreRows(const void* const* k, int64_t j, int64_t row, Asker& asker) {
    ScoreFourKeys<kFormat, kRows>(p_.Q + row * q_columns_, q_columns_, k, asker, S_ + row * kDecodeTileKeys + j);
  }

  // Scores of query i become weights.
  BITFLASH_LOOP_PART void Weigh(int64_t i) {
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

  // O = r O + P V for keys [j, j + block_) of the tile before.
  BITFLASH_LOOP_PART void AllValues(int64_t j) {
    if (j >= v_keys_) return;
    const int64_t end = std::min(j + block_, v_keys_);
    const void* copies[kMostBlockKeys];
    const void* const* v = v_rows_;
    Asker asker = AskerFor(p_.V, v_begin_ + j, v_ahead_, next_, RowBytes(p_.K, p_.head_dim));
    if (v_format_ == Format::kFp64) {
      for (int64_t k = 0; k < end - j; ++k) {
        ConvertRow(p_.V.format, v_rows_[k], p_.head_dim_v, asker, v_copy_ + k * columns_);
        copies[k] = v_copy_ + k * columns_;
      }
      v = copies;
      asker = {};
    }
    for (int64_t i = 0; i < p_.queries; ++i) {
      const KeyRange seen = Seen(i, v_begin_, v_keys_);
      const KeyRange keys = {std::max(seen.begin, j), std::min(seen.end, end)};
      if (keys.begin >= keys.end) continue;
      switch (v_format_) {
        case Format::kBf16:
          AddRows<Format::kBf16>(i * p_.heads, j, keys, v, asker);
          break;
        case Format::kFp16:
          AddRows<kConvertsFp16 ? Format::kFp16 : Format::kFp32>(i * p_.heads, j, keys, v, asker);
          break;
        default:
          AddRows<Format::kFp32>(i * p_.heads, j, keys, v, asker);
      }
      std::fill_n(r_ + i * p_.heads, p_.heads, 1.0f);
    }
  }

  // For the heads of one query and some keys of the block that starts at key j and whose rows of V are v.
  template <Format kFormat>
  BITFLASH_LOOP_PART void AddRows(int64_t row0, int64_t j, KeyRange keys, const void* const* v, Asker& asker) {
    int64_t h = 0;
    const KeyRange block = {keys.begin - j, keys.end - j};
    AddSomeRows<kFormat, 4, kValueVectors>(row0, j, block, v, asker, h);
    AddSomeRows<kFormat, 2, kTwoRowVectors>(row0, j, block, v, asker, h);
    AddSomeRows<kFormat, 1, kOneRowVectors>(row0, j, block, v, asker, h);
  }

  template <Format kFormat, int kRows, int kVectors>
  BITFLASH_LOOP_PART void AddSomeRows(int64_t row0, int64_t j, KeyRange block, const void* const* v, Asker& asker,
                                      int64_t& h) {
    for (; h + kRows <= p_.heads; h += kRows) {
      const int64_t row = row0 + h;
      AddAllColumns<kFormat, kRows, kVectors>(P_ + row * kDecodeTileKeys + j, v, block.begin, block.end, columns_,
                                              asker, r_ + row, p_.state.O + row * columns_);
      asker = {};  // once is enough
    }
  }

  const DecodePart& p_;
  int64_t rows_, q_columns_, columns_;
  bool transposed_;  // ScoreTransposed computes the scores
  int64_t block_;    // keys of a block
  Ahead k_ahead_, v_ahead_;
  Format k_format_, v_format_;
  float *S_, *P_, *r_;                   // S of this tile, P of the one before
  float *k_copy_, *v_copy_, *q_packed_;  // k_copy_: or words of ScoreTransposed, which reads q_packed_
  int64_t begin_ = 0;                    // of this tile
  int64_t v_begin_ = 0, v_keys_ = 0;     // of the tile before
  // Of a block, and of the next one.
  const void *k_rows_[kMostBlockKeys], *v_rows_[kMostBlockKeys];
  const void* next_[kMostBlockKeys];
};

inline void Decode(const DecodePart& p) {
  const int64_t rows = p.heads * p.queries;
  std::fill_n(p.state.m, rows, kMinusInfinity);
  std::fill_n(p.state.l, rows * kPartialSums, 0.0f);
  std::fill_n(p.state.O, rows * RoundUp(p.head_dim_v, kRowPadding), 0.0f);
  std::fill_n(p.scratch, 2 * rows * kDecodeTileKeys, 0.0f);
  DecodeTiles tiles(p);
  for (int64_t j = 0; j < p.keys; j += kDecodeTileKeys) tiles.Run(j, std::min(j + kDecodeTileKeys, p.keys));
  tiles.Finish();
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
