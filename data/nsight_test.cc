#include "data/nsight.h"

#include <doctest/doctest.h>

#include "data/file_testing.h"

namespace bitflash::data {
namespace {

constexpr const char* kRead = "l1tex__m_xbar2l1tex_read_bytes.sum";

NsightTable Table(const std::string& name) { return ReadNsight(BITFLASH_SOURCE_DIR "/data/testdata/nsight/" + name); }

NsightValue Value(const NsightTable& table, size_t launch, const std::string& metric, const char* dimension = "byte") {
  REQUIRE(launch < table.launches.size());
  const auto value = FindMetric(table, table.launches[launch], {metric}, dimension);
  REQUIRE_MESSAGE(value.has_value(), metric);
  return *value;
}

void CheckRefused(std::string_view text, const std::string& message) {
  CHECK_THROWS_WITH_AS(ParseNsight(text, "FILE"), message.c_str(), InputError);
}

TEST_CASE("Nsight: one metric a row, scaled units, among the program's own output") {
  const NsightTable table = Table("long.csv");
  REQUIRE(table.launches.size() == 7);
  CHECK(table.skipped_lines == 7);
  CHECK(table.style.certain);
  CHECK(table.style.decimal == '.');
  const NsightLaunch& first = table.launches[0];
  CHECK(first.id == "0");
  CHECK(first.kernel.starts_with("void fa2::fa2_forward<"));
  CHECK(first.block == "(128, 1, 1)");
  CHECK(first.grid == "(8, 8, 1)");
  CHECK(first.metrics.size() == 11);
  const NsightValue read = Value(table, 1, kRead);  // "570.53" Mbyte
  CHECK(read.value == doctest::Approx(570.53e6));
  CHECK(read.rounding == doctest::Approx(5e3));
  CHECK(Value(table, 1, "gpu__time_duration.sum", "second").value == doctest::Approx(277.57e-6));
  CHECK(Value(table, 1, "sm__inst_executed_pipe_tensor.sum", "inst").value == 17301504);
  CHECK(Value(table, 1, "sm__inst_executed_pipe_tensor.sum", "inst").rounding == 0);
  CHECK(Value(table, 0, "dram__bytes_write.sum").value == 0);
}

TEST_CASE("Nsight: one launch a row, with the row of units") {
  const NsightTable table = Table("wide.csv");
  REQUIRE(table.launches.size() == 7);
  const int64_t expected[] = {38453248, 570525824, 28311552, 17920000, 28567552, 100712448, 104448};
  for (size_t n = 0; n < 7; ++n) {
    CHECK(Value(table, n, kRead).value == static_cast<double>(expected[n]));
    CHECK(Value(table, n, kRead).rounding == 0);
  }
  CHECK(Value(table, 0, "gpu__time_duration.sum", "second").value == doctest::Approx(37.568e-6));
  CHECK(Value(table, 0, "launch__shared_mem_per_block_dynamic", "byte/block").value == 98304);
  CHECK(Value(table, 0, "lts__t_sectors_op_read.avg", "sector").value == doctest::Approx(8351.94));
}

TEST_CASE("Nsight: sections with rules, mangled names, three libraries' kernels") {
  // Rows of metrics have 16 fields, rows of rules 20, the header 19.
  const NsightTable sections = Table("sections.csv");
  REQUIRE(sections.launches.size() == 1);
  CHECK(Value(sections, 0, kRead).value == 38453248);
  CHECK(sections.launches[0].metrics.count("DRAM Throughput") == 1);
  const NsightTable mangled = Table("mangled.csv");
  REQUIRE(mangled.launches.size() == 3);
  CHECK(mangled.launches[0].kernel.starts_with("_ZN8bitflash3gpu3fa211fa2_forwardI"));
  const NsightTable torch = Table("torch.csv");
  REQUIRE(torch.launches.size() == 6);
  CHECK(torch.launches[2].kernel.starts_with("cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma"));
  CHECK(Value(torch, 2, kRead).value == 138420224);
}

TEST_CASE("Nsight: other separators, locales, units in the header, tables one after another") {
  const NsightTable german = ParseNsight(
      "\xEF\xBB\xBFID;Kernel Name;dram__bytes_read.sum;gpu__time_duration.sum\r\n;;Mbyte;us\r\n"
      "0;k;51,05;372,03\r\n1;k;1.051,05;1.234\r\n",
      "FILE");
  CHECK(Value(german, 0, "dram__bytes_read.sum").value == doctest::Approx(51.05e6));
  CHECK(Value(german, 1, "dram__bytes_read.sum").value == doctest::Approx(1051.05e6));
  CHECK(Value(german, 1, "gpu__time_duration.sum", "second").value == doctest::Approx(1234e-6));
  const NsightTable interface = ParseNsight("ID\tKernel Name\tdram__bytes_read.sum [Kbyte]\n0\tk\t1'234\n", "FILE");
  CHECK(Value(interface, 0, "dram__bytes_read.sum").value == 1234e3);
  const NsightTable two = ParseNsight(
      "\"ID\",\"Kernel Name\",\"Metric Name\",\"Metric Value\"\n\"0\",\"a\",\"m__x.sum\",\"1\"\n\n==PROF== noise\n"
      "\"ID\",\"Kernel Name\",\"Metric Name\",\"Metric Value\"\n\"0\",\"a\",\"m__x.sum\",\"2\"\n"
      "\"0\",\"a\",\"m__x.sum\",\"3\"\n\"1\",\"a\",\"m__x.sum\",\"4\"\n",
      "FILE");
  REQUIRE(two.launches.size() == 3);
  CHECK(Value(two, 0, "m__x.sum").value == 1);
  CHECK(Value(two, 1, "m__x.sum").value == 2);  // the first of two
  CHECK(Value(two, 2, "m__x.sum").value == 4);
  CHECK(two.skipped_lines == 1);
}

TEST_CASE("Nsight: the first metric that has a value; none is no error") {
  const NsightTable table = ParseNsight(
      "ID,Kernel Name,dram__bytes_read.sum,dram__bytes_op_read.sum,m__empty.sum\n,,byte,byte,\n0,k,n/a,5,\n", "FILE");
  const auto value = FindMetric(table, table.launches[0], {"dram__bytes_read.sum", "dram__bytes_op_read.sum"}, "byte");
  REQUIRE(value.has_value());
  CHECK(value->metric == "dram__bytes_op_read.sum");
  CHECK(value->value == 5);
  CHECK(!FindMetric(table, table.launches[0], {"m__other.sum", "m__empty.sum"}, "byte"));
}

TEST_CASE("Nsight: what is no table is refused with line, column and what was expected") {
  CheckRefused("",
               "FILE:1:1: no table of Nsight Compute: expected a line with the columns \"ID\" and \"Kernel Name\", "
               "as `ncu --csv` prints");
  CheckRefused("==PROF== ...\n\nx",
               "FILE:1:1: no table of Nsight Compute: expected a line with the columns \"ID\" and "
               "\"Kernel Name\", as `ncu --csv` prints");
  CheckRefused("\xFF\xFEI\0D\0",
               "FILE:1:1: this file is UTF-16, as PowerShell's > writes: expected UTF-8 (ncu "
               "--log-file FILE)");
  CheckRefused("ID,Kernel Name,a__b\n0,k\n", "FILE:2:3: 2 fields in this row: expected 3, as in its header");
  CheckRefused("ID,Kernel Name,Metric Name,Metric Unit,Metric Value\n0,k,m,byte\n",
               "FILE:2:7: 4 fields in this row: expected at least 5, as in its header");
  CheckRefused("ID,Kernel Name,Metric Name\n",
               "FILE:1:1: this table has a column \"Metric Name\" but none \"Metric "
               "Value\"");
  CheckRefused("ID,Kernel Name,a__b\n\"0\",\"k,1\n",
               "FILE:2:5: a quote (\") is opened and never closed: expected a "
               "second one");
  CheckRefused("ID,Kernel Name,a__b,c__d\n0,k,\"1,234,567\",\"1,5\"\n",
               "FILE:2:17: '1,5' contradicts the numbers above, where '.' separates decimals: expected one locale in a "
               "file");
  CHECK_THROWS_WITH_AS(Table("summary.csv"), doctest::Contains("so it is a summary of several launches"), InputError);
  CHECK_THROWS_WITH_AS(ParseNsight(std::string((64 << 20) + 1, '\n'), "FILE"),
                       doctest::Contains("FILE: has 67108865 bytes: expected at most 67108864"), InputError);
  CHECK_THROWS_WITH_AS(ReadNsight("/nonexistent/x.csv"), doctest::Contains("/nonexistent/x.csv"), InputError);
}

TEST_CASE("Nsight: a metric that is asked for must be a number in a known unit") {
  const NsightTable table = ParseNsight(
      "ID,Kernel Name,Metric Name,Metric Unit,Metric Value\n0,k,a__b,byte,lots\n0,k,c__d,sector,5\n", "FILE");
  CHECK_THROWS_WITH_AS(FindMetric(table, table.launches[0], {"a__b"}, "byte"),
                       "FILE:2:15: 'a__b' is 'lots': expected a number", InputError);
  CHECK_THROWS_WITH_AS(FindMetric(table, table.launches[0], {"c__d"}, "byte"),
                       "FILE:3:17: 'c__d' has the unit 'sector': expected byte or a multiple of it (K is 1000)",
                       InputError);
}

}  // namespace
}  // namespace bitflash::data
