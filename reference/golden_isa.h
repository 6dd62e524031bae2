// Which instruction sets this machine can run the golden attention's blocks with.
#ifndef BITFLASH_REFERENCE_GOLDEN_ISA_H_
#define BITFLASH_REFERENCE_GOLDEN_ISA_H_

#include <string_view>
#include <vector>

#include "reference/golden_block.h"

namespace bitflash::reference {

// Slowest first; never empty.
std::vector<const BlockSteps*> SupportedBlockSteps();

// The supported steps of that name, the last of all when `isa` is empty. Throws UsageError with the accepted names.
const BlockSteps& ChooseBlockSteps(std::string_view isa);

}  // namespace bitflash::reference

#endif  // BITFLASH_REFERENCE_GOLDEN_ISA_H_
