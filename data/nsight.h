// What Nsight Compute exports as CSV: a table of profiled kernel launches and their metrics.
//
// Taken are `ncu --csv` (one metric a row) and `ncu --csv --page raw` (one launch a row, a column a metric, a row of
// units), whatever stands before, after or between the rows: ==PROF== lines, warnings, the program's own output. The
// separator may be ',' ';' or a tab, and numbers may be grouped as in any common locale. Several such tables may follow
// one another.
#ifndef BITFLASH_DATA_NSIGHT_H_
#define BITFLASH_DATA_NSIGHT_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/nsight_number.h"

namespace bitflash::data {

// A metric of a launch as it stands in the file.
struct NsightMetric {
  std::string text, unit;        // "1.09", "Gbyte"
  int64_t line = 0, column = 0;  // of the text
};

struct NsightLaunch {
  std::string id;      // "0"; Nsight's number of the launch, unique in one profile
  std::string kernel;  // "flash_fwd_kernel(Flash_fwd_params)", mangled or not
  std::string block;   // "(128, 1, 1)"; empty when the table has no such column
  std::string grid;
  int64_t line = 0;  // where it begins in the file
  std::map<std::string, NsightMetric, std::less<>> metrics;
};

struct NsightTable {
  std::string origin;
  std::vector<NsightLaunch> launches;  // in the order of the file
  NumberStyle style;                   // how its numbers are written
  int64_t skipped_lines = 0;           // that are neither header nor row, empty ones not counted
};

// Reads a whole file. Throws InputError, which names the line, the column and what was expected: no table, a row with
// another number of fields than its header, broken quotes, numbers that contradict one another.
NsightTable ReadNsight(const std::string& path);
NsightTable ParseNsight(std::string_view text, std::string_view origin);

// A value in base units: bytes, seconds, sectors, instructions, percent.
struct NsightValue {
  double value = 0;
  double rounding = 0;  // the printed number may be off by so much, because Nsight rounds in "1.09 Gbyte"; 0: exact
  std::string metric;   // the name under which it was found
};

// The first of the named metrics that the launch has and that has a value, if any: metrics change their names between
// GPUs. `dimension` is "byte", "second", "sector", "inst", "%", ...; other units than it and its multiples throw
// InputError. So does text that is no number; "n/a" and nothing are no value.
std::optional<NsightValue> FindMetric(const NsightTable& table, const NsightLaunch& launch,
                                      const std::vector<std::string>& names, std::string_view dimension);

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_NSIGHT_H_
