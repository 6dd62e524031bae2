// Recordings in the format of data/golden (schema 2, read by data/golden.h).
#ifndef BITFLASH_GPU_RECORD_GOLDEN_JSON_H_
#define BITFLASH_GPU_RECORD_GOLDEN_JSON_H_

#include <string>
#include <vector>

#include "gpu/record/cases.h"
#include "gpu/record/device_call.h"

namespace bitflash::gpu {

// One line for each sequence of the case that is replayed alone: for each of `lengths` that has query rows, else for
// all together. `runs` are the outputs of as many calls.
std::vector<std::string> CaseLines(const RecordCase& c, const Kernel& kernel, const std::vector<LaunchFacts>& launches,
                                   const std::vector<Outputs>& runs);

// The whole file.
std::string GoldenFile(const Kernel& kernel, const std::vector<std::string>& case_lines);

}  // namespace bitflash::gpu

#endif  // BITFLASH_GPU_RECORD_GOLDEN_JSON_H_
