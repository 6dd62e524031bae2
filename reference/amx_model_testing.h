// AmxAttention's inner loops on a model of the tile unit and of 512-bit vectors, in plain C++, for machines without
// them: the same source (amx_kernel-inl.h), every operation with the roundings of the instruction it stands for.
#ifndef BITFLASH_REFERENCE_AMX_MODEL_TESTING_H_
#define BITFLASH_REFERENCE_AMX_MODEL_TESTING_H_

#include "reference/amx_steps.h"

namespace bitflash::reference {

const AmxSteps& ModelSteps();

// sums [16 x 16] += a [16 x 32] b, as TDPBF16PS does it: b in pairs of rows, [16 pairs][16 columns][2].
void ModelTileProduct(float* sums, const uint16_t* a, const uint16_t* b);

}  // namespace bitflash::reference

#endif  // BITFLASH_REFERENCE_AMX_MODEL_TESTING_H_
