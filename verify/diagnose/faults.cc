#include "verify/diagnose/faults.h"

#include <string>

#include "data/error.h"
#include "verify/diagnose/fault_list.h"

namespace bitflash::verify {

bool IsModelled(const SimulatedKernel& kernel, const Problem& problem) {
  if (problem.attention.softcap > 0 || !problem.sinks.empty()) return false;
  for (int64_t b = 0; b < problem.attention.batch; ++b) {
    const int64_t queries = problem.queries(b);
    if (queries > 0 && queries < kernel.kernel->min_seqlen_q) return false;
  }
  return true;
}

std::string_view Name(FaultFamily family) {
  switch (family) {
    case FaultFamily::kMask:
      return "mask";
    case FaultFamily::kTail:
      return "tail";
    case FaultFamily::kSoftmax:
      return "softmax";
    case FaultFamily::kSplit:
      return "split";
    case FaultFamily::kAddress:
      return "address";
    case FaultFamily::kFeature:
      return "feature";
    case FaultFamily::kTrivial:
      break;
  }
  return "trivial";
}

const std::vector<Fault>& Faults() {
  static const std::vector<Fault> faults = [] {
    std::vector<Fault> all;
    for (const auto& list :
         {MaskFaults(), SoftmaxFaults(), SplitFaults(), AddressFaults(), FeatureFaults(), TrivialFaults()}) {
      all.insert(all.end(), list.begin(), list.end());
    }
    return all;
  }();
  return faults;
}

const Fault& FindFault(std::string_view id) {
  std::string accepted;
  for (const Fault& fault : Faults()) {
    if (fault.id == id) return fault;
    accepted += (accepted.empty() ? "" : ", ") + std::string(fault.id);
  }
  throw data::UsageError("unknown fault '" + std::string(id) + "': expected one of " + accepted);
}

}  // namespace bitflash::verify
