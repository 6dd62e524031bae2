// Mistakes that attention kernels have made in the field, as things that can be done to a simulated kernel: the test of
// every verdict, and the hypotheses of every diagnosis.
#ifndef BITFLASH_VERIFY_DIAGNOSE_FAULTS_H_
#define BITFLASH_VERIFY_DIAGNOSE_FAULTS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "sim/kernels/kernels.h"
#include "sim/tiling.h"
#include "verify/cases/problem.h"

namespace bitflash::verify {

// A simulated kernel as it will run.
struct SimulatedKernel {
  const sim::Kernel* kernel = nullptr;
  sim::Tiling tiling;
  std::string arch = "sm90";
};

// Executes the kernel, sequence by sequence when the problem is ragged. fp8 inputs run as the fp16 numbers that they
// are, O included; v_scale is applied before O is rounded (by fa1, which keeps O rounded between tiles, once more after
// it). Padding is 0. Throws as sim::Execute does; UndecidedError for sinks and softcap, which are not modelled to the
// bit.
Outputs RunSimulated(const SimulatedKernel& kernel, const Problem& problem);

enum class FaultFamily : uint8_t { kMask, kTail, kSoftmax, kSplit, kAddress, kFeature, kTrivial };

// "mask", "tail", ...
std::string_view Name(FaultFamily family);

struct Fault {
  std::string_view id;    // "mask-top-left": what the command line takes
  std::string_view code;  // "M01", of the catalogue in verify/diagnose/faults.md
  FaultFamily family;
  std::string_view mistake;  // "the causal mask is aligned top-left instead of bottom-right"
  std::string_view reading;  // how a diagnosis says it: "a top-left causal mask"
  std::string_view seen_in;  // address of a public report

  // False where it cannot change anything (a mask offset without a mask, head mapping with one head), and where
  // RunSimulated does not take the problem, unless the mistake is to leave out just what is not modelled.
  bool (*Applies)(const SimulatedKernel& kernel, const Problem& problem);
  // What the kernel with this mistake gives. Requires Applies.
  Outputs (*Run)(const SimulatedKernel& kernel, const Problem& problem);
};

// Every fault, in the order of the catalogue.
const std::vector<Fault>& Faults();

// Throws UsageError with the accepted ids.
const Fault& FindFault(std::string_view id);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_DIAGNOSE_FAULTS_H_
