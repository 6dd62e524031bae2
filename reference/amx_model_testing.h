// AmxAttention's inner loops on a model of the tile unit and of 512-bit vectors, in plain C++, for machines without
// them: the same source (amx_kernel-inl.h), every operation with the roundings of the instruction it stands for.
#ifndef BITFLASH_REFERENCE_AMX_MODEL_TESTING_H_
#define BITFLASH_REFERENCE_AMX_MODEL_TESTING_H_

#include "reference/amx_steps.h"

namespace bitflash::reference {

const AmxSteps& ModelSteps();

}  // namespace bitflash::reference

#endif  // BITFLASH_REFERENCE_AMX_MODEL_TESTING_H_
