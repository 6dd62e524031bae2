// Replaying recorded cases on the executing machine. For tests.
#ifndef BITFLASH_SIM_GOLDEN_REPLAY_H_
#define BITFLASH_SIM_GOLDEN_REPLAY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "data/golden.h"
#include "sim/kernels/kernels.h"

namespace bitflash::sim {

// What was compared.
struct Replay {
  int64_t cases = 0, skipped = 0, heads = 0, elements = 0, heads_o_differ = 0, heads_lse_differ = 0;
};

// The cases of data/golden/NAME.json.
std::vector<data::GoldenCase> GoldenCases(const std::string& name);

// Multiply-adds of the case if nothing were masked.
double Work(const Attention& a);

// Runs the case as `kernel` with `tiling` does on `arch` and checks O and LSE of every head, and the rows.
void ReplayCase(const data::GoldenCase& golden, const Kernel& kernel, const Tiling& tiling, const std::string& arch,
                Replay& replay);

void Print(const std::string& name, const Replay& replay);

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_GOLDEN_REPLAY_H_
