// What must hold for every byte string read as a case; shared by the libFuzzer target and its smoke test.
#ifndef BITFLASH_VERIFY_FUZZ_CASE_ROUND_TRIP_H_
#define BITFLASH_VERIFY_FUZZ_CASE_ROUND_TRIP_H_

#include <cstdint>
#include <span>
#include <vector>

namespace bitflash::verify {

// Returns normally when the bytes are refused with an InputError of one line that names the origin, or when the case
// that they hold is written and reads back equal. Anything else is a bug: std::logic_error, another exception, a
// sanitizer's report. True: they were a case.
bool FuzzCase(std::span<const uint8_t> bytes);

// Small files in every layout, which are cases.
std::vector<std::vector<uint8_t>> CaseSeeds();

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_FUZZ_CASE_ROUND_TRIP_H_
