// The lists that Faults() puts together, one file a family, and what their entries are made of.
#ifndef BITFLASH_VERIFY_DIAGNOSE_FAULT_LIST_H_
#define BITFLASH_VERIFY_DIAGNOSE_FAULT_LIST_H_

#include <vector>

#include "verify/diagnose/fault_conditions.h"
#include "verify/diagnose/faults.h"
#include "verify/subjects/run_simulated.h"

namespace bitflash::verify {

std::vector<Fault> MaskFaults();     // faults_mask.cc: M, P
std::vector<Fault> SoftmaxFaults();  // faults_softmax.cc: S
std::vector<Fault> SplitFaults();    // faults_split.cc: L
std::vector<Fault> AddressFaults();  // faults_address.cc: A
std::vector<Fault> FeatureFaults();  // faults_feature.cc: X
std::vector<Fault> TrivialFaults();  // faults_trivial.cc: C, T

// RunSimulated takes the problem.
bool IsModelled(const SimulatedKernel& kernel, const Problem& problem);

// Applies of a fault whose Run calls RunSimulated or RunOnMachine on the problem as it is.
using Condition = bool (*)(const SimulatedKernel& kernel, const Problem& problem);
template <Condition condition>
bool When(const SimulatedKernel& kernel, const Problem& problem) {
  return IsModelled(kernel, problem) && condition(kernel, problem);
}

// Run of a fault that the machine makes.
template <sim::MachineFault fault>
Outputs OnMachine(const SimulatedKernel& kernel, const Problem& problem) {
  return RunOnMachine(kernel, problem, fault);
}

inline bool AnyKeys(const SimulatedKernel&, const Problem& problem) { return SeesKeys(problem); }
inline bool OnlineTiles(const SimulatedKernel& kernel, const Problem& problem) {
  return IsOnline(kernel) && SeveralTiles(kernel, problem);
}

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_DIAGNOSE_FAULT_LIST_H_
