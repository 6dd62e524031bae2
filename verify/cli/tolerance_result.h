// The JSON and text forms of `tolerance`.
#ifndef BITFLASH_VERIFY_CLI_TOLERANCE_RESULT_H_
#define BITFLASH_VERIFY_CLI_TOLERANCE_RESULT_H_

#include <string>

#include "verify/cli/output.h"
#include "verify/cli/workload.h"
#include "verify/judge/tolerance.h"

namespace bitflash::verify {

struct ToleranceResult {
  const Workload& workload;
  SimulatedKernel kernel;
  std::string inputs;  // "hash-normal, seed 0", or the files
  ToleranceAudit audit;
};

Json ToleranceJson(const ToleranceResult& result);
std::string ToleranceText(const ToleranceResult& result, bool color);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_TOLERANCE_RESULT_H_
