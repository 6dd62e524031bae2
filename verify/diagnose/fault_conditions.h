// When a mistake can show: questions about a kernel on a problem that the lists of faults ask.
#ifndef BITFLASH_VERIFY_DIAGNOSE_FAULT_CONDITIONS_H_
#define BITFLASH_VERIFY_DIAGNOSE_FAULT_CONDITIONS_H_

#include <algorithm>

#include "sim/runs.h"
#include "sim/splits.h"
#include "verify/diagnose/faults.h"

namespace bitflash::verify {

// One sequence as the kernel sees it: its own lengths, batch 1, the mask aligned to them.
data::Attention SequenceOf(const Problem& problem, int64_t sequence);

// True when `condition` is for a sequence that has rows and keys.
template <class Condition>
bool AnySequence(const Problem& problem, const Condition& condition) {
  for (int64_t b = 0; b < problem.attention.batch; ++b) {
    if (problem.queries(b) > 0 && problem.keys(b) > 0 && condition(SequenceOf(problem, b))) return true;
  }
  return false;
}

// True when some row sees some key: without, a kernel has nothing to do wrong.
bool SeesKeys(const Problem& problem);

// True when some row of the sequence sees other keys under `mask`.
bool ShowsOtherKeys(const data::Attention& sequence, const data::Mask& mask);

// The keys are in more than one part, which a second launch combines.
bool Splits(const SimulatedKernel& kernel, const Problem& problem);

// Some block visits more than one key tile, one after another.
bool SeveralTiles(const SimulatedKernel& kernel, const Problem& problem);

// m, l and O are carried from tile to tile.
inline bool IsOnline(const SimulatedKernel& kernel) { return !kernel.kernel->stores_scores; }

// fa1 leaves m and l in memory instead.
inline bool WritesLse(const SimulatedKernel& kernel) { return !kernel.kernel->keys_outside; }

// Some row sees no key at all.
bool HasEmptyRow(const Problem& problem);

// Some row sees no key of a tile that its block visits before any other.
bool FirstTileIsHidden(const SimulatedKernel& kernel, const Problem& problem);

// Some row sees no key of a part.
bool HasEmptyPart(const SimulatedKernel& kernel, const Problem& problem);

// The mask hides a key, before the end of the keys, inside a tile that is visited.
bool HidesInsideTile(const SimulatedKernel& kernel, const Problem& problem);

// A tile with fewer keys than Bc is visited.
bool VisitsPartialTile(const SimulatedKernel& kernel, const Problem& problem);

// An upper bound of |q . k| over all queries and keys, by the Cauchy-Schwarz inequality.
double LargestScore(const Problem& problem);

// Scores `sentinel` where -inf belongs: it shows in a row without a key, and where scores come near it.
bool SentinelShows(const SimulatedKernel& kernel, const Problem& problem, double sentinel);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_DIAGNOSE_FAULT_CONDITIONS_H_
