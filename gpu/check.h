// What all kernels demand of their callers. One place, so that they refuse in the same words.
#ifndef BITFLASH_GPU_CHECK_H_
#define BITFLASH_GPU_CHECK_H_

#include <string>

#include "gpu/kernels.h"

namespace bitflash::gpu {

// The limits at the head of kernels.h; empty when they hold.
std::string CommonRefusal(const data::Attention& attention);

// Rows are counted in 32 bits (offsets are not): lengths beyond 2^30 are refused.
std::string LengthRefusal(const data::Attention& attention);

// Throws UsageError: what data::Validate and `kernel` refuse, tensors that are missing or not aligned to 16 bytes, and
// lengths, starts or pages that the kernel would ignore. No device is asked and no address followed.
void Validate(const Kernel& kernel, const data::Attention& attention, const Options& options, const Tensors& tensors);

}  // namespace bitflash::gpu

#endif  // BITFLASH_GPU_CHECK_H_
