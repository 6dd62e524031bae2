// Mistakes that have a number in them, found by fitting the number: a wrong softmax scale, a shifted mask, a factor on
// O, another base of LSE. The outputs of a fit are the fp64 truth with that number in it.
#ifndef BITFLASH_VERIFY_DIAGNOSE_REFIT_H_
#define BITFLASH_VERIFY_DIAGNOSE_REFIT_H_

#include <string>
#include <vector>

#include "verify/cases/problem.h"
#include "verify/judge/truth.h"

namespace bitflash::verify {

struct Refit {
  std::string id;       // "scale", "mask-offset", "output-factor", "lse-line"
  std::string reading;  // "softmax scale 0.125 in place of 0.0883883 (1.414 times)"
  Outputs outputs;      // rounded to the types of the kernel's outputs
};

// The fits that changed anything, best number of each kind. `truth` is that of the problem.
std::vector<Refit> Refits(const Problem& problem, const Outputs& outputs, const Truth& truth);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_DIAGNOSE_REFIT_H_
