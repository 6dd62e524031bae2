// What a wrong output looks like instead: every known mistake is a hypothesis that is simulated on the same inputs, and
// some are refitted to the output; the one that explains most of the error comes first.
#ifndef BITFLASH_VERIFY_DIAGNOSE_DIAGNOSE_H_
#define BITFLASH_VERIFY_DIAGNOSE_DIAGNOSE_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "verify/cases/problem.h"
#include "verify/diagnose/faults.h"
#include "verify/judge/evidence.h"

namespace bitflash::verify {

struct Hypothesis {
  std::string id;                // of a fault (faults.h), or of a refit: "scale", "mask-offset", "output-factor"
  std::string reading;           // "a top-left causal mask", "softmax scale 0.125 instead of 0.0884"
  std::string kernel;            // the simulated kernel with the mistake; empty for a refit
  const Fault* fault = nullptr;  // null: a refit
  int64_t elements = 0;          // of O and LSE that were compared
  int64_t equal = 0;             // whose bits are equal; 0 for a refit
  // 1: all of the error; 0: none of it. Squared errors in units of each element's bound, one element at most 1e4.
  double explained = 0;
  std::string tiles;              // "tiles of 64 or 128 keys": with which it explains that; empty: the kernel was named
  std::vector<std::string> same;  // other mistakes that give the same bits on these inputs: nobody can tell them apart
  bool identical() const { return elements > 0 && equal == elements; }
};

struct Diagnosis {
  std::vector<Hypothesis> hypotheses;  // best first; those that explain at least a tenth, at most ten
  std::vector<std::string> left_out;   // why some mistakes were not tried
  int64_t tried = 0;                   // simulations and refits

  // The first one when it explains the error: identical, or nearly all of it.
  const Hypothesis* finding() const;
};

struct DiagnoseOptions {
  // Simulated in turn with each mistake: the kernel that was named. Empty: it is not known, and the tiles of mistakes
  // that depend on them are searched on a few rows (diagnose_tiles.h).
  std::vector<SimulatedKernel> kernels;
  // Query-key pairs of one simulation. Larger problems are cut to rows around the first error, so mistakes that show
  // only in the whole (layouts, offsets) are then left out.
  int64_t most_pairs = int64_t{1} << 22;
  int64_t probe_pairs = int64_t{1} << 17;  // of one simulation in the search for tiles
  std::function<void(double)> progress;    // 0 to 1
};

// Requires evidence with errors; an empty diagnosis otherwise.
Diagnosis Diagnose(const Problem& problem, const Outputs& outputs, const Evidence& evidence,
                   const DiagnoseOptions& options = {});

// Kernels like unknown ones, with the tilings published for an H200; for fp8 those of fp16.
std::vector<SimulatedKernel> LikelyKernels(const data::Attention& attention);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_DIAGNOSE_DIAGNOSE_H_
