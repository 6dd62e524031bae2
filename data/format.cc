#include "data/format.h"

#include <string>

#include "data/error.h"

namespace bitflash::data {
namespace {

// IEEE 754-2019 (binary64, binary32, binary16); PTX ISA "tf32", "bf16"; OCP OFP8 1.0 (e4m3 without infinities, e5m2).
constexpr FormatInfo kInfo[] = {
    {"fp64", 11, 52, 1023, true}, {"fp32", 8, 23, 127, true}, {"tf32", 8, 10, 127, true}, {"fp16", 5, 10, 15, true},
    {"bf16", 8, 7, 127, true},    {"e4m3", 4, 3, 7, false},   {"e5m2", 5, 2, 15, true},
};

}  // namespace

const FormatInfo& Info(Format format) { return kInfo[static_cast<int>(format)]; }

std::string_view Name(Format format) { return Info(format).name; }

const std::vector<Format>& AllFormats() {
  static const std::vector<Format> formats = {Format::kFp64, Format::kFp32, Format::kTf32, Format::kFp16,
                                              Format::kBf16, Format::kE4m3, Format::kE5m2};
  return formats;
}

Format ParseFormat(std::string_view name) {
  std::string accepted;
  for (const Format format : AllFormats()) {
    if (Name(format) == name) return format;
    accepted += (accepted.empty() ? "" : ", ") + std::string(Name(format));
  }
  throw UsageError("unknown format '" + std::string(name) + "': expected one of " + accepted);
}

}  // namespace bitflash::data
