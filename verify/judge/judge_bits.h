// What a judgement says of bits: agreement with the named kernel over parts, and the search for a variant.
#ifndef BITFLASH_VERIFY_JUDGE_JUDGE_BITS_H_
#define BITFLASH_VERIFY_JUDGE_JUDGE_BITS_H_

#include <optional>
#include <string>

#include "verify/judge/judge.h"

namespace bitflash::verify {

// "fa2 (128x64, 4 warps, 1 stage, sm90)".
std::string KernelText(const SimulatedKernel& kernel);

// False where a part of the problem, cut out of it, need not have the bits of the whole: equal parts of the keys are
// cut elsewhere when there are fewer keys.
bool KeepsBits(const SimulatedKernel& kernel, const Problem& whole, const Part& part, const Problem& cut);

// Adds a part: the kernel's outputs and the simulated ones, which agree in shape because parts hold whole groups of
// heads. `o` collects the difference of O.
void AddAgreement(BitAgreement& agreement, std::optional<Difference>& o, const Part& part, const Outputs& mine,
                  const Outputs& simulated);

// The recipe that made the bits, if the search finds one that made all that it looked at.
std::optional<BitAgreement> FindVariant(const Problem& problem, const Outputs& outputs, const JudgeOptions& options);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_JUDGE_JUDGE_BITS_H_
