#define BITFLASH_PEER_ISA avx512
#include "reference/bench/eigen_attention-inl.h"
