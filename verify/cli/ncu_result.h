// What `ncu` says: predictions and the command that would falsify them, or predictions beside measurements.
#ifndef BITFLASH_VERIFY_CLI_NCU_RESULT_H_
#define BITFLASH_VERIFY_CLI_NCU_RESULT_H_

#include <optional>
#include <string>
#include <vector>

#include "verify/cli/output.h"
#include "verify/cli/workload.h"
#include "verify/predict/nsight_compare.h"

namespace bitflash::verify {

struct NcuResult {
  std::vector<PredictedLaunch> predictions;
  std::string profile;  // the command line of Nsight Compute
  std::string compare;  // the command line that reads what it writes
  // With a file:
  std::optional<data::NsightTable> table;
  NsightComparison comparison;
  std::optional<double> limit_percent;
};

// verify/schemas/ncu.schema.json
Json NcuJson(const Workload& workload, const NcuResult& result);

// Predictions with the names of their metrics, and both command lines.
std::string NcuPredictionText(const Workload& workload, const NcuResult& result, bool color);

// Each launch of the file with its fields.
std::string NcuComparisonText(const Workload& workload, const NcuResult& result, bool color);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_NCU_RESULT_H_
