// Which SIMD targets the kernels of CpuAttention are compiled for. Every file that Highway compiles once per target
// includes it before anything of Highway, so that all choose among the same.
#ifndef BITFLASH_REFERENCE_CPU_TARGETS_H_
#define BITFLASH_REFERENCE_CPU_TARGETS_H_

#include "hwy/base.h"

// The scalable targets are left out: nobody has run this on them, and 128-bit NEON serves the same processors.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)

// Of parts of a loop: inlined, but functions of their own under the sanitizers, where g++ 12 takes minutes to analyse
// one function of 500 KiB.
#if HWY_IS_ASAN
#define BITFLASH_LOOP_PART HWY_NOINLINE
#else
#define BITFLASH_LOOP_PART HWY_INLINE
#endif

#endif  // BITFLASH_REFERENCE_CPU_TARGETS_H_
