// What a CUDA kernel gave against fp64.
#ifndef BITFLASH_VERIFY_DEVICE_DEVICE_JUDGE_H_
#define BITFLASH_VERIFY_DEVICE_DEVICE_JUDGE_H_

#include "verify/device/device_case.h"

namespace bitflash::verify {

// The largest |error| / bound of O and of LSE, as reference/error_bound.h bounds the kernel's arithmetic; infinity
// where one is finite and the other is not.
struct Scores {
  double o = 0, lse = 0;
};
Scores Judge(const DeviceCase& device_case, const gpu::Inputs& inputs, const gpu::Outputs& outputs);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_DEVICE_DEVICE_JUDGE_H_
