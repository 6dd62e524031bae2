// Rows of K and V where they are in memory, in any format, per SIMD target. Included once per target by
// cpu_decode_kernels.cc.
#if defined(BITFLASH_REFERENCE_CPU_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BITFLASH_REFERENCE_CPU_ROWS_INL_H_
#undef BITFLASH_REFERENCE_CPU_ROWS_INL_H_
#else
#define BITFLASH_REFERENCE_CPU_ROWS_INL_H_
#endif

#include <algorithm>
#include <type_traits>

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

// How memory is asked for while rows of a block are read, a line whenever one is read.
//
// With short vectors crosswise, see DecodeTiles, and strictly in order: with AVX2 (Zen 3) the processor's own
// prefetching follows that, and little else (asked for in the order in which four rows multiply 64 bytes of V after the
// other, fp32 takes half again as long).
class CrosswiseAsker {
 public:
  // For `count` rows of `bytes` bytes.
  CrosswiseAsker(const void* const* rows, int64_t count, int64_t bytes, int64_t, int64_t)
      : on_(true), next_(rows), last_(rows + count), bytes_(bytes) {
    NextRow();
  }
  CrosswiseAsker() = default;  // for nothing, where rows are read once more

  // Columns [c, c + count) of a row are read.
  template <data::Format kFormat>
  HWY_INLINE void Read(const void* row, int64_t c, int64_t count) {
    constexpr int64_t kBytes = kFormat == data::Format::kFp32 ? 4 : 2;
    if (c * kBytes % kLine != 0) return;
    for (int64_t byte = 0; byte < count * kBytes; byte += kLine) ReadLine(row, byte);
  }
  HWY_INLINE void ReadLine(const void*, int64_t) {
    if (!on_) return;
    hwy::Prefetch(reinterpret_cast<const char*>(at_));
    at_ += kLine;
    if (HWY_UNLIKELY(at_ >= end_)) NextRow();
  }

 private:
  static constexpr int64_t kLine = 64;

  HWY_INLINE void NextRow() {
    if (next_ == last_) {  // on, behind the last row: a flag that changed would have to be looked at
      end_ = ~uintptr_t{0};
      return;
    }
    at_ = reinterpret_cast<uintptr_t>(*next_++);
    end_ = at_ + static_cast<uintptr_t>(bytes_);
  }

  bool on_ = false;
  const void *const *next_ = nullptr, *const *last_ = nullptr;
  int64_t bytes_ = 0;
  uintptr_t at_ = 0, end_ = 0;
};

// With 512-bit vectors in the order of reading: for what lies `near` and `far` bytes behind, first from memory for the
// second-level cache, later from there for the first (Sapphire Rapids).
class AheadAsker {
 public:
  // far 0: only near.
  AheadAsker(const void* const*, int64_t, int64_t, int64_t near, int64_t far) : near_(near), far_(far) {}
  AheadAsker() = default;  // for what is there: less work than to ask whether to

  template <data::Format kFormat>
  HWY_INLINE void Read(const void* row, int64_t c, int64_t count) {
    constexpr int64_t kBytes = kFormat == data::Format::kFp32 ? 4 : 2;
    if (count * kBytes < kLine && c * kBytes % kLine != 0) return;
    for (int64_t byte = 0; byte < count * kBytes; byte += kLine) ReadLine(row, c * kBytes + byte);
  }
  // A row may end before what is asked for, and its array: to ask is no access.
  HWY_INLINE void ReadLine(const void* row, int64_t byte) {
    const uintptr_t line = reinterpret_cast<uintptr_t>(row) + static_cast<uintptr_t>(byte);
    hwy::Prefetch(reinterpret_cast<const char*>(line + static_cast<uintptr_t>(near_)));
    if (far_ != 0) __builtin_prefetch(reinterpret_cast<const char*>(line + static_cast<uintptr_t>(far_)), 0, 2);
  }

 private:
  static constexpr int64_t kLine = 64;

  int64_t near_ = 0, far_ = 0;
};

