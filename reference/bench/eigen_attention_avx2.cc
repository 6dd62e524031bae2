#define BITFLASH_PEER_ISA avx2
#include "reference/bench/eigen_attention-inl.h"
