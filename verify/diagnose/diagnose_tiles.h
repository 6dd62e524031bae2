// Tiles that nobody told: what some mistakes do depends on how a kernel cuts queries, keys and parts, so a diagnosis of
// an unknown kernel searches them on a few rows (diagnose_sample.h) before it believes or drops such a mistake.
#ifndef BITFLASH_VERIFY_DIAGNOSE_DIAGNOSE_TILES_H_
#define BITFLASH_VERIFY_DIAGNOSE_DIAGNOSE_TILES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "verify/diagnose/diagnose_sample.h"
#include "verify/diagnose/faults.h"

namespace bitflash::verify {

// What decides the numbers that a mistake makes, beyond roundings: keys of a tile and the order of tiles; the query
// rows of a tile too; columns past the last key too; keys of a part; of a part, and of the tiles in it; keys of a page.
enum class TileAxis : uint8_t { kNone, kKeys, kRows, kTails, kParts, kMaskedParts, kPages };
TileAxis AxisOf(const Fault& fault);

// A kernel that was tried on the probe.
struct Trial {
  SimulatedKernel kernel;
  Match match;
};

// The tiles along the axis with which the mistake comes nearest to the probe, best first, at most `most`; none where it
// applies to none. The same for any number of threads. Adds what was simulated to `tried`.
std::vector<Trial> SearchTiles(const Fault& fault, TileAxis axis, const Sample& probe, size_t most, int64_t& tried);

// The kernel without a mistake that gives most of the probe's bits: mistakes leave some elements as they are, LSE for
// example. None where hardly any are equal. Of equally good ones the first.
std::vector<Trial> SearchByBits(const Sample& probe, int64_t& tried);

// The kernel for a whole problem that cut the probe's keys into these parts: in parts of as many keys, and, where its
// sequences have other lengths, in as many parts.
std::vector<SimulatedKernel> OnWholeProblem(const SimulatedKernel& kernel, const Sample& probe, const Problem& whole);

// "tiles of 64 or 128 keys": what the best trials, equally good ones, have along the mistake's axis.
std::string TilesText(TileAxis axis, const std::vector<Trial>& trials);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_DIAGNOSE_DIAGNOSE_TILES_H_