inline constexpr bool kCrosswise = kVectorsPerSum > 1;
using Asker = std::conditional_t<kCrosswise, CrosswiseAsker, AheadAsker>;

// AheadAsker: how far behind what is read.
inline constexpr int64_t kBytesNear = 2048, kBytesFar = 16384;

// kLanes columns of a row from c, converted while they are loaded.
template <data::Format kFormat>
HWY_INLINE V LoadRow(const void* row, int64_t c) {
  const D d;
  if constexpr (kFormat == data::Format::kFp32) {
    return hn::LoadU(d, static_cast<const float*>(row) + c);
  } else {
    const hn::Rebind<uint16_t, D> du16;
    const auto bits = hn::LoadU(du16, static_cast<const uint16_t*>(row) + c);
    if constexpr (kFormat == data::Format::kBf16) {
      return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(hn::RebindToUnsigned<D>(), bits)));
    } else {
      return hn::PromoteTo(d, hn::BitCast(hn::Rebind<hwy::float16_t, D>(), bits));
    }
  }
}

// Two vectors of bf16 columns from c as fp32 with one instruction for each. Their order is that of blocks of four:
// blocks 0, 2, 4, ... of the 2 kLanes columns, then 1, 3, 5, ...
HWY_INLINE void LoadBf16Pair(const void* row, int64_t c, V& even_blocks, V& odd_blocks) {
#if HWY_TARGET == HWY_SCALAR
  even_blocks = LoadRow<data::Format::kBf16>(row, c), odd_blocks = LoadRow<data::Format::kBf16>(row, c + 1);
#else
  const D d;
  const hn::Repartition<uint16_t, D> du16;
  const auto zero = hn::Zero(du16), bits = hn::LoadU(du16, static_cast<const uint16_t*>(row) + c);
  even_blocks = hn::BitCast(d, hn::InterleaveLower(du16, zero, bits));
  odd_blocks = hn::BitCast(d, hn::InterleaveUpper(du16, zero, bits));
#endif
}

// Columns from 0 on as they are, from such order.
inline void RestoreBlockOrder(int64_t columns, float* HWY_RESTRICT x) {
  if constexpr (kLanes > 4) {
    for (int64_t c = 0; c + 2 * kLanes <= columns; c += 2 * kLanes) {
      float from[2 * kLanes];
      std::copy_n(x + c, 2 * kLanes, from);
      for (int64_t i = 0; i < 2 * kLanes; ++i) x[c + i] = from[i / 4 % 2 * kLanes + i / 8 * 4 + i % 4];
    }
  }
}

template <data::Format kFormat>
HWY_INLINE void ConvertWhole(const void* row, int64_t columns, Asker& asker, float* HWY_RESTRICT out) {
  const D d;
  for (int64_t c = 0; c < columns; c += kPartialSums) {
    asker.Read<kFormat>(row, c, kPartialSums);
    for (int64_t i = 0; i < kPartialSums; i += kLanes) hn::Store(LoadRow<kFormat>(row, c + i), d, out + c + i);
  }
}

// One row as fp32, padded with zeros to a multiple of kRowPadding.
HWY_INLINE void ConvertRow(data::Format format, const void* row, int64_t columns, Asker& asker,
                           float* HWY_RESTRICT out) {
  using data::Format;
  const bool whole = columns % kRowPadding == 0;
  if (whole && format == Format::kBf16) return ConvertWhole<Format::kBf16>(row, columns, asker, out);
  if constexpr (kConvertsFp16) {
    if (whole && format == Format::kFp16) return ConvertWhole<Format::kFp16>(row, columns, asker, out);
  }
  data::ToFloat(format, row, out, columns);
  for (int64_t c = columns; c < RoundUp(columns, kRowPadding); ++c) out[c] = 0;
}

}  // namespace HWY_NAMESPACE
}  // namespace bitflash::reference
HWY_AFTER_NAMESPACE();

#endif  // BITFLASH_REFERENCE_CPU_ROWS_INL_H_
