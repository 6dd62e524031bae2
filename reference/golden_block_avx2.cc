// Compiled with -mavx2 -mfma; golden_block-inl.h says why Eigen is renamed.
#define Eigen Eigen_avx2
#define BITFLASH_ISA "avx2"
#define BITFLASH_BLOCK_STEPS Avx2BlockSteps
#include "reference/golden_block-inl.h"
