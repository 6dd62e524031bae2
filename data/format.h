// Number formats: what a bit pattern means, and how a real number becomes one.
#ifndef BITFLASH_DATA_FORMAT_H_
#define BITFLASH_DATA_FORMAT_H_

#include <cstdint>
#include <string_view>
#include <vector>

namespace bitflash::data {

enum class Format : uint8_t { kFp64, kFp32, kTf32, kFp16, kBf16, kE4m3, kE5m2 };

// The layout of a format: sign, exponent field, fraction field, from the most significant bit down.
struct FormatInfo {
  std::string_view name;  // "bf16"
  int exponent_bits;
  int fraction_bits;
  int bias;
  bool has_infinity;  // e4m3 (OCP "fn" variant) has none: its largest exponent holds numbers, S.1111.111 is NaN
};

const FormatInfo& Info(Format format);
std::string_view Name(Format format);

// Every format, in the order of the enumeration.
const std::vector<Format>& AllFormats();

// The format of that name; throws UsageError with the accepted names.
Format ParseFormat(std::string_view name);

// Bytes that one element occupies in memory; tf32 occupies 4, its low 13 bits are zero.
constexpr int64_t StorageBytes(Format format) {
  switch (format) {
    case Format::kFp64:
      return 8;
    case Format::kFp32:
    case Format::kTf32:
      return 4;
    case Format::kFp16:
    case Format::kBf16:
      return 2;
    case Format::kE4m3:
    case Format::kE5m2:
      break;
  }
  return 1;
}

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_FORMAT_H_
