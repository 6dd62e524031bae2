// Which rows are the second witness's: chunks of a problem that it computes at once, and of each what fp64 left.
#ifndef BITFLASH_VERIFY_JUDGE_WITNESS_PARTS_H_
#define BITFLASH_VERIFY_JUDGE_WITNESS_PARTS_H_

#include <vector>

#include "verify/judge/witness.h"

namespace bitflash::verify {

// All rows of all heads of the problem, in chunks of whole KV heads that bound the memory of a witness: long runs of
// rows, because each chunk converts K and V anew.
std::vector<Part> WitnessChunks(const Problem& problem);

// The rows of the chunk that none of `seen` holds, with all heads of the chunk. `seen` are parts of whole KV heads; a
// part of another sequence or of other heads says nothing of the chunk.
std::vector<Part> Unseen(const Part& chunk, const std::vector<Part>& seen);

// What a witness of the chunk says of a part of it with the same heads.
Witness Cut(const Witness& witness, const Part& chunk, const Part& part, int64_t columns);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_JUDGE_WITNESS_PARTS_H_
