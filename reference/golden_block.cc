// Compiled for the build's plain target, as every other file; golden_block-inl.h says why Eigen is renamed.
#define Eigen Eigen_baseline
#define BITFLASH_ISA "baseline"
#define BITFLASH_BLOCK_STEPS BaselineBlockSteps
#include "reference/golden_block-inl.h"
