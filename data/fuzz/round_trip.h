// What must hold for every byte string given to a reader; shared by the libFuzzer targets and fuzz_smoke_test.cc.
#ifndef BITFLASH_DATA_FUZZ_ROUND_TRIP_H_
#define BITFLASH_DATA_FUZZ_ROUND_TRIP_H_

#include <cstdint>
#include <span>

namespace bitflash::data {

// Each returns normally when the bytes are refused with an InputError that names the origin, or when what they parse to
// is written and parses back equal. Anything else is a bug: std::logic_error, another exception, a sanitizer's report.
void FuzzNpy(std::span<const uint8_t> bytes);

// A checksum keeps random changes from reaching far into an archive. So this also takes the bytes as the content of an
// entry, which must be accepted exactly when ParseNpy accepts it, as a raw deflate stream, and as what to compress.
void FuzzNpz(std::span<const uint8_t> bytes);

void FuzzSafetensors(std::span<const uint8_t> bytes);

// Nothing is written in this format, so launches and metrics are written as a plain table of their own.
void FuzzNsight(std::span<const uint8_t> bytes);

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_FUZZ_ROUND_TRIP_H_
