// --kernel with the name of a kernel that runs on the CPU (cpu_kernel.h), and what contradicts it.
#ifndef BITFLASH_VERIFY_CLI_CPU_KERNEL_FLAG_H_
#define BITFLASH_VERIFY_CLI_CPU_KERNEL_FLAG_H_

#include <optional>
#include <string>
#include <vector>

#include "verify/cli/workload.h"
#include "verify/subjects/cpu_kernel.h"

namespace bitflash::verify {

// The kernel of the CPU that --kernel names; null when it names none. Throws UsageError when it names others as well.
const CpuKernel* NamedCpuKernel(const WorkloadFlags& flags);

// Throws UsageError for a flag that means something only to a simulated kernel or its GPU.
void RefuseSimulationFlags(const CpuKernel& kernel, const WorkloadFlags& flags);

// What ResolveWorkload takes of the flags of such a kernel: the attention, no kernel and no GPU.
WorkloadFeatures WithoutSimulation(WorkloadFeatures features);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_CPU_KERNEL_FLAG_H_
