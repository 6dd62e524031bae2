#include "verify/cli/units.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <limits>

namespace bitflash::verify {
namespace {

TEST_CASE("bytes print in the largest IEC unit that leaves at least one") {
  CHECK(Bytes(0) == "0 B");
  CHECK(Bytes(1023) == "1023 B");
  CHECK(Bytes(1024) == "1.0 KiB");
  CHECK(Bytes(16 << 20) == "16.0 MiB");
  CHECK(Bytes((1 << 20) - 1) == "1.0 MiB");  // not "1024.0 KiB"
  CHECK(Bytes((int64_t{1} << 30) - 1) == "1.0 GiB");
  CHECK(Bytes(1090519040) == "1.0 GiB");
  CHECK(Bytes(int64_t{5} << 40) == "5.0 TiB");
  CHECK(Bytes(-2048) == "-2.0 KiB");
  CHECK(Bytes(std::numeric_limits<int64_t>::max()) == "8.0 EiB");
}

TEST_CASE("mebibytes keep one unit for a column") {
  CHECK(Mebibytes(int64_t{16384} << 20, 0) == "16,384 MiB");
  CHECK(Mebibytes(int64_t{160} << 20) == "160.0 MiB");
  CHECK(Mebibytes(0) == "0.0 MiB");
}

TEST_CASE("grouped counts") {
  CHECK(Grouped(0) == "0");
  CHECK(Grouped(999) == "999");
  CHECK(Grouped(1000) == "1,000");
  CHECK(Grouped(1090519040) == "1,090,519,040");
  CHECK(Grouped(-1234567) == "-1,234,567");
  CHECK(Grouped(-123) == "-123");
}

TEST_CASE("three significant digits with a prefix, never a fourth by rounding") {
  CHECK(Prefixed(0) == "0");
  CHECK(Prefixed(998) == "998");
  CHECK(Prefixed(999.4) == "999");
  CHECK(Prefixed(999.6) == "1.00 k");
  CHECK(Prefixed(9.996) == "10.0");
  CHECK(Prefixed(99.96) == "100");
  CHECK(Prefixed(1.0905e9) == "1.09 G");
  CHECK(Prefixed(0.0123) == "0.0123");
  CHECK(Prefixed(-1500) == "-1.50 k");
  CHECK(Flop(137438953472.0) == "137 GFLOP");
  CHECK(Flop(12) == "12 FLOP");
  CHECK(FlopPerSecond(989e12) == "989 TFLOP/s");
  CHECK(BytesPerSecond(4.8e12) == "4.80 TB/s");
}

TEST_CASE("times, shares and factors") {
  CHECK(Seconds(0) == "0 s");
  CHECK(Seconds(1.234e-9) == "1.23 ns");
  CHECK(Seconds(9.996e-7) == "1.00 us");
  CHECK(Seconds(0.00456) == "4.56 ms");
  CHECK(Seconds(78.9) == "78.9 s");
  CHECK(Seconds(12345) == "12,345 s");
  CHECK(Percent(0.1234) == "12.3 %");
  CHECK(Percent(0) == "0.0 %");
  CHECK(Percent(0.0001) == "<0.1 %");
  CHECK(Factor(12.34) == "12.3 x");
  CHECK(Factor(0.5) == "0.50 x");
  CHECK(Factor(12345) == "12,345 x");
}

}  // namespace
}  // namespace bitflash::verify
