// Small problems on which mistakes show: what the fault matrix and the tests of faults run on.
#ifndef BITFLASH_VERIFY_DIAGNOSE_FAULT_CASES_H_
#define BITFLASH_VERIFY_DIAGNOSE_FAULT_CASES_H_

#include <string>
#include <vector>

#include "data/distribution.h"
#include "verify/cases/problem.h"

namespace bitflash::verify {

// Two sequences, four query heads on two KV heads, bf16, and a head_dim that is more than 64 and no power of two.
data::Attention FaultShape(int64_t queries, int64_t keys, const data::Mask& mask);

struct FaultCase {
  std::string name;
  Problem problem;
};

// Between them they have what every fault needs: tails, empty rows, ragged lengths, every mask, groups, scales.
std::vector<FaultCase> FaultCases(data::Distribution family);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_DIAGNOSE_FAULT_CASES_H_
