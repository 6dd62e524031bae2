// Mistakes that a simulated machine can make: one thing done wrong, everywhere in the kernel, whichever kernel it is.
// faulty_block.h makes them; verify/diagnose/faults.h names them for users and says where each has been seen.
#ifndef BITFLASH_SIM_MACHINE_FAULT_H_
#define BITFLASH_SIM_MACHINE_FAULT_H_

#include <cstdint>

namespace bitflash::sim {

// Letters as in recipe.h: S scores, m maximum, l row sum, r = exp(m_old - m_new), c = m or 0 for a row without a key.
enum class MachineFault : uint8_t {
  kNone,

  // Masks and the ends of tiles.
  kOnlyTailMasked,        // the end of the keys is masked, the mask itself is not
  kHiddenScoresZero,      // keys that the mask hides score 0 instead of -inf
  kTailScoresZero,        // columns past the last key score 0 instead of -inf
  kSentinel1e4,           // hidden columns score -1e4 instead of -inf
  kSentinel5e4,           // likewise -5e4
  kHiddenTileNan,         // -inf minus -inf for a row that has seen no key yet
  kTailValuesNotCleared,  // rows of V past the last key hold NaN
  kPartialTileSkipped,    // a last tile with fewer keys than the others is not visited
  kLastTileSkipped,       // the block's tile of the highest keys is not visited
  kFirstTileSkipped,      // the block's tile of the lowest keys is not visited

  // The online softmax.
  kOutputNotRescaled,          // O keeps its scale when m rises
  kSumNotRescaled,             // l keeps its scale when m rises
  kNothingRescaled,            // r is 1
  kTileMaximum,                // m is the tile's, not combined with that of the tiles before
  kRawMaximum,                 // p = exp(scale S - m): the maximum is not scaled
  kConstantMaximum,            // 10 in place of the maximum of the scaled scores
  kZeroMaximum,                // no maximum is subtracted
  kProbabilitiesE4m3,          // P is rounded to e4m3 on its way to the tensor core
  kScoresFp16,                 // S comes out of the tensor core as fp16
  kOutputFp16,                 // O is kept in fp16 between tiles
  kProbabilitiesTruncated,     // P is rounded toward zero
  kOutputTruncated,            // O is rounded toward zero
  kSumOfRoundedProbabilities,  // l adds up the rounded P
  kLaneLost,                   // one lane in four is missing from l
  kShuffleMissing,             // the last step of the row reduction is missing from l: half of the lanes
  kLog2eMissing,               // powers of 2 are taken of natural exponents
  kLog2eTwice,                 // powers of e are taken of base-2 exponents
  kNotDivided,                 // O is not divided by l

  // Stages of shared memory.
  kStaleKeys,    // from the second tile on, K of the tile before
  kStaleValues,  // likewise V

  // Parts of the keys and their combination.
  kPartDropped,          // the last part does not reach the result
  kPartTwice,            // the last part is counted twice
  kPartsUnweighted,      // every part has the same weight
  kSumsUnweighted,       // O is weighted, l is not
  kPartsWithoutMaximum,  // the weights are not relative to the common maximum
  kEmptyPartNan,         // a part without a visible key gives NaN

  // LSE.
  kLseWithoutMaximum,
  kLseWithoutLog,
  kLseUnscaled,  // the maximum is not multiplied by the scale
};

}  // namespace bitflash::sim

#endif  // BITFLASH_SIM_MACHINE_FAULT_H_
