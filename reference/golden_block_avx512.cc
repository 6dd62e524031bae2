// Compiled with -mavx512f -mavx512dq -mavx2 -mfma; golden_block-inl.h says why Eigen is renamed.
#define Eigen Eigen_avx512
#define BITFLASH_ISA "avx512"
#define BITFLASH_BLOCK_STEPS Avx512BlockSteps
#include "reference/golden_block-inl.h"
