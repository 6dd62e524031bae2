// Numbers for people: bytes in IEC units, counts, operations, times. JSON and CSV never use these.
#ifndef BITFLASH_VERIFY_CLI_UNITS_H_
#define BITFLASH_VERIFY_CLI_UNITS_H_

#include <cstdint>
#include <string>

namespace bitflash::verify {

// "0 B", "1023 B", "1.0 KiB", "16.0 MiB", "16.0 GiB": one decimal, the largest unit (up to EiB) that leaves at least 1.
std::string Bytes(int64_t bytes);

// The same bytes in MiB whatever their size, with separators: "16,384.0 MiB". For columns that compare.
std::string Mebibytes(int64_t bytes, int decimals = 1);

// "1,090,519,040".
std::string Grouped(int64_t count);

// Three significant digits with a decimal prefix: "0", "998", "1.09 G", "2.20 T"; append the unit to it.
std::string Prefixed(double value);

// "2.20 TFLOP", "998 FLOP".
std::string Flop(double flop);
// "989 TFLOP/s".
std::string FlopPerSecond(double rate);
// "4.80 TB/s": data sheets state bandwidth in decimal units.
std::string BytesPerSecond(double rate);

// "0 s", "1.23 ns", "12.3 us", "4.56 ms", "78.9 s".
std::string Seconds(double seconds);

// "12.3 %"; "<0.1 %" for a positive share that would print as zero.
std::string Percent(double share);

// "12.3 x"; digits as Prefixed, without prefix below a million.
std::string Factor(double factor);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_UNITS_H_
