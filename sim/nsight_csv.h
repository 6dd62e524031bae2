// Tables of counters that Nsight Compute gave, in data/golden: what record scripts made of its exports, which
// data/nsight.h reads. For tests and time_calibrate.
#ifndef BITFLASH_SIM_NSIGHT_CSV_H_
#define BITFLASH_SIM_NSIGHT_CSV_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "sim/stream.h"

namespace bitflash::sim {

using NsightRow = std::map<std::string, std::string>;  // column -> text

// The rows of a file whose first line names the columns. Throws InputError.
std::vector<NsightRow> ReadCsv(const std::string& path);

// Those of data/golden/NAME of this repository.
std::vector<NsightRow> ReadNsight(const std::string& name);

int64_t Number(const NsightRow& row, const std::string& column);

// The problem of a row. Its mask stands in other columns in each table.
Attention ProblemOf(const NsightRow& row, const data::Mask& mask);

// "32x16x1", as the columns grid and block write it.
std::string Dimensions(const Grid& grid);

// By how much `measured` is more than `counted`.
double Percent(int64_t measured, int64_t counted);

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_NSIGHT_CSV_H_
