// A problem for the CUDA kernels with inputs of any distribution.
#ifndef BITFLASH_VERIFY_DEVICE_DEVICE_CASE_H_
#define BITFLASH_VERIFY_DEVICE_DEVICE_CASE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "data/attention_testing.h"
#include "data/distribution.h"
#include "gpu/record/call.h"

namespace bitflash::verify {

struct DeviceCase : gpu::Call {
  data::Distribution distribution = data::Distribution::kHashNormal;
  uint64_t seed = 1;
};

// The kernels that run on the current device.
std::vector<gpu::Kernel> KernelsHere();

// Sequence number `sequence` of a call as a call of its own, with its own lengths; its inputs and outputs.
DeviceCase Sequence(const DeviceCase& device_case, int64_t sequence);
gpu::Inputs SequenceOf(const DeviceCase& device_case, const gpu::Inputs& inputs, int64_t sequence);
gpu::Outputs SequenceOf(const DeviceCase& device_case, const gpu::Outputs& outputs, int64_t sequence);

std::string ToString(const DeviceCase& device_case);

gpu::Inputs Generate(const DeviceCase& device_case);

// Launches the kernel `runs` times (gpu/record/device_call.h). Throws std::runtime_error: what was wrong.
gpu::Outputs RunOnDevice(const DeviceCase& device_case, const gpu::Inputs& inputs, int runs = 2);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_DEVICE_DEVICE_CASE_H_
