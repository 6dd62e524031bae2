// What `run` and `verify` share: which heads, and the simulation with its progress line.
#ifndef BITFLASH_VERIFY_CLI_SIMULATION_H_
#define BITFLASH_VERIFY_CLI_SIMULATION_H_

#include <optional>
#include <string>

#include "sim/count.h"
#include "verify/cli/output.h"
#include "verify/subjects/simulate.h"

namespace bitflash::verify {

// "2:5", or nothing, which is all heads.
HeadSubset ParseHeads(const std::optional<std::string>& text, const data::Attention& attention);

struct TimedSimulation {
  Simulated simulated;
  double seconds = 0;  // of the simulation alone
};

TimedSimulation SimulateShowing(const Output& output, const sim::Kernel& kernel, const HeadSubset& heads,
                                const sim::Tiling& tiling, std::string_view arch, const KernelInputs& inputs);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_SIMULATION_H_
