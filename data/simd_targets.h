// For benchmarks and tests: run on one SIMD target at a time.
#ifndef BITFLASH_DATA_SIMD_TARGETS_H_
#define BITFLASH_DATA_SIMD_TARGETS_H_

#include <cstdint>
#include <vector>

#include "hwy/targets.h"

namespace bitflash::data {

// The targets that this CPU has and the library is compiled for, the best first.
inline std::vector<int64_t> UsableTargets() {
  std::vector<int64_t> usable;
  for (int64_t targets = hwy::SupportedTargets() & HWY_TARGETS; targets != 0; targets &= targets - 1) {
    usable.push_back(targets & -targets);
  }
  return usable;
}

// Every dynamic dispatch goes to `target` while this lives.
class UseTarget {
 public:
  explicit UseTarget(int64_t target) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(target);
  }
  ~UseTarget() {
    hwy::SetSupportedTargetsForTest(0);
    hwy::GetChosenTarget().DeInit();
  }
  UseTarget(const UseTarget&) = delete;
  UseTarget& operator=(const UseTarget&) = delete;
};

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_SIMD_TARGETS_H_
