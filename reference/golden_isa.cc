#include "reference/golden_isa.h"

#include <string>

#include "data/error.h"
#include "reference/golden.h"

namespace bitflash::reference {

std::vector<const BlockSteps*> SupportedBlockSteps() {
  std::vector<const BlockSteps*> supported = {&BaselineBlockSteps()};
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx2) supported.push_back(&Avx2BlockSteps());
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")) {
    supported.push_back(&Avx512BlockSteps());
  }
#endif
  return supported;
}

const BlockSteps& ChooseBlockSteps(std::string_view isa) {
  const std::vector<const BlockSteps*> supported = SupportedBlockSteps();
  if (isa.empty()) return *supported.back();
  std::string accepted;
  for (const BlockSteps* steps : supported) {
    if (isa == steps->isa) return *steps;
    accepted += (accepted.empty() ? "" : ", ") + std::string(steps->isa);
  }
  throw data::UsageError("instruction set '" + std::string(isa) + "': expected one that this machine has, " + accepted);
}

std::vector<std::string_view> GoldenIsas() {
  std::vector<std::string_view> isas;
  for (const BlockSteps* steps : SupportedBlockSteps()) isas.push_back(steps->isa);
  return isas;
}

}  // namespace bitflash::reference
