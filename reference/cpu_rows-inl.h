// Rows of K and V where they are in memory, in any format, per SIMD target. Included once per target by cpu_kernels.cc.
#if defined(BITFLASH_REFERENCE_CPU_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BITFLASH_REFERENCE_CPU_ROWS_INL_H_
#undef BITFLASH_REFERENCE_CPU_ROWS_INL_H_
#else
#define BITFLASH_REFERENCE_CPU_ROWS_INL_H_
#endif

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

// How far ahead of what is read the next rows are asked for, in bytes, a line for each that is read: evenly, as in a
// loop that only reads, because few lines can be on their way to the first-level cache at a time. Where rows are not
// adjacent, what is asked for in vain costs time and nothing else.
inline constexpr int64_t kBytesAhead = 2048;

// Asks for the lines that lie `ahead` bytes behind columns [c, c + count) of a row.
template <data::Format kFormat>
HWY_INLINE void AskAhead(const void* row, int64_t c, int64_t count, int64_t ahead) {
  constexpr int64_t kBytes = kFormat == data::Format::kFp32 ? 4 : 2;
  if (ahead == 0) return;
  // The row may end there, and its array; to ask is no access.
  const char* address = reinterpret_cast<const char*>(reinterpret_cast<uintptr_t>(row) + c * kBytes + ahead);
  for (int64_t n = 0; n < count * kBytes; n += 64) hwy::Prefetch(address + n);
}

// Asks for a whole row.
HWY_INLINE void AskForRow(const void* row, int64_t bytes) {
  for (int64_t n = 0; n < bytes; n += 64) hwy::Prefetch(static_cast<const char*>(row) + n);
}

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

template <data::Format kFormat>
HWY_INLINE void ConvertWhole(const void* row, int64_t columns, float* HWY_RESTRICT out) {
  const D d;
  AskAhead<kFormat>(row, 0, columns, kBytesAhead);
  for (int64_t c = 0; c < columns; c += kLanes) hn::Store(LoadRow<kFormat>(row, c), d, out + c);
}

// One row as fp32, padded with zeros to a multiple of kRowPadding.
inline void ConvertRow(data::Format format, const void* row, int64_t columns, float* HWY_RESTRICT out) {
  using data::Format;
  const bool whole = columns % kRowPadding == 0;
  if (whole && format == Format::kBf16) return ConvertWhole<Format::kBf16>(row, columns, out);
  if constexpr (kConvertsFp16) {
    if (whole && format == Format::kFp16) return ConvertWhole<Format::kFp16>(row, columns, out);
  }
  data::ToFloat(format, row, out, columns);
  for (int64_t c = columns; c < RoundUp(columns, kRowPadding); ++c) out[c] = 0;
}

}  // namespace HWY_NAMESPACE
}  // namespace bitflash::reference
HWY_AFTER_NAMESPACE();

#endif  // BITFLASH_REFERENCE_CPU_ROWS_INL_H_
