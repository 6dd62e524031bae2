// Where the errors of a kernel sit, in words. ErrorPlaces (evidence.h) is the same as numbers.
#ifndef BITFLASH_VERIFY_DIAGNOSE_LOCALITY_H_
#define BITFLASH_VERIFY_DIAGNOSE_LOCALITY_H_

#include <string>
#include <vector>

#include "data/attention.h"
#include "verify/judge/evidence.h"

namespace bitflash::verify {

struct Locality {
  // Plain statements, the most telling first: "every row from 128 on", "heads 8 to 31 of 32, in every sequence", "only
  // the last row of each 64", "columns 64 to 127 only". Empty without errors.
  std::vector<std::string> statements;
};

Locality Locate(const data::Attention& attention, const Evidence& evidence);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_DIAGNOSE_LOCALITY_H_
