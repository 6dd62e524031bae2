// Simulated kernels on whole problems: ragged ones, fp8 ones with scales, and with a machine that makes a mistake.
// RunSimulated (faults.h) is this without one.
#ifndef BITFLASH_VERIFY_SUBJECTS_RUN_SIMULATED_H_
#define BITFLASH_VERIFY_SUBJECTS_RUN_SIMULATED_H_

#include <functional>

#include "sim/machine_fault.h"
#include "verify/diagnose/faults.h"

namespace bitflash::verify {

// As RunSimulated, on a machine that makes this mistake.
Outputs RunOnMachine(const SimulatedKernel& kernel, const Problem& problem, sim::MachineFault fault);

// Calls `run` for every sequence that has rows, as a problem of its own, and puts the outputs together. What belongs to
// padding is 0.
Outputs RunBySequence(const Problem& problem,
                      const std::function<Outputs(const Problem& sequence, int64_t index)>& run);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_SUBJECTS_RUN_SIMULATED_H_
